"""Which samples go when the outbox must lose resolution: pure policy, no disk, no clock.

Level 1 drops every second sample, level 2 every second one of those that are left, and
so on: at level ``n`` a sample stays when its sequence is a multiple of ``2**n``. So the
same rows go whoever asks, in whatever order and however often.

Beside these, a sample stays that

- is the first or last of the rows looked at,
- ends a gap: the next row is of another run, or has a position where this one has none,
  or came ``GAP_S`` later although no sample between them was ever thinned,
- is needed for the route: without it some position dropped at this level would lie
  farther than ``tolerance_m(level)`` from the straight line between those that stay.

A tolerance of 1, 2, 4, ... metres adds up to less than ``error_bound_m(level)`` however
often a stretch was thinned before, because the distance to a segment is convex.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, hypot, radians
from typing import Final

MAX_LEVEL: Final = 12
"""One sample in 4,096 and the route to 2 km; beyond, whole samples are evicted."""

GAP_S: Final = 120.0
"""More than any sampling interval: between two consecutive samples it is a gap."""

_METRES_PER_DEGREE: Final = 111_195.0
"""Of latitude, mean earth radius 6,371.0 km."""


@dataclass(frozen=True, slots=True)
class Point:
    """What the policy sees of one sample; ``lat`` and ``lon`` in degrees, or both None."""

    row: int
    run_id: str
    sequence: int
    taken_ms: int | None
    lat: float | None
    lon: float | None


def point(row: int, run_id: str, sequence: int, taken_ms: int | None, payload: bytes) -> Point:
    """A stored sample as the policy sees it; one that cannot be read has no position."""
    lat = lon = None
    try:
        location = json.loads(payload)["location"]
        lat, lon = float(location["lat"]), float(location["lon"])
    except (ValueError, KeyError, TypeError):
        lat = lon = None
    return Point(row, run_id, sequence, taken_ms, lat, lon)


def tolerance_m(level: int) -> float:
    """How far one pass at this level may move the route, metres."""
    return float(2 ** (level - 1))


def error_bound_m(level: int) -> float:
    """How far all passes up to this level together may have moved the route, metres."""
    return float(2**level - 1)


def thin(points: Sequence[Point], level: int, pinned: Container[int] = ()) -> list[int]:
    """The rows that go, of ``points`` in ascending order; ``pinned`` rows stay."""
    if len(points) < 3:
        return []
    step = 2**level
    stay = {0, len(points) - 1}
    for index, one in enumerate(points):
        if one.sequence % step == 0 or one.row in pinned:
            stay.add(index)
    for index, (one, other) in enumerate(pairwise(points)):
        if _is_gap(one, other):
            stay.update((index, index + 1))
    for first, last in pairwise(sorted(stay)):
        stay.update(_bends(points, first, last, tolerance_m(level)))
    return [one.row for index, one in enumerate(points) if index not in stay]


def _is_gap(one: Point, other: Point) -> bool:
    if one.run_id != other.run_id or (one.lat is None) != (other.lat is None):
        return True
    if one.taken_ms is None or other.taken_ms is None:
        return one.taken_ms is not other.taken_ms
    # thinning widens the time between rows too, but then the sequence has steps
    steps = max(1, other.sequence - one.sequence)
    return (other.taken_ms - one.taken_ms) / steps > GAP_S * 1000


def _bends(points: Sequence[Point], first: int, last: int, limit_m: float) -> list[int]:
    """What must stay between two that stay (Ramer, Douglas and Peucker's rule)."""
    found: list[int] = []
    spans = [(first, last)]
    while spans:
        start, end = spans.pop()
        worst, worst_m = 0, limit_m
        for index in range(start + 1, end):
            off_m = distance_m(points[index], points[start], points[end])
            if off_m > worst_m:
                worst, worst_m = index, off_m
        if worst:
            found.append(worst)
            spans += [(start, worst), (worst, end)]
    return found


def distance_m(one: Point, start: Point, end: Point) -> float:
    """From a point to the segment between two others, metres; 0 where a position lacks.

    On a plane that touches the earth at ``one``: right to a per mille within 100 km.
    """
    if one.lat is None or start.lat is None or end.lat is None:
        return 0.0
    ax, ay = _plane(one, start)
    bx, by = _plane(one, end)
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    along = -(ax * dx + ay * dy) / length2 if length2 else 0.0
    along = min(1.0, max(0.0, along))
    return hypot(ax + along * dx, ay + along * dy)


def _plane(origin: Point, other: Point) -> tuple[float, float]:
    lat, lon = origin.lat or 0.0, origin.lon or 0.0
    # the short way round, also over the date line
    east = ((other.lon or 0.0) - lon + 180.0) % 360.0 - 180.0
    return (
        east * _METRES_PER_DEGREE * cos(radians(lat)),
        ((other.lat or 0.0) - lat) * _METRES_PER_DEGREE,
    )
