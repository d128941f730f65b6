"""The gpsd client: one fix an epoch, never a mixture; and all the ways gpsd goes away."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import GpsSettings
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox, SourceChanged
from agent.sources.backoff import Backoff
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.protocol import fix_from_tpv, parse_line
from agent.sources.gpsd.receiver import Receiver
from agent.sources.gpsd.source import GpsdSource
from tests.conftest import program
from tests.fakes import nmea
from tests.fakes.gpsd_script import RealGpsd, ScriptedGpsd

DEVICE = "/dev/ttyAMA0"


def tpv(second, mode=3, device=DEVICE, **fields):
    report = {"class": "TPV", "device": device, "mode": mode, "lat": 50.0, "lon": 8.0}
    if second is not None:
        report["time"] = f"2026-03-01T12:00:{second:02d}.000Z"
    return report | fields


def source_for(port, **settings):
    inbox = Inbox()
    config = GpsSettings(port=port, **settings)
    return GpsdSource(config, inbox, SystemClock(), CycleMemory(Path("/nowhere"))), inbox


def take(inbox, kind, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        item = inbox.get(0.2)
        if isinstance(item, kind):
            return item
    pytest.fail(f"no {kind.__name__} came")


def test_a_tpv_becomes_a_fix_in_the_units_of_the_contract():
    fix = fix_from_tpv(tpv(5, speed=10.0, track=245.0, altMSL=112.5, eph=5.2), 7.0)
    assert (fix.lat, fix.lon, fix.altitude_m, fix.accuracy_m) == (50.0, 8.0, 112.5, 5.2)
    assert (fix.speed_kmh, fix.heading, fix.received_s) == (36.0, 245.0, 7.0)
    assert fix.time == datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "report",
    [
        tpv(5, mode=0),
        tpv(5, mode=1),
        tpv(5, lat=91.0),
        tpv(5, lon=float("nan")),
        tpv(5, lat="50"),
        tpv(5, mode="3"),
        {"class": "TPV", "mode": 3},
    ],
)
def test_a_tpv_without_a_position_is_no_fix(report):
    assert fix_from_tpv(report, 0.0) is None


def test_a_2d_fix_has_no_altitude_and_older_gpsd_s_errors_are_combined():
    fix = fix_from_tpv(tpv(5, mode=2, alt=100.0, epx=3.0, epy=4.0), 0.0)
    assert (fix.altitude_m, fix.accuracy_m) == (None, 5.0)
    assert fix_from_tpv(tpv(5, alt=100.0), 0.0).altitude_m == 100.0


def test_the_reports_of_one_epoch_become_one_fix():
    receiver = Receiver(DEVICE, {})
    first = receiver.take_tpv(tpv(5, speed=1.0), 10.0)
    rest = receiver.take_tpv(tpv(5, altMSL=80.0, lat=50.1), 10.2)
    assert (first.is_new, rest.is_new) == (True, False)
    assert rest.fix.speed_kmh == 3.6
    assert rest.fix.altitude_m == 80.0
    assert rest.fix.lat == 50.1
    assert rest.fix.received_s == 10.0
    assert receiver.take_tpv(tpv(5, altMSL=80.0, lat=50.1), 10.4) is None


def test_the_next_epoch_takes_nothing_from_the_one_before():
    receiver = Receiver(DEVICE, {})
    receiver.take_tpv(tpv(5, speed=1.0, altMSL=80.0, track=10.0), 10.0)
    following = receiver.take_tpv(tpv(6), 11.0)
    assert following.is_new
    assert following.fix.speed_kmh is following.fix.altitude_m is following.fix.heading is None


def test_reports_without_a_time_are_never_merged():
    receiver = Receiver(DEVICE, {})
    receiver.take_tpv(tpv(None, speed=1.0), 10.0)
    following = receiver.take_tpv(tpv(None), 11.0)
    assert following.is_new
    assert following.fix.speed_kmh is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.dictionaries(
                st.sampled_from(["speed", "altMSL", "track", "eph"]), st.integers(0, 3).map(float)
            ),
        ),
        max_size=30,
    )
)
def test_no_fix_ever_holds_a_value_of_another_epoch(reports):
    receiver = Receiver(DEVICE, {})
    epoch, seen = None, set()
    for index, (second, fields) in enumerate(reports):
        # each value carries its epoch: 10 times the count of epochs, plus what was drawn
        if second != epoch:
            epoch, seen = second, set()
        values = {key: value + 10 * (index + 1) for key, value in fields.items()}
        seen |= set(values.values())
        received = receiver.take_tpv(tpv(second, **values), float(index))
        if received is not None:
            fix = received.fix
            speed = None if fix.speed_kmh is None else round(fix.speed_kmh / 3.6, 3)
            held = {speed, fix.altitude_m, fix.heading, fix.accuracy_m} - {None}
            assert held <= seen


@given(st.binary(max_size=200))
def test_any_line_is_a_report_or_nothing(line):
    report = parse_line(line)
    assert report is None or isinstance(report["class"], str)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_in_a_tpv_is_survived(value):
    for key in ("mode", "lat", "lon", "time", "speed", "altMSL", "eph", "track", "device"):
        Receiver(DEVICE, {}).take_tpv(tpv(5) | {key: value}, 0.0)


def test_fixes_stream_in_and_a_split_or_broken_line_costs_nothing_else():
    with ScriptedGpsd(devices=[{"path": DEVICE}]) as server:
        source, inbox = source_for(server.port)
        source.start()
        server.wait_for_client()
        line = json.dumps(tpv(1)).encode()
        server.send(b'{"class":"SKY","satellites":[]}\r\n{broken\r\n[1,2]\r\n\r\n', line[:20])
        time.sleep(0.05)
        server.send(line[20:] + b"\r\n")
        assert take(inbox, FixReceived).fix.time.second == 1
        source.stop()
        source.stop()
    assert json.loads(server.received[0].removeprefix("?WATCH=").rstrip(";\r")) == {
        "enable": True,
        "json": True,
        "nmea": True,
    }


def test_gpsd_gone_and_back_is_told_once_each():
    with ScriptedGpsd() as server:
        source, inbox = source_for(server.port)
        source.start()
        server.wait_for_client()
        server.send(tpv(1))
        take(inbox, FixReceived)
        server.drop_client()
        lost = take(inbox, SourceChanged)
        assert (lost.source, lost.available) == ("gps", False)
        server.wait_for_client()
        server.send(tpv(2))
        assert take(inbox, SourceChanged).available
        assert take(inbox, FixReceived).fix.time.second == 2
        source.stop()
    assert server.connections >= 2


def test_gpsd_that_is_not_there_yet_is_waited_for(free_port):
    port = free_port()
    source, inbox = source_for(port)
    source.start()
    assert "cannot connect" in take(inbox, SourceChanged).reason
    with ScriptedGpsd(port) as server:
        server.wait_for_client()
        server.send(tpv(1))
        assert take(inbox, SourceChanged).available
        source.stop()


def test_a_receiver_that_falls_silent_is_told():
    with ScriptedGpsd(devices=[{"path": DEVICE}]) as server:
        source, inbox = source_for(server.port, silent_after_s=1.0)
        source.start()
        server.wait_for_client()
        server.send(tpv(1))
        assert "no word of the receiver" in take(inbox, SourceChanged).reason
        source.stop()


def test_a_wrong_device_is_named_with_those_that_gpsd_has():
    with ScriptedGpsd(devices=[{"path": DEVICE}]) as server:
        source, inbox = source_for(server.port, device="/dev/ttyS9", silent_after_s=1.0)
        source.start()
        server.wait_for_client()
        server.send(tpv(1))
        reason = take(inbox, SourceChanged).reason
        assert reason == f"gpsd has no receiver /dev/ttyS9 (it has: {DEVICE})"
        source.stop()


def test_something_that_is_not_gpsd_is_not_listened_to_for_ever():
    with ScriptedGpsd() as server:
        source, inbox = source_for(server.port)
        source.start()
        server.wait_for_client()
        server.send(b"x" * 70_000)
        assert "not gpsd" in take(inbox, SourceChanged).reason
        source.stop()


def devices_asked(server):
    asked = [line for line in server.received if line.startswith("?DEVICE=")]
    return [json.loads(line.removeprefix("?DEVICE=").rstrip(";\r")) for line in asked]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def test_the_fast_cycle_is_asked_for_and_let_go():
    with ScriptedGpsd(devices=[{"path": DEVICE, "cycle": 1.0, "mincycle": 0.1}]) as server:
        source, inbox = source_for(server.port)
        source.start()
        server.wait_for_client()
        server.send(tpv(1))
        take(inbox, FixReceived)
        source.request_cycle(0.2)
        wait_until(lambda: devices_asked(server) == [{"path": DEVICE, "cycle": 0.2}])
        source.request_cycle(0.2)
        source.request_cycle(None)
        wait_until(lambda: len(devices_asked(server)) == 2)
        assert devices_asked(server)[1] == {"path": DEVICE, "cycle": 1.0}
        source.request_cycle(0.2)
        wait_until(lambda: len(devices_asked(server)) == 3)
        source.stop()
        wait_until(lambda: len(devices_asked(server)) == 4)
        assert devices_asked(server)[3] == {"path": DEVICE, "cycle": 1.0}


def test_a_receiver_with_a_fixed_cycle_is_left_alone():
    with ScriptedGpsd(devices=[{"path": DEVICE, "cycle": 1.0}]) as server:
        source, inbox = source_for(server.port)
        source.request_cycle(0.2)
        source.start()
        server.wait_for_client()
        server.send(tpv(1))
        take(inbox, FixReceived)
        source.stop()
    assert devices_asked(server) == []


def test_back_off_grows_to_its_limit_and_starts_over_after_a_stable_time():
    backoff = Backoff()
    waits = [backoff.after_failure(float(now), None, 1.0) for now in range(8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert backoff.after_failure(100.0, 95.0, 0.0) == 7.5
    assert backoff.after_failure(200.0, 100.0, 1.0) == 0.5


@pytest.mark.needs("gpsd")
def test_the_real_gpsd_fed_by_a_pty_gives_the_drive_and_survives_its_restart(free_port):
    with RealGpsd(program("gpsd"), free_port()) as gpsd:
        source, inbox = source_for(gpsd.port)
        source.start()
        feeding = threading.Event()

        def feed():
            while not feeding.is_set():
                for sentences in nmea.drive(60).split(b"$GPRMC")[1:]:
                    if feeding.wait(0.1):
                        return
                    gpsd.feed(b"$GPRMC" + sentences)

        thread = threading.Thread(target=feed, name="feed")
        thread.start()
        try:
            fixes = [take(inbox, FixReceived, 20).fix for _ in range(12)]
            times = [fix.time for fix in fixes if fix.time is not None]
            assert len(set(times)) >= 4
            assert all(-90 <= fix.lat <= 90 and fix.device == gpsd.device for fix in fixes)
            assert any(fix.speed_kmh is not None for fix in fixes)
            steps = {later - earlier for earlier, later in pairwise(times)}
            assert timedelta(seconds=1) in steps
            gpsd.stop()
            assert not take(inbox, SourceChanged).available
            gpsd.start()
            assert take(inbox, SourceChanged, 20).available
            take(inbox, FixReceived, 20)
        finally:
            feeding.set()
            thread.join(5)
            source.stop()
