"""Position checks, schedule, watches and trips: the engine's pure parts."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.config import ThresholdSettings
from agent.engine.positions import AGREEING_REJECTS, PositionCheck, Reject, distance_m
from agent.engine.schedule import Schedule
from agent.engine.trips import TripKeeper
from agent.engine.watches import BatteryWatch, BrakingWatch, FaultWatch
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
    check = PositionCheck(400)
    assert check.check(fix(0, lat=0.0, lon=0.0)) is Reject.ZERO_POSITION
    assert check.check(fix(1, lat=0.0, lon=9.0)) is None


def test_a_jump_is_rejected_and_the_next_good_position_is_believed():
    check = PositionCheck(400)
    assert check.check(fix(0)) is None
    assert check.check(fix(1, lat=50.01)) is Reject.IMPLIED_SPEED
    assert check.check(fix(2, lat=50.0002)) is None
    assert check.rejected == {"implied_speed": 1}


def test_a_jump_after_a_gap_is_believed_when_the_time_suffices():
    check = PositionCheck(400)
    assert check.check(fix(0)) is None
    assert check.check(fix(60, lat=50.01)) is None


def test_positions_that_agree_with_each_other_are_believed_in_the_end():
    check = PositionCheck(400)
    assert check.check(fix(0)) is None
    results = [check.check(fix(1 + index, lat=51.0 + index * 1e-4)) for index in range(4)]
    assert results[: AGREEING_REJECTS - 1] == [Reject.IMPLIED_SPEED] * (AGREEING_REJECTS - 1)
    assert results[AGREEING_REJECTS - 1 :] == [None, None]


def test_positions_that_jump_about_are_never_believed():
    check = PositionCheck(400)
    assert check.check(fix(0)) is None
    for index in range(1, 20):
        assert check.check(fix(index, lat=51.0 + (index % 2))) is Reject.IMPLIED_SPEED


def test_time_that_runs_backwards_is_rejected():
    check = PositionCheck(400)
    assert check.check(fix(10)) is None
    assert check.check(fix(9)) is Reject.TIME_BACKWARDS
    assert check.check(fix(11)) is None


def test_a_claimed_speed_above_the_limit_is_rejected():
    check = PositionCheck(400)
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


def test_a_low_battery_is_told_once_until_it_recovered():
    watch = BatteryWatch(ThresholdSettings())
    levels = [14, 14, 16, 14, 14, 14, 12, 19, 14, 21, 14, 14]
    told = [
        watch.observe(level, charging=False, now_s=index * 10.0)
        for index, level in enumerate(levels)
    ]
    assert [index for index, yes in enumerate(told) if yes] == [1, 11]


def test_a_charging_battery_is_not_low():
    watch = BatteryWatch(ThresholdSettings())
    assert not any(watch.observe(5, charging=True, now_s=now * 10.0) for now in range(10))
    assert not watch.observe(None, charging=None, now_s=200.0)


def test_codes_are_raised_and_cleared_once_and_an_unknown_state_changes_nothing():
    watch = FaultWatch()
    assert watch.observe(("P0301", "P0420")) == (["P0301", "P0420"], [])
    assert watch.observe(("P0301", "P0420")) == ([], [])
    assert watch.observe(None) == ([], [])
    assert watch.observe(("P0420",)) == ([], ["P0301"])


def test_harsh_braking_is_told_once_a_braking():
    watch = BrakingWatch(4.0)
    speeds = [50, 50, 50, 30, 10, 0, 0, 0, 0, 40, 40, 40, 20]
    told = [watch.observe(float(kmh), float(now)) for now, kmh in enumerate(speeds)]
    assert [index for index, fall in enumerate(told) if fall is not None] == [3, 12]
    assert told[3] == pytest.approx(20 / 3.6)


def test_one_noisy_measurement_in_a_fast_row_is_no_braking():
    watch = BrakingWatch(4.0)
    assert watch.observe(50.0, 0.0) is None
    assert watch.observe(47.0, 0.1) is None
    assert watch.observe(47.0, 0.1) is None
    assert watch.observe(50.0, 0.2) is None


def keeper(folder, boot="boot-1"):
    return TripKeeper(folder, boot_id=boot, resume_s=900)


GPS = TimeBase(NOON, TimeQuality.GPS)
UNSYNCED = TimeBase(datetime(1970, 1, 1, tzinfo=UTC), TimeQuality.UNSYNCED)
HOUR_S = 3600.0


def test_a_trip_goes_on_after_a_crash_in_the_same_boot(tmp_path):
    trip_id = keeper(tmp_path).begin(GPS, 0)
    again = keeper(tmp_path)
    going_on, over = again.restore(GPS, 180)
    assert going_on.trip_id == again.trip_id == trip_id
    assert over is None


def test_a_trip_goes_on_after_a_power_cut(tmp_path):
    trip_id = keeper(tmp_path).begin(GPS, 0)
    again = keeper(tmp_path, "boot-2")
    going_on, _ = again.restore(GPS, 2 * HOUR_S)
    assert going_on.trip_id == trip_id
    late, over = keeper(tmp_path, "boot-3").restore(GPS, 25 * HOUR_S)
    assert (late, over.trip_id) == (None, trip_id)


def test_a_trip_is_over_when_the_agent_was_stopped_for_long(tmp_path):
    first = keeper(tmp_path)
    trip_id = first.begin(GPS, 0)
    first.stop(GPS, 3 * HOUR_S)
    going_on, _ = keeper(tmp_path, "boot-2").restore(GPS, 3 * HOUR_S + 600)
    assert going_on.trip_id == trip_id
    going_on, over = keeper(tmp_path, "boot-2").restore(GPS, 4 * HOUR_S)
    assert (going_on, over.trip_id) == (None, trip_id)
    assert keeper(tmp_path, "boot-2").restore(GPS, 4 * HOUR_S) == (None, None)


def test_without_trusted_time_the_boot_decides(tmp_path):
    first = keeper(tmp_path)
    trip_id = first.begin(UNSYNCED, 0)
    first.stop(UNSYNCED, 0)
    same, _ = keeper(tmp_path).restore(UNSYNCED, 0)
    assert same.trip_id == trip_id
    other, over = keeper(tmp_path, "boot-2").restore(GPS, 0)
    assert (other, over.trip_id) == (None, trip_id)


def test_a_trip_is_not_longer_for_a_time_that_becomes_known_on_the_way(tmp_path):
    trips = keeper(tmp_path)
    trips.begin(UNSYNCED, 100.0)
    assert trips.lasted_s(GPS, 160.0) == 60.0
    trips.stop(GPS, 160.0)
    again = keeper(tmp_path)
    going_on, _ = again.restore(GPS, 200.0)
    assert again.lasted_s(GPS, 220.0) == 120.0
    assert datetime.fromisoformat(going_on.started_at) == NOON + timedelta(seconds=100)


def test_a_trip_over_two_boots_is_as_long_as_trusted_time_says_or_of_no_known_length(tmp_path):
    keeper(tmp_path).begin(GPS, 100.0)
    later = TimeBase(NOON + timedelta(hours=1), TimeQuality.NTP)
    second = keeper(tmp_path, "boot-2")
    second.restore(later, 10.0)
    assert second.lasted_s(UNSYNCED, 10.0) is None
    assert second.lasted_s(later, 10.0) == HOUR_S - 90


def test_an_ended_trip_leaves_no_file(tmp_path):
    trips = keeper(tmp_path)
    trips.begin(GPS, 0)
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
    assert trips.begin(GPS, 0) == trips.trip_id
    trips.stop(GPS, 0)
    assert trips.end() is not None
