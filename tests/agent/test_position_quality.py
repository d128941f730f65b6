"""Positions: what is rejected, held and measured; with errors added to a truth, and recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config import PositionSettings, Standing
from agent.engine.geo import apart_m
from agent.engine.positions import AGREEING_REJECTS, FUTURE_S, PositionCheck, Reject
from agent.engine.track import PositionTrack
from agent.inputs import Fix
from tests.fakes.drives import recorded_fixes, summed_steps_m, travelled_m
from tests.fakes.receiver import NoisyReceiver, moved, parked

DEFAULTS = PositionSettings()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR_S = 3600
HOME = Fix(received_s=1000.0, lat=50.1, lon=8.68, time=NOON, accuracy_m=5.0, heading=90.0)


def fix_at(second, north_m=0.0, east_m=0.0, **fields):
    """A fix so many seconds and metres from home."""
    there = moved(HOME, east_m, north_m)
    moment = {"received_s": 1000.0 + second, "time": NOON + timedelta(seconds=second)}
    return replace(there, **{**moment, **fields})


def drive(speed_kmh, seconds, *, start=0, north_m=0.0, step_s=1.0):
    """North at a constant speed."""
    steps = range(round(seconds / step_s))
    metres = speed_kmh / 3.6 * step_s
    return [
        fix_at(start + (index + 1) * step_s, north_m + (index + 1) * metres, speed_kmh=speed_kmh)
        for index in steps
    ]


def follow(track, fixes, can_speed_kmh=None):
    """Metres travelled and the positions told, fix by fix."""
    told, total_m = [], 0.0
    for fix in fixes:
        total_m += track.take(fix, fix.time, can_speed_kmh=can_speed_kmh)
        told.append(track.position)
    return total_m, told


# --- what cannot be ------------------------------------------------------------------------


def test_the_last_position_repeated_with_a_speed_is_frozen_and_never_believed():
    check = PositionCheck(400, 1000)
    assert check.check(fix_at(0, speed_kmh=50.0)) is None
    assert check.check(fix_at(0.2, speed_kmh=50.0)) is None
    for second in range(3, 60):
        assert check.check(fix_at(second, speed_kmh=50.0)) is Reject.FROZEN
    assert check.check(fix_at(60, north_m=700.0, speed_kmh=50.0)) is None


def test_a_bus_that_carries_each_position_several_times_is_not_frozen():
    check = PositionCheck(400, 1000)
    for tick in range(200):
        second = tick // 10
        assert check.check(fix_at(tick / 10, second * 36.1, speed_kmh=130.0, time=None)) is None


def test_the_same_position_without_a_speed_is_a_vehicle_that_stands():
    check = PositionCheck(400, 1000)
    assert all(check.check(fix_at(second, speed_kmh=0.3)) is None for second in range(600))
    assert check.rejected == {}


def test_a_jump_that_the_speeds_contradict_is_rejected_until_others_agree():
    check = PositionCheck(400, 1000)
    assert check.check(fix_at(0, speed_kmh=20.0)) is None
    results = [
        check.check(fix_at((1 + index) / 2, north_m=60.0 + index * 3, speed_kmh=20.0))
        for index in range(AGREEING_REJECTS)
    ]
    assert results == [Reject.JUMP] * (AGREEING_REJECTS - 1) + [None]
    assert check.moved_over


def test_an_emergency_braking_is_no_jump():
    check = PositionCheck(400, 1000)
    north_m, speed_kmh = 0.0, 150.0
    for index in range(60):
        assert check.check(fix_at(index / 5, north_m=north_m, speed_kmh=speed_kmh)) is None
        north_m += speed_kmh / 3.6 / 5
        speed_kmh = max(0.0, speed_kmh - 9.0 * 3.6 / 5)


def test_an_error_that_the_receiver_itself_calls_absurd_is_rejected():
    check = PositionCheck(400, 1000)
    assert check.check(fix_at(0, accuracy_m=1001.0)) is Reject.INACCURATE
    assert check.check(fix_at(1, accuracy_m=999.0)) is None


def test_a_time_in_the_future_is_rejected_unless_the_receiver_stays_there():
    check = PositionCheck(400, 1000)
    assert check.check(fix_at(0), ahead_s=0.0) is None
    future = fix_at(1, time=NOON + timedelta(days=1))
    assert check.check(future, ahead_s=86_400) is Reject.FUTURE_TIME
    assert check.check(fix_at(2), ahead_s=None) is None
    later = [fix_at(3 + n, time=NOON + timedelta(days=1, seconds=3 + n)) for n in range(5)]
    results = [check.check(fix, ahead_s=86_400) for fix in later]
    assert results == [Reject.FUTURE_TIME] * (AGREEING_REJECTS - 1) + [None] * 3
    assert check.check(fix_at(9), ahead_s=FUTURE_S - 1) is Reject.TIME_BACKWARDS


@given(
    st.lists(
        st.tuples(
            st.floats(-90, 90),
            st.floats(-180, 180),
            st.floats(-2000, 2000),
            st.none() | st.floats(0, 2000),
            st.none() | st.floats(0, 1e7),
        ),
        max_size=40,
    )
)
def test_every_fix_is_believed_or_counted_and_no_distance_is_absurd(rows):
    track = PositionTrack(DEFAULTS)
    believed, total_m = 0, 0.0
    for index, (lat, lon, offset_s, speed_kmh, accuracy_m) in enumerate(rows):
        moment = NOON + timedelta(seconds=index + offset_s)
        fix = Fix(1000.0 + index, lat, lon, moment, None, accuracy_m, speed_kmh)
        total_m += track.take(fix, None, can_speed_kmh=None)
        position = track.position
        believed += position is not None and position.measured is fix
    assert believed + sum(track.rejected.values()) == len(rows)
    assert 0 <= total_m <= 400 / 3.6 * 4000 * len(rows) + 15 * len(rows) + 1e5 * len(rows)


# --- standing ------------------------------------------------------------------------------


def test_a_vehicle_that_stopped_is_held_there_with_the_time_of_its_newest_fix():
    track = PositionTrack(DEFAULTS)
    follow(track, drive(30.0, 10))
    noisy = [fix_at(11 + n, 83.0, (-1) ** n * 3.0, speed_kmh=1.1) for n in range(60)]
    _, told = follow(track, noisy)
    held = told[10:]
    assert len({(one.fix.lat, one.fix.lon) for one in held}) == 1
    assert [one.fix_time for one in held] == [fix.time for fix in noisy[10:]]
    assert {one.fix.speed_kmh for one in held} == {0.0}
    assert all(one.stands for one in held)
    assert held[-1].measured is noisy[-1]


def test_a_departure_is_followed_after_eight_metres_and_none_of_them_are_lost():
    track = PositionTrack(DEFAULTS)
    follow(track, [fix_at(second, speed_kmh=0.0) for second in range(60)])
    away = drive(20.0, 30, start=60, step_s=0.2)
    total_m, told = follow(track, away)
    first = next(index for index, one in enumerate(told) if not one.stands)
    assert apart_m(HOME, away[first]) < 12
    assert total_m == pytest.approx(20 / 3.6 * 30, abs=1.5)


def test_speeds_without_a_way_and_a_way_without_speeds_are_no_departure():
    track = PositionTrack(DEFAULTS)
    follow(track, [fix_at(second, speed_kmh=0.0) for second in range(20)])
    total_m, told = follow(track, [fix_at(20 + n, (n % 3) * 1.0, speed_kmh=7.0) for n in range(60)])
    assert total_m == 0
    assert all(one.stands for one in told)
    total_m, told = follow(track, [fix_at(80 + n, min(n, 25.0), speed_kmh=0.9) for n in range(60)])
    assert total_m == 0
    assert all(one.stands and apart_m(one.fix, HOME) < 1 for one in told)


def test_a_vehicle_that_was_held_at_the_wrong_place_is_put_right_without_a_distance():
    track = PositionTrack(DEFAULTS)
    follow(track, [fix_at(second, speed_kmh=0.0) for second in range(20)])
    total_m, told = follow(track, [fix_at(20 + n, 80.0, speed_kmh=0.2) for n in range(90)])
    assert total_m == 0
    assert all(one.stands for one in told)
    assert apart_m(told[-1].fix, fix_at(0, 80.0)) < 1


def test_can_s_speed_ends_a_standstill_at_once_and_holds_it_against_noise():
    track = PositionTrack(DEFAULTS)
    follow(track, [fix_at(second) for second in range(20)], can_speed_kmh=0.0)
    noise = [fix_at(20 + n, n * 1.5, speed_kmh=5.4) for n in range(1, 20)]
    assert all(one.stands for one in follow(track, noise, can_speed_kmh=0.0)[1])
    assert not follow(track, [fix_at(41, 1.0, speed_kmh=2.5)], can_speed_kmh=3.0)[1][0].stands


def test_a_vehicle_that_is_towed_is_followed_although_its_wheels_stand():
    track = PositionTrack(DEFAULTS)
    follow(track, [fix_at(second, speed_kmh=0.0) for second in range(20)], can_speed_kmh=0.0)
    total_m, told = follow(track, drive(40.0, 60, start=20), can_speed_kmh=0.0)
    assert not told[-1].stands
    assert total_m == pytest.approx(40 / 3.6 * 60, rel=0.02)


def test_a_receiver_that_says_no_speed_is_held_and_followed_by_its_positions():
    track = PositionTrack(DEFAULTS)
    _, told = follow(track, [fix_at(n, (n % 5) * 1.0) for n in range(120)])
    assert told[-1].stands
    away = [fix_at(120 + n, n * 8.0) for n in range(1, 60)]
    total_m, told = follow(track, away)
    assert not told[-1].stands
    assert total_m == pytest.approx(59 * 8.0, rel=0.05)


def test_who_wants_the_receiver_s_own_words_gets_them_and_no_distance_of_them():
    track = PositionTrack(PositionSettings(standing=Standing.FOLLOW))
    noise = [fix_at(n, (n % 7) * 1.0, speed_kmh=1.1) for n in range(100)]
    total_m, told = follow(track, noise)
    assert [one.fix for one in told] == noise
    assert told[-1].stands
    assert total_m < 2


def test_an_epoch_whose_speed_comes_late_counts_once_with_it():
    whole, parts = PositionTrack(DEFAULTS), PositionTrack(DEFAULTS)
    fixes = drive(36.0, 30)
    expected_m, _ = follow(whole, fixes)
    total_m = 0.0
    for fix in fixes:
        total_m += parts.take(replace(fix, speed_kmh=None), fix.time, can_speed_kmh=None)
        total_m += parts.complete(fix, can_speed_kmh=None)
    assert total_m == pytest.approx(expected_m)
    assert parts.position.measured == fixes[-1]


def test_a_tunnel_counts_as_the_straight_way_through_it():
    track = PositionTrack(DEFAULTS)
    before_m, _ = follow(track, drive(72.0, 10))
    total_m, _ = follow(track, drive(72.0, 10, start=130, north_m=2600.0))
    assert before_m == pytest.approx(8 * 20), "what is counted is one fix late"
    assert before_m + total_m == pytest.approx(2600 + 200 - 20 - 20)


RECEIVERS = {
    "common": {},
    "with spikes of its speed": {"spike_share": 0.05},
    "between houses": {"sigma_m": 15.0, "time_s": 300.0},
    "poor": {"sigma_m": 10.0, "speed_sigma_kmh": 1.0, "spike_share": 0.1},
}


@pytest.mark.parametrize("errors", RECEIVERS.values(), ids=RECEIVERS)
def test_hours_of_drift_are_a_few_metres_of_distance(errors):
    """Steps between positions add up to 20 km and more in the same time."""
    receiver = NoisyReceiver(7, **errors)
    fixes = [receiver.fix(true) for true in parked(4 * HOUR_S)]
    assert summed_steps_m(fixes) > 10_000
    assert travelled_m(fixes, DEFAULTS) < 3


def test_a_common_receiver_that_stands_is_told_at_one_place_for_hours():
    receiver = NoisyReceiver(8)
    _, told = follow(PositionTrack(DEFAULTS), (receiver.fix(true) for true in parked(4 * HOUR_S)))
    assert len({(one.fix.lat, one.fix.lon) for one in told[10:]}) == 1


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.5, 1.0, 2.0]))
@example(1957, 2.0)
def test_no_seed_of_a_standing_receiver_makes_it_drive(seed, step_s):
    """Three wrong speeds in a row while it wanders the same way pass for a moment's departure."""
    receiver = NoisyReceiver(seed, sigma_m=6.0, spike_share=0.03)
    track = PositionTrack(DEFAULTS)
    length_s = 900 * step_s
    total_m, told = follow(track, (receiver.fix(t) for t in parked(length_s, step_s=step_s)))
    assert total_m < 15
    found = [one.stands for one in told[round(30 / step_s) :]]
    assert found.count(False) <= len(found) / 20


# --- recorded ------------------------------------------------------------------------------


@pytest.mark.needs_traces
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("errors", RECEIVERS.values(), ids=RECEIVERS)
def test_a_noisy_receiver_measures_the_rtk_drive_as_it_was(traces, seed, errors):
    """3,003 m by RTK positions, exact to centimetres; noisy steps add up to 13 to 50 % more.

    The distance is right to 1 %, to 2.5 % where every tenth speed is wrong besides.
    """
    truth = recorded_fixes(traces / "nmea/dev02_mtv_f9k_rtk_drive_a.nmea")
    true_m = summed_steps_m(truth)
    assert true_m == pytest.approx(3003, abs=1)
    assert travelled_m(truth, DEFAULTS) == pytest.approx(true_m, rel=0.005)
    receiver = NoisyReceiver(seed, **errors)
    noisy = [receiver.fix(fix) for fix in truth]
    assert summed_steps_m(noisy) > 1.1 * true_m
    within = 0.025 if errors.get("speed_sigma_kmh") else 0.01
    assert travelled_m(noisy, DEFAULTS) == pytest.approx(true_m, rel=within)


@pytest.mark.needs_traces
def test_the_jump_after_the_tunnel_is_the_way_that_the_frozen_receiver_hid(traces):
    """dev01 repeats a position for 40 s at 47 km/h, then is 671 m further: both is one drive."""
    fixes = recorded_fixes(traces / "nmea/dev01_munich_drive.nmea")
    track = PositionTrack(DEFAULTS)
    longest_m = max(track.take(fix, fix.time, can_speed_kmh=None) for fix in fixes)
    assert track.rejected == {"jump": 1, "frozen": 37, "time_backwards": 1}
    assert longest_m == pytest.approx(671, abs=15)


@pytest.mark.needs_traces
@pytest.mark.parametrize(
    ("name", "metres", "rejected"),
    [
        # by its own speeds 10.6 km, of which 0.37 stand still in the tunnel; by steps 12.0
        ("dev01_munich_drive.nmea", 10_920, {"jump": 1, "frozen": 37, "time_backwards": 1}),
        ("dev02_mtv_f9k_rtk_drive_a.nmea", 2_992, {}),
        ("dev03_reno_tahoe_garmin_drive_a.nmea", 56_400, {"inaccurate": 3}),
        # no speeds at all: straight lines, a little shorter than the steps' 2.59 km
        ("dev04_munich_gga_gsa_only.nmea", 2_454, {}),
        ("dev06_gp320fw_week_rollover.log", 0, {}),
        ("dev07_unicore_um621_losefix.log", 0, {}),
    ],
)
def test_the_recorded_logs_have_these_lengths(traces, name, metres, rejected):
    track = PositionTrack(DEFAULTS)
    total_m, _ = follow(track, recorded_fixes(traces / "nmea" / name))
    assert total_m == pytest.approx(metres, abs=max(2.0, metres * 0.005))
    assert track.rejected == rejected


@pytest.mark.needs_traces
@pytest.mark.parametrize(
    "name", ["dev06_gp320fw_week_rollover.log", "dev07_unicore_um621_losefix.log"]
)
def test_the_static_logs_drawn_out_to_hours_stay_where_they_are(traces, name):
    """Their own wander, over and over, with more drift on top."""
    fixes = recorded_fixes(traces / "nmea" / name)
    receiver = NoisyReceiver(3)
    hours = [
        receiver.fix(replace(fixes[n % len(fixes)], received_s=1000.0 + n, time=None))
        for n in range(3 * HOUR_S)
    ]
    assert travelled_m(hours, DEFAULTS) < 5
