"""Position checks, schedule, watches and trips: the engine's pure parts."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.config import ThresholdSettings
from agent.engine.geo import distance_m
from agent.engine.odometer import Odometers
from agent.engine.positions import AGREEING_REJECTS, PositionCheck, Reject
from agent.engine.schedule import Schedule
from agent.engine.trips import TripKeeper
from agent.engine.watches import BatteryChange, BatteryWatch, FaultWatch
from agent.inputs import Fix
from agent.ports import TimeBase
from contract import TimeQuality

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fix(second, lat=50.0, lon=8.0, **more):
    return Fix(
        received_s=float(second),
        lat=lat,
        lon=lon,
        time=NOON + timedelta(seconds=second),
        accuracy_m=5.0,
        **more,
    )


def test_the_distance_of_one_minute_of_latitude_is_a_nautical_mile():
    assert distance_m(50, 8, 50 + 1 / 60, 8) == pytest.approx(1853, abs=1)
    assert distance_m(10, 179.999, 10, -179.999) == pytest.approx(219, abs=1)


def test_a_position_at_zero_is_rejected():
    check = PositionCheck(400, 1000)
    assert check.check(fix(0, lat=0.0, lon=0.0)) is Reject.ZERO_POSITION
    assert check.check(fix(1, lat=0.0, lon=9.0)) is None


def test_a_jump_is_rejected_and_the_next_good_position_is_believed():
    check = PositionCheck(400, 1000)
    assert check.check(fix(0)) is None
    assert check.check(fix(1, lat=50.01)) is Reject.IMPLIED_SPEED
    assert check.check(fix(2, lat=50.0002)) is None
    assert check.rejected == {"implied_speed": 1}


def test_a_jump_after_a_gap_is_believed_when_the_time_suffices():
    check = PositionCheck(400, 1000)
    assert check.check(fix(0)) is None
    assert check.check(fix(60, lat=50.01)) is None


def test_positions_that_agree_with_each_other_are_believed_in_the_end():
    check = PositionCheck(400, 1000)
    assert check.check(fix(0)) is None
    results = [check.check(fix(1 + index, lat=51.0 + index * 1e-4)) for index in range(4)]
    assert results[: AGREEING_REJECTS - 1] == [Reject.IMPLIED_SPEED] * (AGREEING_REJECTS - 1)
    assert results[AGREEING_REJECTS - 1 :] == [None, None]


def test_positions_that_jump_about_are_never_believed():
    check = PositionCheck(400, 1000)
    assert check.check(fix(0)) is None
    for index in range(1, 20):
        assert check.check(fix(index, lat=51.0 + (index % 2))) is Reject.IMPLIED_SPEED


def test_time_that_runs_backwards_is_rejected():
    check = PositionCheck(400, 1000)
    assert check.check(fix(10)) is None
    assert check.check(fix(9)) is Reject.TIME_BACKWARDS
    assert check.check(fix(11)) is None


def test_a_claimed_speed_above_the_limit_is_rejected():
    check = PositionCheck(400, 1000)
    assert check.check(fix(0, speed_kmh=401.0)) is Reject.REPORTED_SPEED


def test_the_schedule_keeps_its_phase_and_skips_what_passed():
    schedule = Schedule(1.0, 100.0)
    schedule.taken(100.3)
    assert schedule.due_s == 101.0
    schedule.taken(101.9)
    assert schedule.due_s == 102.0
    schedule.taken(500.5)
    assert schedule.due_s == 501.0


def test_a_shorter_interval_counts_from_the_last_sample():
    schedule = Schedule(60.0, 0.0)
    schedule.taken(0.0)
    schedule.change_interval(0.2, 30.0)
    assert schedule.due_s == 30.0
    schedule.change_interval(10.0, 30.0)
    assert schedule.due_s == pytest.approx(39.8)


def battery_changes(levels, *, charging=False, step_s=10.0):
    watch = BatteryWatch(ThresholdSettings())
    changes = {}
    for index, level in enumerate(levels):
        change = watch.observe(level, charging=charging, now_s=index * step_s)
        if change is not None:
            changes[index] = change
    return changes


def test_low_and_recovered_are_told_in_turn_each_after_its_dwell():
    levels = [14, 14, 16, 14, 14, 14, 12, 19, 14, 21, 14, 14, 21, 22, 40, 14, 14, 14]
    assert battery_changes(levels) == {
        1: BatteryChange.LOW,
        13: BatteryChange.RECOVERED,
        16: BatteryChange.LOW,
    }


def test_a_level_in_the_band_between_changes_nothing():
    assert battery_changes([14.9, 15.1, 19.9] * 20, step_s=5.0) == {}
    assert list(battery_changes([14, 14] + [19.9, 15.1] * 50)) == [1]


def test_a_charging_battery_is_not_low_and_an_unknown_one_is_neither():
    assert battery_changes([5] * 10, charging=True) == {}
    assert battery_changes([None, 5, None, 5, None]) == {}
    assert list(battery_changes([5, 5, None, None, 50, None, 50, 50])) == [1, 7]


def test_codes_are_raised_and_cleared_once_and_an_unknown_state_changes_nothing():
    watch = FaultWatch()
    assert watch.observe(("P0301", "P0420")) == (["P0301", "P0420"], [])
    assert watch.observe(("P0301", "P0420")) == ([], [])
    assert watch.observe(None) == ([], [])
    assert watch.observe(("P0420",)) == ([], ["P0301"])


def keeper(folder, boot="boot-1"):
    return TripKeeper(folder, boot_id=boot, resume_s=900)


GPS = TimeBase(NOON, TimeQuality.GPS)
UNSYNCED = TimeBase(datetime(1970, 1, 1, tzinfo=UTC), TimeQuality.UNSYNCED)
HOUR_S = 3600.0


def test_a_trip_goes_on_after_a_crash_in_the_same_boot(tmp_path):
    trip_id = keeper(tmp_path).begin(GPS, 0, Odometers())
    again = keeper(tmp_path)
    going_on, over = again.restore(GPS, 180)
    assert going_on.trip_id == again.trip_id == trip_id
    assert over is None


def test_a_trip_goes_on_after_a_power_cut(tmp_path):
    trip_id = keeper(tmp_path).begin(GPS, 0, Odometers())
    again = keeper(tmp_path, "boot-2")
    going_on, _ = again.restore(GPS, 2 * HOUR_S)
    assert going_on.trip_id == trip_id
    late, over = keeper(tmp_path, "boot-3").restore(GPS, 25 * HOUR_S)
    assert (late, over.trip_id) == (None, trip_id)


def test_a_trip_is_over_when_the_agent_was_stopped_for_long(tmp_path):
    first = keeper(tmp_path)
    trip_id = first.begin(GPS, 0, Odometers())
    first.stop(GPS, 3 * HOUR_S)
    going_on, _ = keeper(tmp_path, "boot-2").restore(GPS, 3 * HOUR_S + 600)
    assert going_on.trip_id == trip_id
    going_on, over = keeper(tmp_path, "boot-2").restore(GPS, 4 * HOUR_S)
    assert (going_on, over.trip_id) == (None, trip_id)
    assert keeper(tmp_path, "boot-2").restore(GPS, 4 * HOUR_S) == (None, None)


def test_without_trusted_time_the_boot_decides(tmp_path):
    first = keeper(tmp_path)
    trip_id = first.begin(UNSYNCED, 0, Odometers())
    first.stop(UNSYNCED, 0)
    same, _ = keeper(tmp_path).restore(UNSYNCED, 0)
    assert same.trip_id == trip_id
    other, over = keeper(tmp_path, "boot-2").restore(GPS, 0)
    assert (other, over.trip_id) == (None, trip_id)


def test_a_trip_is_not_longer_for_a_time_that_becomes_known_on_the_way(tmp_path):
    trips = keeper(tmp_path)
    trips.begin(UNSYNCED, 100.0, Odometers())
    assert trips.lasted_s(GPS, 160.0) == 60.0
    trips.stop(GPS, 160.0)
    again = keeper(tmp_path)
    going_on, _ = again.restore(GPS, 200.0)
    assert again.lasted_s(GPS, 220.0) == 120.0
    assert datetime.fromisoformat(going_on.started_at) == NOON + timedelta(seconds=100)


def test_a_trip_over_two_boots_is_as_long_as_trusted_time_says_or_of_no_known_length(tmp_path):
    keeper(tmp_path).begin(GPS, 100.0, Odometers())
    later = TimeBase(NOON + timedelta(hours=1), TimeQuality.NTP)
    second = keeper(tmp_path, "boot-2")
    second.restore(later, 10.0)
    assert second.lasted_s(UNSYNCED, 10.0) is None
    assert second.lasted_s(later, 10.0) == HOUR_S - 90


def test_an_ended_trip_leaves_no_file(tmp_path):
    trips = keeper(tmp_path)
    trips.begin(GPS, 0, Odometers())
    trips.end()
    trips.stop(GPS, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b'{"trip_id": "x"}',
        b"\xff",
        json.dumps(
            {
                "trip_id": "x",
                "started_at": "yesterday",
                "boot_id": "b",
                "trusted_time": True,
            }
        ).encode(),
    ],
)
def test_a_damaged_trip_file_is_no_trip(tmp_path, content):
    (tmp_path / "trip.json").write_bytes(content)
    assert keeper(tmp_path).restore(GPS, 0) == (None, None)


def test_a_folder_that_cannot_be_written_does_not_stop_a_trip(tmp_path):
    trips = keeper(tmp_path / "absent")
    assert trips.begin(GPS, 0, Odometers()) == trips.trip_id
    trips.stop(GPS, 0)
    assert trips.end() is not None
