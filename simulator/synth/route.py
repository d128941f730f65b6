"""Where the drive goes: a line of way points with its corners rounded.

Plane coordinates are metres east (x) and north (y) of the route's first point on a plane
that touches the Earth there; over the few kilometres of a route the error stays below
the receiver's noise.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Final

EARTH_RADIUS_M: Final = 6_371_008.8
CORNER_RADIUS_M: Final = 14.0
ARC_STEP_M: Final = 1.0
LARGEST_SHARE_OF_A_LEG: Final = 0.45
"""Of a leg, what one of its two corners may take."""


@dataclass(frozen=True, slots=True)
class WayPoint:
    """A corner of the route, and what holds from here to the next one."""

    lat: float
    lon: float
    limit_kmh: float = 50.0
    stop: bool = False
    """A traffic light that shows red, or a zebra crossing with somebody on it."""
    tunnel: bool = False
    """The way to the next point has no view of the sky."""


@dataclass(frozen=True, slots=True)
class Corner:
    """A rounded corner: from where to where along the route, and how tight."""

    start_m: float
    end_m: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the route with one speed limit."""

    start_m: float
    end_m: float
    limit_kmh: float
    tunnel: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the route: WGS 84, degrees, and the direction of travel."""

    lat: float
    lon: float
    heading_deg: float


class Plane:
    """The plane that touches the Earth at one point."""

    def __init__(self, lat: float, lon: float) -> None:
        self._lat = lat
        self._lon = lon
        self._metres_per_lat = math.radians(1) * EARTH_RADIUS_M
        self._metres_per_lon = self._metres_per_lat * math.cos(math.radians(lat))

    def to_metres(self, lat: float, lon: float) -> tuple[float, float]:
        """East and north of the plane's origin, metres."""
        return (
            (lon - self._lon) * self._metres_per_lon,
            (lat - self._lat) * self._metres_per_lat,
        )

    def to_degrees(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Latitude and longitude."""
        return self._lat + y_m / self._metres_per_lat, self._lon + x_m / self._metres_per_lon


class Route:
    """A drivable line; positions are asked for by the distance from its start.

    Raises:
        ValueError: fewer than two way points, or two of them at the same place.
    """

    def __init__(self, way_points: tuple[WayPoint, ...]) -> None:
        if len(way_points) < 2:
            raise ValueError("a route needs at least two way points")
        self.plane = Plane(way_points[0].lat, way_points[0].lon)
        points = [self.plane.to_metres(point.lat, point.lon) for point in way_points]
        self.corners: tuple[Corner, ...]
        self.spans: tuple[Span, ...]
        self.stops_m: tuple[float, ...]
        self._line: list[tuple[float, float]] = []
        self._distances: list[float] = []
        self._lay(way_points, points)

    @property
    def length_m(self) -> float:
        """From the first way point to the last, corners cut as they are driven."""
        return self._distances[-1]

    def place(self, distance_m: float) -> Place:
        """The point at ``distance_m`` from the start; clamped to the route's ends."""
        x_m, y_m, heading_deg = self._at(distance_m)
        lat, lon = self.plane.to_degrees(x_m, y_m)
        return Place(lat, lon, heading_deg)

    def limit_kmh(self, distance_m: float) -> float:
        """The speed limit of the street there."""
        return self._span(distance_m).limit_kmh

    def in_tunnel(self, distance_m: float) -> bool:
        """Whether the sky is hidden there."""
        return self._span(distance_m).tunnel

    def curvature(self, distance_m: float) -> float:
        """1/m; positive in a left-hand bend. The heading's change over four metres."""
        before, after = max(0.0, distance_m - 2), min(self.length_m, distance_m + 2)
        if after <= before:
            return 0.0
        turn = (self._at(before)[2] - self._at(after)[2] + 540) % 360 - 180
        return math.radians(turn) / (after - before)

    def _span(self, distance_m: float) -> Span:
        for span in self.spans:
            if distance_m < span.end_m:
                return span
        return self.spans[-1]

    def _at(self, distance_m: float) -> tuple[float, float, float]:
        distance_m = min(max(distance_m, 0.0), self.length_m)
        index = min(bisect.bisect_right(self._distances, distance_m), len(self._line) - 1)
        (x0, y0), (x1, y1) = self._line[index - 1], self._line[index]
        leg_m = self._distances[index] - self._distances[index - 1]
        share = (distance_m - self._distances[index - 1]) / leg_m
        heading = math.degrees(math.atan2(x1 - x0, y1 - y0)) % 360
        return x0 + (x1 - x0) * share, y0 + (y1 - y0) * share, heading

    def _lay(self, way_points: tuple[WayPoint, ...], points: list[tuple[float, float]]) -> None:
        corners, marks_m = [], [0.0]
        self._append(points[0])
        for before, here, after in zip(points, points[1:], points[2:], strict=False):
            arc, radius_m = rounded(before, here, after)
            self._append(arc[0])
            start_m = self._distances[-1]
            for point in arc[1:]:
                self._append(point)
            end_m = self._distances[-1]
            if radius_m is not None:
                corners.append(Corner(start_m, end_m, radius_m))
            marks_m.append((start_m + end_m) / 2)
        self._append(points[-1])
        marks_m.append(self._distances[-1])
        self.corners = tuple(corners)
        self.spans = tuple(
            Span(start_m, end_m, point.limit_kmh, point.tunnel)
            for point, start_m, end_m in zip(way_points, marks_m, marks_m[1:], strict=False)
        )
        self.stops_m = tuple(
            mark_m for point, mark_m in zip(way_points, marks_m, strict=True) if point.stop
        )

    def _append(self, point: tuple[float, float]) -> None:
        if not self._line:
            self._line.append(point)
            self._distances.append(0.0)
            return
        leg_m = math.dist(self._line[-1], point)
        if leg_m < 1e-6:
            return
        self._line.append(point)
        self._distances.append(self._distances[-1] + leg_m)


def rounded(
    before: tuple[float, float], here: tuple[float, float], after: tuple[float, float]
) -> tuple[list[tuple[float, float]], float | None]:
    """The corner at ``here`` as points on a circle's arc, and the radius in metres.

    A bend of less than two degrees stays as it is, with no radius.

    Raises:
        ValueError: two of the points are the same.
    """
    leg_in, leg_out = math.dist(before, here), math.dist(here, after)
    if min(leg_in, leg_out) < 1:
        raise ValueError("two way points lie less than a metre apart")
    ux, uy = (here[0] - before[0]) / leg_in, (here[1] - before[1]) / leg_in
    vx, vy = (after[0] - here[0]) / leg_out, (after[1] - here[1]) / leg_out
    turn = math.atan2(ux * vy - uy * vx, ux * vx + uy * vy)
    if abs(turn) < math.radians(2):
        return [here], None
    half = math.tan(abs(turn) / 2)
    # a gentle bend of a street is wide, a crossing is tight
    wanted_m = CORNER_RADIUS_M * max(1.0, math.radians(90) / abs(turn)) ** 1.5
    tangent_m = min(wanted_m * half, LARGEST_SHARE_OF_A_LEG * min(leg_in, leg_out))
    radius_m = tangent_m / half
    side = math.copysign(1.0, turn)
    start = (here[0] - ux * tangent_m, here[1] - uy * tangent_m)
    centre = (start[0] - side * uy * radius_m, start[1] + side * ux * radius_m)
    steps = max(2, math.ceil(radius_m * abs(turn) / ARC_STEP_M))
    arc = []
    for step in range(steps + 1):
        angle = turn * step / steps
        dx, dy = start[0] - centre[0], start[1] - centre[1]
        arc.append(
            (
                centre[0] + dx * math.cos(angle) - dy * math.sin(angle),
                centre[1] + dx * math.sin(angle) + dy * math.cos(angle),
            )
        )
    return arc, radius_m
