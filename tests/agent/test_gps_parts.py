"""The parts of the gpsd source that have no socket: choice, epochs, faults, accuracy."""

import json
import logging
from pathlib import Path

import pytest

from agent.config import GpsSettings
from agent.inputs import Inbox
from agent.sources.gps import accuracy
from agent.sources.gps.choice import ReceiverChoice
from agent.sources.gps.faults import Cause, GpsFaults, GpsLostError
from agent.sources.gps.own_cycle import CYCLE_FILE, CycleMemory
from agent.sources.gpsd.protocol import fix_from_tpv, sky_of
from agent.sources.gpsd.receiver import Receiver
from agent.sources.gpsd.session import GpsdSession
from contract import FixMode

FIRST, SECOND = "/dev/ttyAMA0", "/dev/ttyACM0"


def choice_of(*preferred):
    return ReceiverChoice(preferred, fall_back_after_s=10.0, return_after_s=30.0, now_s=0.0)


def feed(choice, path, start_s, end_s):
    """One fix a second."""
    for now_s in range(start_s, end_s):
        choice.had_fix(path, float(now_s))
        choice.choose(float(now_s))


def test_without_a_preference_the_first_receiver_is_kept_while_its_fixes_come():
    choice = choice_of()
    feed(choice, SECOND, 0, 1)
    feed(choice, FIRST, 1, 8)
    assert choice.active == SECOND
    feed(choice, FIRST, 8, 15)
    assert choice.active == FIRST
    assert choice.missed is None


def test_at_the_start_the_preferred_receiver_has_a_moment_to_find_its_fix():
    choice = choice_of(FIRST, SECOND)
    feed(choice, SECOND, 0, 9)
    assert choice.active is None
    choice.had_fix(FIRST, 9.0)
    choice.choose(9.0)
    assert choice.active == FIRST


def test_the_next_receiver_takes_over_and_the_preferred_one_returns_when_it_is_steady():
    choice = choice_of(FIRST, SECOND)
    feed(choice, FIRST, 0, 5)
    feed(choice, SECOND, 5, 15)
    assert choice.active == FIRST, "its last fix is not old enough yet"
    feed(choice, SECOND, 15, 20)
    assert (choice.active, choice.missed) == (SECOND, FIRST)
    for now_s in range(20, 50):
        feed(choice, SECOND, now_s, now_s + 1)
        feed(choice, FIRST, now_s, now_s + 1)
        assert choice.active == SECOND
    feed(choice, FIRST, 50, 51)
    assert (choice.active, choice.missed) == (FIRST, None)


def test_a_preferred_receiver_with_gaps_does_not_return():
    choice = choice_of(FIRST, SECOND)
    feed(choice, FIRST, 0, 1)
    for now_s in range(1, 200):
        feed(choice, SECOND, now_s, now_s + 1)
        if now_s > 20 and now_s % 12 == 0:
            choice.had_fix(FIRST, float(now_s))
    assert choice.active == SECOND


def test_an_unplugged_receiver_is_replaced_at_once():
    choice = choice_of(FIRST, SECOND)
    feed(choice, FIRST, 0, 20)
    choice.had_fix(SECOND, 19.5)
    choice.gone(FIRST)
    assert choice.choose(19.6)
    assert choice.active == SECOND


def test_a_receiver_that_the_config_does_not_name_is_never_used():
    choice = choice_of(FIRST)
    feed(choice, SECOND, 0, 60)
    assert choice.active is None


def tpv(second, **fields):
    time = f"2026-03-01T12:00:{second:02d}.000Z"
    report = {"class": "TPV", "device": FIRST, "mode": 3, "lat": 50.0, "lon": 8.0, "time": time}
    return {key: value for key, value in (report | fields).items() if value is not None}


def test_a_repeated_fix_is_not_new_and_keeps_its_time_of_arrival():
    receiver = Receiver(FIRST, {})
    first = receiver.take_tpv(tpv(5), 100.0)
    assert first.is_new
    assert receiver.take_tpv(tpv(5), 101.0) is None
    completed = receiver.take_tpv(tpv(5, speed=1.0), 102.0)
    assert (completed.is_new, completed.fix.received_s) == (False, 100.0)


def test_a_position_without_a_time_is_incomplete_from_a_receiver_that_tells_the_time():
    receiver = Receiver(FIRST, {})
    assert receiver.take_tpv(tpv(5, time=None), 1.0).fix.time is None
    assert receiver.take_tpv(tpv(5), 2.0).is_new
    assert receiver.take_tpv(tpv(6, time=None), 3.0) is None


def test_the_sky_tells_satellites_and_dilution_while_it_is_fresh():
    receiver = Receiver(FIRST, {})
    satellites = [{"PRN": 1, "used": True}, {"PRN": 2, "used": False}, {"PRN": 3, "used": True}]
    receiver.take_sky({"class": "SKY", "hdop": 1.25, "satellites": satellites}, 10.0)
    fix = receiver.take_tpv(tpv(5), 11.0).fix
    assert (fix.satellites, fix.hdop, fix.mode) == (2, 1.25, FixMode.FIX_3D)
    later = receiver.take_tpv(tpv(15, mode=2), 21.0).fix
    assert (later.satellites, later.hdop, later.mode) == (None, None, FixMode.FIX_2D)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"uSat": 7}, (7, None)),
        ({"hdop": 99.99}, None),
        ({"hdop": "1", "satellites": "x"}, None),
        ({"satellites": [None, {"used": 1}]}, (0, None)),
        ({"uSat": 1e300, "hdop": 0.8}, (None, 0.8)),
    ],
)
def test_a_sky_report_may_hold_anything(report, expected):
    sky = sky_of({"class": "SKY"} | report, 0.0)
    assert expected == (None if sky is None else (sky.satellites, sky.hdop))


def test_accuracy_is_a_radius_of_95_percent_whatever_the_receiver_says():
    assert fix_from_tpv(tpv(1, eph=5.2), 0.0).accuracy_m == 5.2
    assert fix_from_tpv(tpv(1, epx=3.0, epy=4.0), 0.0).accuracy_m == 5.0
    assert fix_from_tpv(tpv(1, hAcc=2.0, eph=9.0), 0.0).accuracy_m == pytest.approx(3.243, abs=1e-3)
    of_ublox = fix_from_tpv(tpv(1, eph=2.0), 0.0, "u-blox")
    assert of_ublox.accuracy_m == pytest.approx(3.243, abs=1e-3)
    assert fix_from_tpv(tpv(1), 0.0).accuracy_m is None


def test_the_factors_of_accuracy_hold_95_percent_of_random_positions():
    import random  # noqa: PLC0415  only this test draws

    chance = random.Random(7)
    inside = {"sigmas": 0, "radius_68": 0}
    for _ in range(20_000):
        distance_m = (chance.gauss(0, 3) ** 2 + chance.gauss(0, 3) ** 2) ** 0.5
        inside["sigmas"] += distance_m <= accuracy.from_sigmas(3, 3)
        # the radius that holds 68 % of a circular normal distribution of sigma 3
        inside["radius_68"] += distance_m <= accuracy.from_radius_68(3 * 1.5096)
    assert inside["sigmas"] / 20_000 == pytest.approx(0.98, abs=0.01)
    assert inside["radius_68"] / 20_000 == pytest.approx(0.95, abs=0.01)


def test_a_dilution_that_means_unknown_gives_no_accuracy():
    assert accuracy.from_hdop(99.99) is None
    assert accuracy.from_hdop(1.0) == 19.0
    assert accuracy.from_hdop(1.0, gga_quality=2) == 4.75


def faults_with(caplog, **settings):
    caplog.set_level(logging.INFO)
    inbox = Inbox()
    log = logging.getLogger("agent.sources.gpsd.source")
    return GpsFaults(GpsSettings(**settings), inbox, log, "GPS", 0.0), inbox


def told(inbox):
    items = []
    while (item := inbox.get(0)) is not None:
        items.append((item.source, item.available, item.cause))
    return items


def test_a_receiver_that_has_had_no_fix_for_long_is_a_fault_once(caplog):
    faults, inbox = faults_with(caplog, no_fix_after_s=60)
    for now_s in range(200):
        faults.look(float(now_s), repeats=False, in_view=0)
    assert told(inbox) == [("gps", False, "no_fix")]
    faults.found(200.0)
    faults.found(201.0)
    assert told(inbox) == [("gps", True, "")]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(("in_view", "told_of"), [(0, "no"), (7, "7")])
def test_a_missing_fix_is_told_with_the_satellites_in_view(caplog, in_view, told_of):
    faults, inbox = faults_with(caplog)
    faults.look(300.0, repeats=False, in_view=in_view)
    reason = f"the receiver has had no fix for 300 s, it tells of {told_of} satellites in view"
    assert inbox.get(0).reason == reason


def test_a_fix_that_is_only_repeated_is_a_fault_sooner(caplog):
    faults, inbox = faults_with(caplog)
    faults.found(10.0)
    faults.look(20.0, repeats=True, in_view=0)
    assert told(inbox) == []
    faults.look(25.0, repeats=True, in_view=0)
    assert told(inbox) == [("gps", False, "stale")]


def test_a_second_cause_during_one_loss_is_no_second_event(caplog):
    faults, inbox = faults_with(caplog)
    faults.lost(Cause.UNREACHABLE, "gpsd closed the connection")
    faults.lost(Cause.NO_RECEIVER, "gpsd has no receiver")
    assert told(inbox) == [("gps", False, "unreachable")]
    assert faults.cause is Cause.NO_RECEIVER


def session_of(*, is_there=lambda path: True, **settings):
    settings = GpsSettings(**settings)
    choice = ReceiverChoice(
        settings.device,
        fall_back_after_s=settings.fall_back_after_s,
        return_after_s=settings.return_after_s,
        now_s=0.0,
    )
    return GpsdSession(settings, choice, {}, is_there, 0.0, memory=CycleMemory(Path("/nowhere")))


def say(session, now_s, *reports):
    lines = b"".join(
        report if isinstance(report, bytes) else json.dumps(report).encode() + b"\r\n"
        for report in reports
    )
    return list(session.feed(lines, now_s))


def devices(*paths, **fields):
    return {"class": "DEVICES", "devices": [{"path": path, **fields} for path in paths]}


def test_gpsd_is_watched_anew_only_when_an_unplugged_receiver_is_back():
    there = {FIRST}
    session = session_of(is_there=there.__contains__)
    say(session, 0.0, devices(FIRST), tpv(1))
    assert session.look(1.0) is None
    there.clear()
    assert session.look(2.0) == f"{FIRST} was unplugged"
    assert session.look(60.0) == f"{FIRST} was unplugged"
    assert list(session.commands(None)) == []
    there.add(FIRST)
    assert session.look(61.0) is None
    assert [command.startswith(b"?WATCH=") for command in session.commands(None)] == [True]
    assert list(session.commands(None)) == []


def test_a_path_that_this_process_never_saw_says_nothing_of_the_receiver():
    session = session_of(is_there=lambda path: False)
    assert say(session, 0.0, devices(FIRST), tpv(1))
    assert session.look(1.0) is None


def test_a_device_that_gpsd_forgot_is_no_receiver_any_more():
    session = session_of()
    say(session, 0.0, devices(FIRST), tpv(1), devices())
    with pytest.raises(GpsLostError, match="gpsd has no receiver") as raised:
        session.look(20.0)
    assert raised.value.cause is Cause.NO_RECEIVER


def test_the_antenna_is_read_from_the_sentence_that_tells_of_it():
    session = session_of()
    say(session, 0.0, devices(FIRST), b"$GPTXT,01,01,02,ANTSTATUS=SHORT*6D\r\n")
    assert session.antenna == "SHORT"
    say(session, 1.0, b"$GPTXT,01,01,01,ANTENNA OK*35\r\n", b"$GPGGA,ANTSTATUS=OPEN\r\n")
    assert session.antenna == "OK"
    say(session, 2.0, devices(FIRST, SECOND), b"$GPTXT,01,01,02,ANTSTATUS=OPEN*2B\r\n")
    assert session.antenna == "OK", "of two receivers nobody knows which one said it"


def test_the_satellites_in_view_are_those_of_the_receiver_that_hears_most_now():
    session = session_of()
    say(session, 0.0, devices(FIRST, SECOND))
    assert session.in_view(0.0) == 0
    say(session, 0.0, {"class": "SKY", "device": FIRST, "nSat": 2, "uSat": 0})
    sky = {"class": "SKY", "device": SECOND, "satellites": [{"PRN": 1, "used": False}] * 4}
    say(session, 1.0, sky)
    assert session.in_view(2.0) == 4
    assert session.in_view(60.0) == 0, "gpsd is silent of satellites when there are none"


def test_a_receiver_that_a_trip_made_fast_gets_its_own_cycle_back_over_a_new_connection(tmp_path):
    first_cycles_s, memory = {}, CycleMemory(tmp_path)
    settings = GpsSettings()
    choice = ReceiverChoice((), fall_back_after_s=10.0, return_after_s=30.0, now_s=0.0)
    before = GpsdSession(settings, choice, first_cycles_s, lambda path: True, 0.0, memory=memory)
    say(before, 0.0, devices(FIRST, cycle=1.0, mincycle=0.1), tpv(1))
    assert [json.loads(one[8:-2])["cycle"] for one in before.commands(0.2)] == [0.2]
    after = GpsdSession(settings, choice, first_cycles_s, lambda path: True, 5.0, memory=memory)
    say(after, 5.0, devices(FIRST, cycle=0.2, mincycle=0.1), tpv(6))
    assert list(after.commands(0.2)) == []
    assert [json.loads(one[8:-2])["cycle"] for one in after.commands(None)] == [1.0]


@pytest.mark.parametrize(("told_s", "asked_s"), [(0.2, [1.0]), (1.0, [2.0, 1.0])])
def test_the_own_cycle_outlives_a_killed_agent_whatever_gpsd_tells_of_it(tmp_path, told_s, asked_s):
    """A gpsd that was started anew tells 1 s of any, and does nothing when asked for that."""
    settings = GpsSettings()

    def run(cycle_s):
        memory = CycleMemory(tmp_path)
        choice = ReceiverChoice((), fall_back_after_s=10.0, return_after_s=30.0, now_s=0.0)
        first_s = memory.recall_all()
        session = GpsdSession(settings, choice, first_s, lambda path: True, 0.0, memory=memory)
        say(session, 0.0, devices(FIRST, cycle=cycle_s, mincycle=0.1), tpv(1))
        return session

    def asked(session, wanted_s):
        return [json.loads(one[8:-2])["cycle"] for one in session.commands(wanted_s)]

    assert asked(run(1.0), 0.2) == [0.2]
    assert CycleMemory(tmp_path).recall(FIRST) == 1.0
    after = run(told_s)
    assert asked(after, None) == asked_s
    assert asked(after, None) == []
    assert CycleMemory(tmp_path).recall(FIRST) is None


def test_a_cycle_is_written_before_it_is_set_and_only_when_it_changes(tmp_path):
    memory = CycleMemory(tmp_path)
    file = tmp_path / CYCLE_FILE
    with memory.changing(FIRST, 1.0, 1.0):
        assert not file.exists()
    assert not file.exists()
    with memory.changing(FIRST, 1.0, 0.2):
        assert CycleMemory(tmp_path).recall(FIRST) == 1.0
    written_ns = file.stat().st_mtime_ns, file.stat().st_ino
    with memory.changing(FIRST, 1.0, 0.5):
        pass
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written_ns
    with pytest.raises(OSError, match="gone"), memory.changing(FIRST, 1.0, 1.0):
        raise OSError("gone")
    assert CycleMemory(tmp_path).recall(FIRST) == 1.0, "it was not given back"


@pytest.mark.parametrize("content", ["", "[1]", '{"/dev/ttyS0": "fast"}', '{"/dev/ttyS0": -1}'])
def test_a_broken_memory_of_cycles_is_as_none(tmp_path, content):
    (tmp_path / CYCLE_FILE).write_text(content)
    assert CycleMemory(tmp_path).recall_all() == {}
