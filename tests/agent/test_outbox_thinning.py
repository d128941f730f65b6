"""Thinning: the policy by properties, and what it does to a file."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.outbox import DropReason, Kind
from agent.outbox.thinning import (
    MAX_LEVEL,
    Point,
    distance_m,
    error_bound_m,
    point,
    thin,
    tolerance_m,
)
from contract import TimeQuality
from tests.fakes.outbox_bench import Bench


def off_route_m(one, route):
    """From a point to the polyline, by brute force."""
    return min(distance_m(one, a, b) for a, b in itertools.pairwise(route))


@st.composite
def drives(draw):
    """A wandering drive at 5 Hz with turns, stops, tunnels and restarts."""
    moves = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["drive", "turn", "stop", "tunnel", "gap", "restart"]),
                st.integers(1, 40),
            ),
            min_size=1,
            max_size=12,
        )
    )
    points, heading, lat, lon = [], 0.0, 50.0, 8.0
    taken_ms, sequence, run = 0, 0, 1
    for what, length in moves:
        if what == "restart":
            run, sequence = run + 1, 0
        elif what == "gap":
            taken_ms += 400_000
        for _ in range(length if what in ("drive", "turn", "stop", "tunnel") else 0):
            sequence, taken_ms = sequence + 1, taken_ms + 200
            heading += 0.15 if what == "turn" else 0.0
            if what in ("drive", "turn"):
                lat += 3e-5 * math.cos(heading)
                lon += 4e-5 * math.sin(heading)
            here = (None, None) if what == "tunnel" else (lat, lon)
            points.append(Point(len(points), f"{run:08x}", sequence, taken_ms, *here))
    return points


def without(points, gone):
    return [one for one in points if one.row not in set(gone)]


@given(points=drives(), level=st.integers(1, MAX_LEVEL))
@settings(deadline=None, max_examples=150)
def test_a_pass_moves_the_route_by_no_more_than_its_tolerance(points, level):
    left = without(points, thin(points, level))
    for one in points:
        if one.lat is not None and len(left) > 1:
            assert off_route_m(one, left) <= tolerance_m(level) + 1e-3


@given(points=drives(), levels=st.lists(st.integers(1, 8), min_size=1, max_size=8))
@settings(deadline=None, max_examples=150)
def test_again_and_again_the_route_stays_within_the_stated_bound(points, levels):
    left = points
    for level in sorted(levels):
        left = without(left, thin(left, level))
        assert thin(left, level) == []
    for one in points:
        if one.lat is not None and len(left) > 1:
            passes = sum(tolerance_m(level) for level in set(levels))
            assert passes <= error_bound_m(max(levels))
            assert off_route_m(one, left) <= passes + 1e-3


@given(points=drives(), level=st.integers(1, MAX_LEVEL), data=st.data())
@settings(deadline=None, max_examples=100)
def test_ends_of_gaps_and_pinned_rows_stay(points, level, data):
    pinned = data.draw(st.sets(st.integers(0, len(points))))
    left = {one.row for one in without(points, thin(points, level, pinned))}
    assert pinned & {one.row for one in points} <= left
    for one, other in itertools.pairwise(points):
        gap = other.taken_ms - one.taken_ms > 120_000 or one.run_id != other.run_id
        if gap or (one.lat is None) != (other.lat is None):
            assert {one.row, other.row} <= left


def straight(count, level_sequence=1):
    return [
        Point(n, "00000001", n + level_sequence, 200 * n, 50 + n * 1e-5, 8.0) for n in range(count)
    ]


def test_on_a_straight_road_every_second_sample_goes_again_and_again():
    left, lengths = straight(1025), []
    for level in range(1, 6):
        left = without(left, thin(left, level))
        lengths.append(len(left))
    assert lengths == [514, 258, 130, 66, 34]


def test_one_pass_at_a_level_leaves_what_all_passes_up_to_it_leave_on_a_straight_road():
    step_by_step = straight(1000)
    for level in range(1, 5):
        step_by_step = without(step_by_step, thin(step_by_step, level))
    assert step_by_step == without(straight(1000), thin(straight(1000), 4))


def test_the_corner_of_a_right_angle_stays():
    north = [Point(n, "00000001", n + 1, 200 * n, 50 + n * 1e-4, 8.0) for n in range(8)]
    east = [
        Point(8 + n, "00000001", n + 9, 1600 + 200 * n, 50.0007, 8 + (n + 1) * 1e-4)
        for n in range(7)
    ]
    left = without(north + east, thin(north + east, 4))
    assert [one.row for one in left] == [0, 7, 14]


def test_over_the_date_line_the_short_way_counts():
    a = Point(1, "00000001", 1, 0, 0.0, 179.9999)
    middle = Point(2, "00000001", 2, 0, 0.0001, 180.0)
    b = Point(3, "00000001", 3, 0, 0.0, -179.9999)
    assert distance_m(middle, a, b) == pytest.approx(11.1, abs=0.1)


@pytest.mark.parametrize("payload", [b"\xff", b"[]", b'{"location":{}}', b'{"location":3}'])
def test_a_payload_that_cannot_be_read_has_no_position(payload):
    assert point(1, "00000001", 1, None, payload).lat is None


def fill(bench, count, *, block=100, size=300):
    for first in range(1, count + 1, block):
        for sequence in range(first, first + block):
            bench.put(sequence, size=size, lat=50 + sequence * 1e-5)
        bench.flush()


def test_full_by_bytes_old_samples_lose_resolution_first_and_every_event_stays(tmp_path):
    bench = Bench(tmp_path, max_bytes=400_000)
    bench.put(1, kind=Kind.EVENT)
    fill(bench, 6000)
    bench.flush(5)
    kept, tally = bench.on_disk(), bench.outbox.tally()
    assert tally.dropped == {DropReason.THINNED: 6000 - len(kept)}
    assert tally.imbalance() == 0
    assert bench.on_disk(Kind.EVENT) == [1]
    assert bench.store.space()[0] <= 400_000
    assert kept[0] == 1
    steps = [b - a for a, b in itertools.pairwise(kept)]
    assert max(steps) <= 32
    assert steps[-50:] == [1] * 50
    assert len(kept) > 500
    bench.outbox.close()


def test_what_was_thinned_can_be_sent_in_order_and_nothing_else_is(tmp_path):
    bench = Bench(tmp_path, max_bytes=300_000)
    fill(bench, 3000)
    kept = bench.on_disk()
    sent = []
    while claimed := bench.backlog(200):
        sent += [m.sequence for m in claimed]
        bench.outbox.acknowledge(claimed)
    bench.flush(3)
    assert sent == kept
    assert bench.on_disk() == []
    assert bench.outbox.tally().imbalance() == 0
    assert bench.outbox.waiting() == 0


def test_a_restart_goes_on_with_the_thinning_where_it_was(tmp_path):
    first = Bench(tmp_path, max_bytes=300_000)
    fill(first, 3000)
    sweep = first.outbox._writer._bounds._sweeps["size"]
    first.outbox.close()
    second = Bench(tmp_path, run_id="00000002", max_bytes=300_000)
    assert second.outbox._writer._bounds._sweeps["size"] == sweep
    fill(second, 1000)
    assert second.outbox.tally().imbalance() == 0
    assert second.store.space()[0] <= 300_000
    second.outbox.close()


def test_samples_fade_before_they_expire_and_the_route_remains_until_then(tmp_path):
    bench = Bench(tmp_path, max_age_s=10_000.0)
    start_ms = int(bench.clock.utc().timestamp() * 1000)
    for sequence in range(1, 401):
        bench.put(sequence, taken_ms=start_ms + sequence, lat=50 + sequence * 1e-5)
    bench.flush()
    found = []
    for share in (0.7, 0.8, 0.9, 0.95, 1.1):
        bench.clock.advance(start_ms / 1000 + share * 10_000 - bench.clock.utc().timestamp())
        bench.flush(4)
        found.append(len(bench.on_disk()))
    assert found == [400, 201, 101, 51, 0]
    tally = bench.outbox.tally()
    assert tally.dropped == {DropReason.THINNED: 349, DropReason.EXPIRED: 51}
    assert tally.imbalance() == 0
    bench.outbox.close()


def test_without_a_trusted_time_nothing_fades(tmp_path):
    bench = Bench(tmp_path, max_age_s=100.0)
    bench.clock.set_quality(TimeQuality.UNSYNCED)
    bench.put(*range(1, 50), taken_ms=0)
    bench.flush(200)
    assert len(bench.on_disk()) == 49
    bench.outbox.close()
