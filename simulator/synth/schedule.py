"""When the vehicle is where: speed along the route within what a driver would do.

The speed over distance is the highest that keeps to the street's limit, to a comfortable
lateral acceleration in corners, to standstill at the stops, and to the longitudinal
limits (one pass forwards for pulling away, one backwards for braking). Over time it is
then smoothed, so that the acceleration has no steps either.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from dataclasses import dataclass
from typing import Final

from simulator.synth.route import Route

PULL_AWAY_MPS2: Final = 1.5
BRAKE_MPS2: Final = 1.7
LATERAL_MPS2: Final = 2.0
LOWEST_CORNER_MPS: Final = 2.5
STEP_M: Final = 0.5
TICK_S: Final = 0.05
SMOOTHING_S: Final = 0.8


@dataclass(frozen=True, slots=True)
class Motion:
    """The vehicle at one moment."""

    distance_m: float
    speed_mps: float
    acceleration_mps2: float


class Schedule:
    """Distance, speed and acceleration by time since the drive's beginning.

    The vehicle stands for ``parked_before_s``, drives the route, and stands for
    ``parked_after_s``. ``departure_s`` and ``arrival_s`` bound the driving.
    """

    def __init__(
        self,
        route: Route,
        rng: random.Random,
        *,
        parked_before_s: float,
        parked_after_s: float,
        stop_s: tuple[float, float],
        top_speed_kmh: float = math.inf,
    ) -> None:
        self.departure_s = parked_before_s
        times, distances = _timed(route, rng, parked_before_s, stop_s, top_speed_kmh)
        self.arrival_s = times[-1] + SMOOTHING_S
        self.duration_s = self.arrival_s + parked_after_s
        ticks = math.ceil(self.duration_s / TICK_S) + 2
        raw = [_interpolated(times, distances, tick * TICK_S) for tick in range(ticks)]
        width = round(SMOOTHING_S / TICK_S) // 2
        self._distances = _smoothed(_smoothed(raw, width), width)

    def at(self, time_s: float) -> Motion:
        """The state at ``time_s``, clamped to the drive."""
        position = min(max(time_s / TICK_S, 1.0), len(self._distances) - 2.001)
        index = int(position)
        share = position - index
        before, here, after = self._distances[index - 1 : index + 2]
        distance_m = here + (after - here) * share
        speed_mps = (after - before) / (2 * TICK_S)
        acceleration = (after - 2 * here + before) / TICK_S**2
        return Motion(distance_m, max(0.0, speed_mps), acceleration)


def speed_limits(route: Route, rng: random.Random, top_speed_kmh: float = math.inf) -> list[float]:
    """The speed in m/s at every ``STEP_M`` of the route, accelerations kept."""
    count = math.ceil(route.length_m / STEP_M) + 1
    keenness = {id(span): rng.uniform(0.86, 0.99) for span in route.spans}
    speeds = []
    spans = iter(route.spans)
    span = next(spans)
    for step in range(count):
        while step * STEP_M >= span.end_m and span is not route.spans[-1]:
            span = next(spans)
        speeds.append(min(span.limit_kmh, top_speed_kmh) / 3.6 * keenness[id(span)])
    for corner in route.corners:
        fastest = max(LOWEST_CORNER_MPS, math.sqrt(LATERAL_MPS2 * corner.radius_m))
        first, last = int(corner.start_m / STEP_M), math.ceil(corner.end_m / STEP_M)
        for step in range(first, min(last + 1, count)):
            speeds[step] = min(speeds[step], fastest)
    for stop in (0.0, *route.stops_m, route.length_m):
        speeds[min(count - 1, round(stop / STEP_M))] = 0.0
    _limit_change(speeds, range(1, count), -1, PULL_AWAY_MPS2)
    _limit_change(speeds, range(count - 2, -1, -1), 1, BRAKE_MPS2)
    return speeds


def _limit_change(speeds: list[float], steps: range, neighbour: int, limit: float) -> None:
    for step in steps:
        reachable = math.sqrt(speeds[step + neighbour] ** 2 + 2 * limit * STEP_M)
        speeds[step] = min(speeds[step], reachable)


def _timed(
    route: Route,
    rng: random.Random,
    departure_s: float,
    stop_s: tuple[float, float],
    top_speed_kmh: float,
) -> tuple[list[float], list[float]]:
    speeds = speed_limits(route, rng, top_speed_kmh)
    times, distances = [0.0, departure_s], [0.0, 0.0]
    for step, (before, after) in enumerate(itertools.pairwise(speeds), start=1):
        times.append(times[-1] + 2 * STEP_M / (before + after))
        distances.append(step * STEP_M)
        if after == 0 and step < len(speeds) - 1:
            times.append(times[-1] + rng.uniform(*stop_s))
            distances.append(step * STEP_M)
    return times, distances


def _interpolated(times: list[float], values: list[float], time_s: float) -> float:
    index = bisect.bisect_right(times, time_s)
    if index == 0:
        return values[0]
    if index == len(times):
        return values[-1]
    span_s = times[index] - times[index - 1]
    share = (time_s - times[index - 1]) / span_s
    return values[index - 1] + (values[index] - values[index - 1]) * share


def _smoothed(values: list[float], width: int) -> list[float]:
    """A running mean over ``2 * width + 1`` values, the ends held."""
    padded = [values[0]] * width + values + [values[-1]] * width
    sums = [0.0, *itertools.accumulate(padded)]
    size = 2 * width + 1
    return [(sums[index + size] - sums[index]) / size for index in range(len(values))]
