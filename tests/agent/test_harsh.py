"""Harsh braking and acceleration: told once, from what is there, and never for noise."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ThresholdSettings
from agent.engine.harsh import Harshness, HarshWatch
from agent.engine.state import Speed

BRAKING, ACCELERATION = Harshness.BRAKING, Harshness.ACCELERATION


def watch_speeds(speeds, *, step_s=1.0, source="can", accuracy_m=None, watch=None):
    """Events by the index of the speed that brought them."""
    watch = watch or HarshWatch(ThresholdSettings())
    told = {}
    for index, kmh in enumerate(speeds):
        speed = None
        if kmh is not None:
            speed = Speed(float(kmh), index * step_s, source, accuracy_m)
        event = watch.observe(speed, None, index * step_s)
        if event is not None:
            told[index] = event
    return told


def watch_acceleration(forward, *, step_s=0.2):
    watch = HarshWatch(ThresholdSettings())
    told = [watch.observe(None, mps2, index * step_s) for index, mps2 in enumerate(forward)]
    return {index: event for index, event in enumerate(told) if event is not None}


def test_a_braking_and_an_acceleration_are_told_once_each():
    told = watch_speeds([50, 50, 50, 30, 10, 0, 0, 0, 0, 12, 24, 36, 36, 36])
    assert {index: event.kind for index, event in told.items()} == {4: BRAKING, 10: ACCELERATION}
    assert told[4].mps2 == pytest.approx(20 / 3.6)
    assert told[10].mps2 == pytest.approx(12 / 3.6)
    assert told[4].source == "can_speed"


@pytest.mark.parametrize("step_s", [0.1, 0.2, 0.5, 1.0])
def test_the_rate_of_the_speeds_does_not_matter(step_s):
    """8 m/s² from 50 km/h, and 3.6 m/s² from standing."""
    steps = round(1 / step_s)
    braking = [max(0.0, 50 - 8 * 3.6 * n * step_s) for n in range(6 * steps)]
    speeding = [min(50.0, 3.6 * 3.6 * n * step_s) for n in range(6 * steps)]
    told = watch_speeds([50] * 3 * steps + braking + speeding + [50] * 3 * steps, step_s=step_s)
    assert [event.kind for event in told.values()] == [BRAKING, ACCELERATION]


def test_a_usual_start_and_stop_in_town_is_neither():
    speeds = [min(50.0, 8.0 * n) for n in range(10)] + [max(0.0, 50 - 10.0 * n) for n in range(10)]
    assert watch_speeds(speeds) == {}


@pytest.mark.parametrize("wrong_kmh", [0.0, 20.0, 35.0, 75.0, 200.0])
def test_a_single_wrong_speed_is_neither(wrong_kmh):
    for step_s in (0.2, 1.0):
        assert watch_speeds([50] * 10 + [wrong_kmh] + [50] * 10, step_s=step_s) == {}


def test_a_sensor_that_dies_at_speed_has_not_braked():
    assert watch_speeds([80] * 10 + [0] * 30, step_s=0.2) == {}
    assert watch_speeds([80] * 5 + [None] * 3 + [0] * 30) == {}


def test_speeds_over_a_gap_or_of_another_sensor_are_not_compared():
    watch = HarshWatch(ThresholdSettings())
    assert watch_speeds([80] * 5, source="can", watch=watch) == {}
    told = [watch.observe(Speed(50.0, 5.0 + n / 2, "gps"), None, 5.0 + n / 2) for n in range(6)]
    assert told == [None] * 6
    assert watch.observe(Speed(20.0, 11.0, "gps"), None, 11.0) is None
    assert watch.observe(Speed(20.0, 12.0, "gps"), None, 12.0) is None


def test_a_receiver_that_is_lost_brakes_nowhere():
    speeds = [50, 50, 50, 30, 10, 0, 0, 0]
    assert watch_speeds(speeds, source="gps", accuracy_m=150.0) == {}
    assert list(watch_speeds(speeds, source="gps", accuracy_m=5.0)) == [5]


def test_a_receiver_that_smooths_and_leaps_has_not_accelerated():
    """As dev01 of the recorded drives does after each stop: truth is never told that way."""
    leap = [0.0, 0.2, 1.7, 3.9, 6.1, 30.7, 32.6, 33.5, 34.4]
    assert watch_speeds(leap, source="gps") == {}
    assert watch_speeds([51, 45, 40, 33, 9.4, 8.9, 9, 9], source="gps") == {}


def test_the_same_measurement_again_changes_nothing():
    watch = HarshWatch(ThresholdSettings())
    told = []
    for index, kmh in enumerate([50, 50, 50, 30, 10, 0]):
        told += [watch.observe(Speed(kmh, index, "can"), None, index + n / 5) for n in range(5)]
    assert [event.kind for event in told if event] == [BRAKING]


def test_the_acceleration_of_can_goes_before_the_speed_and_potholes_are_none():
    assert [e.kind for e in watch_acceleration([0.0] * 5 + [-5.5] * 10).values()] == [BRAKING]
    assert [e.kind for e in watch_acceleration([0.0] * 5 + [3.8] * 10).values()] == [ACCELERATION]
    event = next(iter(watch_acceleration([0.0] * 5 + [-5.5] * 10).values()))
    assert event.source == "can_acceleration"
    assert 4.0 < event.mps2 <= 5.5
    assert watch_acceleration([0.0] * 5 + [-6.0] + [0.0] * 5 + [6.0] + [0.0] * 5) == {}
    assert watch_acceleration([-1.5, 1.2] * 50) == {}
    watch = HarshWatch(ThresholdSettings())
    for index, kmh in enumerate([50, 50, 50, 30, 10, 0]):
        assert watch.observe(Speed(kmh, index, "can"), -0.5, float(index)) is None


@given(st.integers(0, 2**32), st.sampled_from([0.2, 1.0]), st.floats(0, 130))
def test_no_noise_of_a_receiver_at_a_constant_speed_is_an_event(seed, step_s, kmh):
    """Twice the noise of a common receiver's speed."""
    rng = random.Random(seed)
    speeds = [abs(kmh + rng.gauss(0, 0.8)) for _ in range(300)]
    assert watch_speeds(speeds, step_s=step_s, source="gps") == {}
