"""What the agent's threads wake for: as seldom as their work allows, and never too late."""

import time
from pathlib import Path

from agent.config import CanSettings, GpsSettings
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox
from agent.outbox import Kind
from agent.sources.can.signal_map import SignalMap, references
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
