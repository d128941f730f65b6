"""Trails: where a vehicle came from, bounded and thinned.

A trail is a list of segments. Inside a segment the fixes followed each other; between
two segments something is missing (a tunnel, a dead link whose backlog is still under
way), and the map draws that stretch differently. Whether something is missing is
judged on the raw fixes, before thinning.

On the wire a segment is a flat list of integers in 1e-5 degrees (about a metre):
the first point, then differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cloud.geo import distance_m
from cloud.web.ports import TrailPoint

GAP_AFTER_MS: Final = 15_000
GAP_DISTANCE_M: Final = 100.0
MIN_STEP_M: Final = 8.0
"""Nearer than this to the last point of the trail a fix adds nothing to see."""
AGE_SLACK_MS: Final = 5 * 60_000
"""Old points go together, this much at a time: the browser needs the whole trail then."""

_DEGREES: Final = 1e5
_METRES_PER_DEGREE: Final = 111_195.0
"""Of latitude."""

Grid = tuple[int, int]
"""Latitude and longitude in 1e-5 degrees."""


def is_gap(before: TrailPoint, after: TrailPoint) -> bool:
    """Whether fixes are missing between two that follow each other in store."""
    return (
        after.timestamp_ms - before.timestamp_ms > GAP_AFTER_MS
        and distance_m(before.lat, before.lon, after.lat, after.lon) > GAP_DISTANCE_M
    )


def split(points: Iterable[TrailPoint]) -> list[list[TrailPoint]]:
    """Cut raw fixes, in order of time, where some are missing."""
    segments: list[list[TrailPoint]] = []
    for point in points:
        if not segments or is_gap(segments[-1][-1], point):
            segments.append([point])
        else:
            segments[-1].append(point)
    return segments


def thin(points: Sequence[TrailPoint], tolerance_m: float) -> list[TrailPoint]:
    """Leave out what a straight line within ``tolerance_m`` shows as well.

    Ramer, Douglas and Peucker's method, without recursion. First and last stay.
    """
    if len(points) < 3:
        return list(points)
    scale = math.cos(math.radians(points[0].lat))
    origin = points[0].lon
    plane = [
        (((point.lon - origin + 180.0) % 360.0 - 180.0) * scale, point.lat) for point in points
    ]
    limit = tolerance_m / _METRES_PER_DEGREE
    kept = {0, len(points) - 1}
    spans = [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        (ax, ay), (bx, by) = plane[first], plane[last]
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        worst, where = limit, 0
        for index in range(first + 1, last):
            x, y = plane[index]
            along = ((x - ax) * dx + (y - ay) * dy) / length if length else 0.0
            along = min(1.0, max(0.0, along))
            off = math.hypot(x - ax - along * dx, y - ay - along * dy)
            if off > worst:
                worst, where = off, index
        if where:
            kept.add(where)
            spans += [(first, where), (where, last)]
    return [points[index] for index in sorted(kept)]


def thin_to(segments: list[list[TrailPoint]], limit: int) -> list[list[TrailPoint]]:
    """Thin all segments alike until at most ``limit`` points are left, oldest going last.

    The tolerance doubles from 3 m, so a trail that fits keeps its corners. Segments
    too many to fit even as their two ends lose the oldest ones.
    """
    tolerance_m = 3.0
    thinned = [thin(segment, tolerance_m) for segment in segments]
    while sum(map(len, thinned)) > limit and any(len(segment) > 2 for segment in thinned):
        tolerance_m *= 2
        thinned = [thin(segment, tolerance_m) for segment in segments]
    while thinned and sum(map(len, thinned)) > limit:
        del thinned[0]
    return thinned


def _grid(point: TrailPoint) -> Grid:
    return round(point.lat * _DEGREES), round(point.lon * _DEGREES)


def pack(segment: Sequence[TrailPoint]) -> list[int]:
    """A segment as it goes to the browser."""
    packed: list[int] = []
    lat_before = lon_before = 0
    for point in segment:
        lat, lon = _grid(point)
        packed += (lat - lat_before, lon - lon_before)
        lat_before, lon_before = lat, lon
    return packed


@dataclass(slots=True)
class Trail:
    """The trail of one vehicle, as the feed keeps it."""

    limit: int
    segments: list[list[TrailPoint]] = field(default_factory=list)
    _newest: TrailPoint | None = None

    @property
    def points(self) -> int:
        """How many points it has."""
        return sum(map(len, self.segments))

    @property
    def gaps(self) -> int:
        """In how many places fixes are missing."""
        return max(0, len(self.segments) - 1)

    def load(self, fixes: Sequence[TrailPoint]) -> None:
        """Take what the history holds, in order of time, in place of what was known."""
        self.segments = thin_to(split(fixes), self.limit)
        self._newest = fixes[-1] if fixes else None

    def add(self, point: TrailPoint) -> bool:
        """Take a new fix; whether it changed the trail. One that is not newer does not."""
        newest = self._newest
        if newest is not None and point.timestamp_ms <= newest.timestamp_ms:
            return False
        self._newest = point
        if newest is None or is_gap(newest, point):
            self.segments.append([point])
            return True
        last = self.segments[-1][-1]
        if distance_m(last.lat, last.lon, point.lat, point.lon) < MIN_STEP_M:
            return False
        self.segments[-1].append(point)
        return True

    def trim(self, oldest_ms: int) -> bool:
        """Bound it: to half the points when over the limit, and to ``oldest_ms`` by age.

        Whether it did; a good deal is taken away at once and not a point at a time.
        """
        if self.points > self.limit:
            self.segments = thin_to(self.segments, self.limit // 2)
            return True
        if not self.segments or self.segments[0][0].timestamp_ms >= oldest_ms - AGE_SLACK_MS:
            return False
        recent = ([p for p in segment if p.timestamp_ms >= oldest_ms] for segment in self.segments)
        self.segments = [segment for segment in recent if segment]
        return True

    def packed(self) -> list[list[int]]:
        """All segments as they go to the browser."""
        return [pack(segment) for segment in self.segments]
