"""What the agent's threads wake for: as seldom as their work allows, and never too late."""

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from agent.config import CanSettings, GpsSettings
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox
from agent.outbox import Kind
from agent.publisher import OutboxWriter
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.source import AHEAD_S, GATHER_S, LONGEST_GATHER_S, until_sample_s
from agent.sources.dbc.compile import compile_in_process
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.session import GpsdSession
from agent.sources.gpsd.source import GpsdSource
from tests.fakes.can_frames import frame
from tests.fakes.gpsd_script import ScriptedGpsd
from tests.fakes.outbox_bench import Bench

DEVICE = "/dev/ttyAMA0"
DBC = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Pack: 8 ECU
 SG_ Percent : 0|8@1+ (0.5,0) [0|100] "%" ECU
"""


# --- frames gather until shortly before the next sample ----------------------------


@pytest.mark.parametrize("interval_s", [0.2, 0.25])
def test_in_a_trip_frames_are_taken_once_a_sample_and_shortly_before_it(interval_s):
    now_s, taken_s = 100.07, []
    for _ in range(50):
        sampled_s = now_s - (now_s - 100.0) % interval_s
        now_s += until_sample_s(now_s, sampled_s, interval_s) + 0.001
        taken_s.append(now_s)
    settled_s = taken_s[5:]
    gaps_s = [later - earlier for earlier, later in pairwise(settled_s)]
    assert all(gap_s == pytest.approx(interval_s, abs=0.03) for gap_s in gaps_s)
    ahead_s = [interval_s - (at_s - 100.0) % interval_s for at_s in settled_s]
    assert all(0 < one_s <= 2 * AHEAD_S for one_s in ahead_s)


def test_where_samples_are_rare_frames_gather_no_longer_than_the_longest():
    for now_s in (100.0, 103.3, 109.9, 250.0):
        assert until_sample_s(now_s, 100.0, 10.0) <= LONGEST_GATHER_S


def test_where_samples_stay_away_or_are_as_fast_as_gathering_it_never_waits_for_nothing():
    assert until_sample_s(100.0, None, 0.2) == GATHER_S
    assert until_sample_s(100.0, 99.9, 0.05) == GATHER_S
    assert AHEAD_S <= until_sample_s(100.0, 20.0, 0.2) <= LONGEST_GATHER_S


# --- the outbox's writer -----------------------------------------------------------


class Writer:
    """The writer's rounds on an outbox, one by one; what each waited for."""

    def __init__(self, folder):
        self.bench = Bench(folder)
        self.waits = []
        self.thread = OutboxWriter(self.bench.outbox, self.bench.clock, lambda: None)
        self.thread._stopping = self.waiter("nap")
        self.flush_event = self.bench.outbox.needs_flush
        self.flush_event.wait = lambda timeout_s: self.pause("idle", timeout_s)

    def waiter(self, name):
        event = threading.Event()
        event.wait = lambda timeout_s: self.pause(name, timeout_s)
        return event

    def pause(self, name, timeout_s):
        self.waits.append((name, pytest.approx(timeout_s)))

    def round(self):
        self.thread._round()
        return self.waits[-1]


def test_the_writer_naps_on_while_samples_come_and_are_acknowledged_at_once(tmp_path):
    writer = Writer(tmp_path)
    outbox = writer.bench.outbox
    assert writer.round() == ("idle", 5.0)
    for sequence in range(1, 6):
        writer.bench.put(sequence)
        if sequence > 1:
            outbox.acknowledge(outbox.claim_live(Kind.SAMPLE))
        assert writer.round() == ("nap", 0.4)
        writer.bench.clock.advance(0.4)
        outbox.acknowledge(outbox.claim_live(Kind.SAMPLE))
    assert writer.round() == ("idle", 5.0), "nothing came during the nap"
    assert writer.bench.on_disk() == []


def test_the_writer_s_nap_never_makes_a_flush_late(tmp_path):
    writer = Writer(tmp_path)
    outbox = writer.bench.outbox
    writer.bench.put(1)
    writer.round()
    outbox.acknowledge(outbox.claim_live(Kind.SAMPLE))
    writer.bench.put(2)
    outbox.acknowledge(outbox.claim_live(Kind.SAMPLE))
    assert writer.round() == ("nap", 0.4)
    writer.bench.put(3)  # just when the nap begins
    slept_s = 0.0
    while not writer.bench.on_disk():
        name, step_s = writer.waits[-1]
        assert name == "nap"
        slept_s += step_s.expected
        writer.bench.clock.advance(step_s.expected)
        writer.round()
    assert slept_s <= 0.8 + 0.001, "0.2 s of the flush interval are left for the commit"


# --- the publisher -----------------------------------------------------------------


def test_an_outbox_offers_what_may_be_claimed_and_nothing_else(tmp_path):
    bench = Bench(tmp_path)
    assert not bench.outbox.offers()
    bench.put(1)
    assert bench.outbox.offers()
    claimed = bench.outbox.claim_live(Kind.SAMPLE)
    assert not bench.outbox.offers(), "in flight"
    bench.outbox.give_back(claimed)
    bench.flush()
    assert bench.outbox.offers(), "on disk"
    (row,) = bench.backlog()
    assert not bench.outbox.offers()
    bench.outbox.acknowledge([row])
    assert not bench.outbox.offers(), "settled, though its row is still there"
    bench.put(2, kind=Kind.EVENT)
    assert bench.outbox.offers()


# --- gpsd --------------------------------------------------------------------------


def test_the_pieces_of_an_epoch_are_not_each_a_reason_to_look_at_the_receivers(monkeypatch):
    looks, look = [], GpsdSession.look

    def counted(session, now_s):
        looks.append(now_s)
        return look(session, now_s)

    monkeypatch.setattr(GpsdSession, "look", counted)
    inbox = Inbox()
    with ScriptedGpsd(devices=[{"class": "DEVICE", "path": DEVICE}]) as gpsd:
        source = GpsdSource(
            GpsSettings(port=gpsd.port), inbox, SystemClock(), CycleMemory(Path("/nowhere"))
        )
        source.start()
        try:
            gpsd.wait_for_client()
            fixes, deadline = 0, time.monotonic() + 30
            for number in range(40):
                gpsd.send(
                    {"class": "TPV", "device": DEVICE, "mode": 3, "lat": 50.0, "lon": 8.0,
                     "time": f"2026-03-01T12:00:{number:02d}.000Z"}
                )  # fmt: skip
                while not isinstance(inbox.get(0.2), FixReceived):
                    assert time.monotonic() < deadline
                fixes += 1
            lasted_s = looks[-1] - looks[0]
        finally:
            source.stop()
    assert fixes == 40, "none is held back"
    # the first are for what gpsd told of its devices, and for the first fix
    assert len(looks) <= 4 + lasted_s / 0.5


# --- CAN signals -------------------------------------------------------------------


def test_a_payload_that_stays_the_same_is_believed_only_as_long_as_it_comes(tmp_path):
    dbc = tmp_path / "pack.dbc"
    dbc.write_text(DBC)
    config = CanSettings.model_validate(
        {"dbc": [dbc], "signals": {"battery.percent": "Percent"}, "stale_after_s": 2.0}
    )
    signals = SignalMap(config, compile_in_process(config.dbc, references(config)))

    def comes(first_byte, at_s):
        signals.take([frame(256, [first_byte] + [0] * 7)], at_s)

    comes(120, 10.0)
    assert signals.read(10.5) == {"battery.percent": 60.0}
    comes(120, 11.0)
    assert signals.read(12.5) == {"battery.percent": 60.0}
    assert signals.read(13.5) == {}, "stale"
    comes(120, 20.0)
    assert signals.read(20.0) == {"battery.percent": 60.0}
    comes(100, 20.1)
    assert signals.read(20.2) == {"battery.percent": 50.0}
