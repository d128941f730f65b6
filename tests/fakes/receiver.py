"""A receiver's errors, added to a truth: what wanders, what jitters, speeds of its own."""

import math
import random
from dataclasses import replace

from agent.engine.geo import EARTH_RADIUS_M
from agent.inputs import Fix

METRES_PER_DEGREE = math.radians(1) * EARTH_RADIUS_M


def moved(fix, east_m, north_m):
    """The fix, as many metres away."""
    return replace(
        fix,
        lat=fix.lat + north_m / METRES_PER_DEGREE,
        lon=fix.lon + east_m / METRES_PER_DEGREE / math.cos(math.radians(fix.lat)),
    )


class Wander:
    """First-order Gauss-Markov, as multipath and the ionosphere do: metres."""

    def __init__(self, rng, sigma_m, time_s):
        self._rng, self._sigma_m, self._time_s = rng, sigma_m, time_s
        self._value_m = rng.gauss(0, sigma_m)

    def step(self, passed_s):
        keep = math.exp(-passed_s / self._time_s)
        push_m = self._sigma_m * math.sqrt(max(0.0, 1 - keep * keep))
        self._value_m = self._value_m * keep + self._rng.gauss(0, push_m)
        return self._value_m


class NoisyReceiver:
    """Makes of true fixes what a common receiver would have said; repeatable by its seed.

    ``spike_share`` of the speeds are wrong by up to ``spike_kmh``.
    """

    def __init__(
        self,
        seed,
        *,
        sigma_m=4.0,
        time_s=60.0,
        jitter_m=0.3,
        speed_sigma_kmh=0.4,
        spike_share=0.0,
        spike_kmh=8.0,
    ):
        self._rng = random.Random(seed)
        self._east, self._north = (Wander(self._rng, sigma_m, time_s) for _ in range(2))
        self._jitter_m, self._speed_sigma_kmh = jitter_m, speed_sigma_kmh
        self._spike_share, self._spike_kmh = spike_share, spike_kmh
        self._sigma_m = sigma_m
        self._last_s = None

    def fix(self, true):
        passed_s = 0.0 if self._last_s is None else true.received_s - self._last_s
        self._last_s = true.received_s
        rng = self._rng
        east_m, north_m = (
            walk.step(passed_s) + rng.gauss(0, self._jitter_m) for walk in (self._east, self._north)
        )
        speed_kmh = true.speed_kmh
        if speed_kmh is not None:
            speed_kmh = abs(speed_kmh + rng.gauss(0, self._speed_sigma_kmh))
            if rng.random() < self._spike_share:
                speed_kmh += rng.uniform(0, self._spike_kmh)
        return replace(
            moved(true, east_m, north_m),
            speed_kmh=speed_kmh,
            heading=rng.uniform(0, 360) if (speed_kmh or 0) < 2 else true.heading,
            accuracy_m=2.5 * self._sigma_m,
        )


def parked(length_s, *, start_s=1000.0, step_s=1.0, lat=50.1, lon=8.68):
    """A truth that does not move."""
    for index in range(round(length_s / step_s)):
        yield Fix(received_s=start_s + index * step_s, lat=lat, lon=lon, speed_kmh=0.0)
