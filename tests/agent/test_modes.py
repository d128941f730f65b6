"""The mode table: the rules of the design, and that nothing flaps inside a dwell."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import ThresholdSettings, UnknownBattery
from agent.engine.modes import TABLE, ModeMachine, Situation
from agent.engine.modes_page import name_of
from contract import Mode

DEFAULTS = ThresholdSettings()
STANDING = Situation(speed_kmh=0.0, in_use=False, battery_percent=50.0, charging=False)


def run(machine, situation, start_s, length_s, step_s=1.0):
    """Show one situation for a while; the transitions with their times."""
    seen = []
    steps = int(length_s / step_s)
    for index in range(steps + 1):
        now_s = start_s + index * step_s
        transition = machine.observe(situation, now_s)
        if transition:
            seen.append((now_s - start_s, transition.source, transition.target))
    return seen


def at(**changes):
    fields = {name: getattr(STANDING, name) for name in Situation.__slots__}
    return Situation(**{**fields, **changes})


def test_in_use_begins_a_trip_at_once():
    machine = ModeMachine(DEFAULTS)
    assert run(machine, at(in_use=True), 0, 1)[0] == (0, Mode.NORMAL, Mode.IN_TRIP)


def test_speed_begins_a_trip_after_five_seconds():
    machine = ModeMachine(DEFAULTS)
    assert run(machine, at(speed_kmh=6.0), 0, 20) == [(5, Mode.NORMAL, Mode.IN_TRIP)]


def test_a_break_in_the_speed_begins_the_dwell_anew():
    machine = ModeMachine(DEFAULTS)
    assert run(machine, at(speed_kmh=6.0), 0, 4) == []
    assert run(machine, at(speed_kmh=4.0), 4.5, 0) == []
    assert run(machine, at(speed_kmh=6.0), 5, 20) == [(5, Mode.NORMAL, Mode.IN_TRIP)]


def test_a_trip_ends_after_two_minutes_of_standing():
    machine = ModeMachine(DEFAULTS, Mode.IN_TRIP)
    assert run(machine, STANDING, 0, 125) == [(120, Mode.IN_TRIP, Mode.NORMAL)]


def test_a_vehicle_in_use_stays_in_its_trip():
    machine = ModeMachine(DEFAULTS, Mode.IN_TRIP)
    assert run(machine, at(in_use=True), 0, 2000, 10) == []


def test_an_unknown_speed_ends_a_trip_only_after_the_longest_tunnel():
    machine = ModeMachine(DEFAULTS, Mode.IN_TRIP)
    dark = Situation(battery_percent=50.0)
    assert run(machine, dark, 0, 700, 5) == [(600, Mode.IN_TRIP, Mode.NORMAL)]


def test_parked_and_full_goes_idle_after_a_minute():
    machine = ModeMachine(DEFAULTS)
    assert run(machine, at(battery_percent=85.0), 0, 90) == [(60, Mode.NORMAL, Mode.IDLE)]


def test_parked_and_empty_saves_unless_it_charges():
    saving = ModeMachine(DEFAULTS)
    assert run(saving, at(battery_percent=14.0), 0, 90) == [(60, Mode.NORMAL, Mode.SAVER)]
    charging = ModeMachine(DEFAULTS)
    assert run(charging, at(battery_percent=14.0, charging=True), 0, 300) == []
    assert run(saving, at(battery_percent=14.0, charging=True), 100, 20) == [
        (10, Mode.SAVER, Mode.NORMAL)
    ]


def test_an_unknown_battery_is_not_taken_for_full():
    unknown = at(battery_percent=None, charging=None)
    assert run(ModeMachine(DEFAULTS), unknown, 0, 300) == []
    lenient = ThresholdSettings(idle_when_battery_unknown=UnknownBattery.IDLE)
    assert run(ModeMachine(lenient), unknown, 0, 300) == [(60, Mode.NORMAL, Mode.IDLE)]


def test_an_unknown_speed_does_not_park_a_vehicle():
    assert run(ModeMachine(DEFAULTS), at(speed_kmh=None, battery_percent=90.0), 0, 300) == []


def test_idle_ends_on_moving_and_on_a_battery_that_fell():
    machine = ModeMachine(DEFAULTS, Mode.IDLE)
    assert run(machine, at(battery_percent=76.0), 0, 60) == []
    assert run(machine, at(battery_percent=74.0), 61, 20) == [(10, Mode.IDLE, Mode.NORMAL)]
    machine = ModeMachine(DEFAULTS, Mode.IDLE)
    slow = at(battery_percent=90.0, speed_kmh=3.0)
    assert run(machine, slow, 0, 20) == [(5, Mode.IDLE, Mode.NORMAL)]


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.IDLE, Mode.SAVER])
def test_every_quiet_mode_leads_straight_into_a_trip(mode):
    fast = at(speed_kmh=30.0, battery_percent=90.0 if mode is Mode.IDLE else 10.0)
    seen = run(ModeMachine(DEFAULTS, mode), fast, 0, 30)
    assert seen[-1][2] is Mode.IN_TRIP
    assert seen[-1][0] <= 11


def test_an_unknown_guard_changes_nothing():
    machine = ModeMachine(DEFAULTS)
    assert run(machine, Situation(), 0, 5000, 10) == []
    assert machine.mode is Mode.NORMAL


def test_every_row_names_a_threshold_that_exists():
    for row in TABLE:
        assert row.dwell is None or row.dwell in ThresholdSettings.model_fields
        assert row.source is not row.target


situations = st.builds(
    Situation,
    speed_kmh=st.none() | st.sampled_from([0.0, 1.9, 2.0, 2.1, 4.9, 5.0, 5.1, 60.0]),
    in_use=st.none() | st.booleans(),
    battery_percent=st.none() | st.sampled_from([5.0, 14.9, 15.1, 19.9, 20.1, 74.9, 80.1, 95.0]),
    charging=st.none() | st.booleans(),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(situations, st.floats(0.1, 90.0)), max_size=120), st.sampled_from(Mode))
def test_no_mode_is_left_before_its_dwell_and_no_guard_fires_early(steps, first):
    machine = ModeMachine(DEFAULTS, first)
    now_s, entered_s, history = 0.0, 0.0, []
    for situation, wait_s in steps:
        now_s += wait_s
        history.append((now_s, situation))
        before = machine.mode
        transition = machine.observe(situation, now_s)
        if transition is None:
            assert machine.mode is before
            continue
        assert (transition.source, transition.target) == (before, machine.mode)
        row = next(
            row
            for row in TABLE
            if row.source is before
            and row.reason == transition.reason
            and row.target is machine.mode
        )
        dwell_s = getattr(DEFAULTS, row.dwell) if row.dwell else 0.0
        assert now_s - entered_s >= dwell_s or not row.dwell
        held = [seen for moment, seen in history if now_s - dwell_s <= moment]
        assert all(row.guard(seen, DEFAULTS) for seen in held)
        if row.dwell is None:
            assert situation.in_use is True
        entered_s, history = now_s, []


KNOWN = {
    "speed_kmh": st.floats(0, 200),
    "in_use": st.booleans(),
    "battery_percent": st.floats(0, 100),
    "charging": st.booleans(),
}
partly_known = st.builds(Situation, **{name: st.none() | of for name, of in KNOWN.items()})


WRITTEN_EXCEPTIONS = {
    ("standing", "in_use"),
    ("parked empty", "in_use"),
    ("parked full", "in_use"),
    ("blind", "in_use"),
    ("blind", "speed_kmh"),
    ("parked empty", "charging"),
    ("not full", "battery_percent"),
}
"""Of docs/modes.md: what counts as not in use, not charging, not full, or ends a trip."""


@given(partly_known, st.sampled_from(sorted(KNOWN)), st.data())
def test_a_guard_that_holds_without_a_value_holds_for_any_that_it_might_have(
    situation, field, data
):
    unknown = replace(situation, **{field: None})
    known = replace(situation, **{field: data.draw(KNOWN[field])})
    for row in TABLE:
        if (name_of(row.guard), field) not in WRITTEN_EXCEPTIONS and row.guard(unknown, DEFAULTS):
            assert row.guard(known, DEFAULTS), (name_of(row.guard), field)


@settings(max_examples=60)
@given(
    st.sampled_from(
        [
            ("speed_kmh", "trip_enter_speed_kmh"),
            ("speed_kmh", "trip_leave_speed_kmh"),
            ("battery_percent", "idle_enter_battery_percent"),
            ("battery_percent", "idle_leave_battery_percent"),
            ("battery_percent", "saver_enter_battery_percent"),
            ("battery_percent", "saver_leave_battery_percent"),
        ]
    ),
    st.lists(st.floats(-1.4, 1.4), min_size=100, max_size=1500),
    st.sampled_from(Mode),
    st.sampled_from([0.1, 0.2, 1.0]),
)
def test_no_noise_at_a_threshold_makes_modes_change_faster_than_their_dwell(
    threshold, noise, first, step_s
):
    field, name = threshold
    middle = getattr(DEFAULTS, name)
    machine, changes = ModeMachine(DEFAULTS, first), []
    for index, offset in enumerate(noise):
        now = at(**{field: max(0.0, middle + offset)})
        transition = machine.observe(now, index * step_s)
        if transition is not None:
            changes.append((index * step_s, transition))
    for (before_s, _), (now_s, transition) in pairwise(changes):
        dwells = [
            getattr(DEFAULTS, row.dwell)
            for row in TABLE
            if row.source is transition.source and row.reason == transition.reason
        ]
        assert now_s - before_s >= dwells[0] - 1e-9
    # noise smaller than the band between enter and leave never comes back to where it was
    visited = [first, *(transition.target for _, transition in changes)]
    assert all(visited.count(mode) <= 2 for mode in Mode)


def test_every_mode_leads_to_every_other():
    """Not only by the arrows: with situations that a vehicle can be in, in their dwells."""
    ways = [
        at(speed_kmh=30.0),
        at(battery_percent=90.0),
        at(battery_percent=5.0),
        at(battery_percent=50.0),
    ]
    for first in Mode:
        reached = {first}
        frontier = [first]
        while frontier:
            source = frontier.pop()
            for situation in ways:
                machine = ModeMachine(DEFAULTS, source)
                transition = None
                for now_s in range(0, 700, 5):
                    transition = transition or machine.observe(situation, float(now_s))
                if transition is not None and transition.target not in reached:
                    reached.add(transition.target)
                    frontier.append(transition.target)
        assert reached == set(Mode)
