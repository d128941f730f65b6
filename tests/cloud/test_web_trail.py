import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.geo import distance_m
from cloud.web.ports import TrailPoint
from cloud.web.trail import Trail, pack, split, thin, thin_to

METRE = 1 / 111_195


def drive(seconds, *, start_ms=0, north_m=10.0, wobble_m=0.0):
    """One fix a second, straight north, with a wobble to the east."""
    return [
        TrailPoint(
            start_ms + 1000 * second,
            50 + second * north_m * METRE,
            8 + wobble_m * METRE * math.sin(second / 3),
        )
        for second in range(seconds)
    ]


def unpack(packed):
    lat = lon = 0
    points = []
    for lat_step, lon_step in zip(packed[::2], packed[1::2], strict=True):
        lat, lon = lat + lat_step, lon + lon_step
        points.append((lat / 1e5, lon / 1e5))
    return points


def test_missing_fixes_over_a_distance_cut_the_trail():
    before, after = drive(10), drive(10, start_ms=60_000)
    moved = [TrailPoint(p.timestamp_ms, p.lat + 1000 * METRE, p.lon) for p in after]
    assert split(before + moved) == [before, moved]


def test_standing_still_for_long_cuts_nothing():
    parked = [TrailPoint(t * 60_000, 50.0, 8.0) for t in range(5)]
    assert split(parked) == [parked]


def test_a_straight_line_is_thinned_to_its_ends():
    line = drive(500)
    assert thin(line, 3) == [line[0], line[-1]]


def test_a_corner_survives_thinning():
    north = drive(50)
    corner = north[-1]
    east = [
        TrailPoint(50_000 + i * 1000, corner.lat, corner.lon + i * METRE * 10) for i in range(50)
    ]
    assert corner in thin(north + east, 3)


@given(
    st.lists(st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000)), min_size=2, max_size=60),
    st.floats(1, 300),
)
def test_no_thinned_point_is_farther_from_the_trail_than_the_tolerance(places, tolerance_m):
    points = [
        TrailPoint(i * 1000, 50 + north * METRE, 8 + east * METRE)
        for i, (north, east) in enumerate(places)
    ]
    kept = thin(points, tolerance_m)
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    for first, last in pairwise(kept):
        for point in points[points.index(first) : points.index(last)]:
            assert off_line_m(point, first, last) <= tolerance_m * 1.01 + 0.01


def off_line_m(point, first, last):
    """Distance of a point from a line, by trying many places on it."""
    steps = [i / 2000 for i in range(2001)]
    return (
        min(
            distance_m(
                point.lat,
                point.lon,
                first.lat + (last.lat - first.lat) * step,
                first.lon + (last.lon - first.lon) * step,
            )
            for step in (steps if first != last else [0.0])
        )
        - distance_m(first.lat, first.lon, last.lat, last.lon) / 2000
    )


def test_a_trail_is_never_longer_than_its_limit_and_keeps_its_newest_point():
    wild = drive(1800, wobble_m=200)
    segments = thin_to([wild], 100)
    assert sum(map(len, segments)) <= 100
    assert segments[-1][-1] == wild[-1]


def test_segments_too_many_to_fit_lose_the_oldest():
    segments = [[TrailPoint(i, 50 + i, 8)] for i in range(30)]
    assert thin_to(segments, 10) == segments[20:]


def test_a_live_trail_stays_bounded_for_as_long_as_it_runs():
    trail = Trail(60)
    for point in drive(3000, wobble_m=150):
        trail.add(point)
        trail.trim(point.timestamp_ms - 30 * 60_000)
        assert trail.points <= 60


def test_old_points_leave():
    trail = Trail(400)
    trail.load(drive(60))
    assert not trail.trim(60_000)
    assert trail.trim(3_600_000)
    assert trail.points == 0


def test_a_fix_that_is_not_newer_or_not_elsewhere_adds_nothing():
    trail = Trail(100)
    trail.load(drive(10))
    last = drive(10)[-1]
    assert not trail.add(last)
    assert not trail.add(TrailPoint(last.timestamp_ms - 1, last.lat + 1, last.lon))
    assert not trail.add(TrailPoint(last.timestamp_ms + 1000, last.lat + METRE, last.lon))
    assert trail.add(TrailPoint(last.timestamp_ms + 2000, last.lat + 20 * METRE, last.lon))


@pytest.mark.parametrize("lon", [-179.99999, -8.0, 0.0, 179.99999])
def test_a_packed_segment_has_its_places_to_a_metre(lon):
    segment = [TrailPoint(0, -33.123456, lon), TrailPoint(1, -33.2, lon), TrailPoint(2, 10.0, 0.0)]
    for (lat, other), point in zip(unpack(pack(segment)), segment, strict=True):
        assert lat == pytest.approx(point.lat, abs=6e-6)
        assert other == pytest.approx(point.lon, abs=6e-6)
