"""What a GNSS receiver makes of the drive: noise, satellites, a tunnel.

The error of the position wanders (first-order Gauss-Markov, as multipath and the
ionosphere do) instead of jumping. Under a roof there is no fix; out of it again the
receiver needs a moment, and its first fixes are the worst.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from simulator.synth.route import Plane, Route
from simulator.synth.schedule import Schedule

WANDER_SIGMA_M: Final = 1.3
WANDER_TIME_S: Final = 60.0
JITTER_M: Final = 0.05
SPEED_SIGMA_MPS: Final = 0.04
COURSE_FROM_MPS: Final = 0.6
"""Slower than this, a receiver does not know its course and says none."""

FIRST_FIX_S: Final = 3.0
REACQUIRE_S: Final = 2.5
POOR_FOR_S: Final = 12.0
WORST_M: Final = 9.0
RIVER_ALTITUDE_M: Final = 98.0
RIVER_LAT: Final = 50.106
RISE_M_PER_DEGREE: Final = 1_050.0
GEOID_SEPARATION_M: Final = 47.7

GPS: Final = ((3, 62, 118), (4, 47, 292), (6, 33, 68), (7, 12, 201), (9, 21, 244),
              (16, 71, 284), (26, 38, 164), (29, 9, 338), (31, 25, 96))  # fmt: skip
GALILEO: Final = ((2, 55, 83), (8, 28, 310), (15, 66, 221), (25, 17, 146), (30, 41, 18))
"""Number, elevation and azimuth (degrees) of the satellites in view at the start."""


@dataclass(frozen=True, slots=True)
class SatelliteInView:
    """One satellite, as GSV says it; ``snr_dbhz`` is None when it is not heard."""

    number: int
    elevation_deg: int
    azimuth_deg: int
    snr_dbhz: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """One epoch of the receiver. Without a fix the values below ``fix`` say nothing."""

    time: datetime
    gps: tuple[SatelliteInView, ...]
    galileo: tuple[SatelliteInView, ...]
    fix: bool
    lat: float
    lon: float
    altitude_m: float
    speed_mps: float
    course_deg: float | None
    hdop: float
    vdop: float
    lat_sigma_m: float
    lon_sigma_m: float
    altitude_sigma_m: float


def receive(
    route: Route, schedule: Schedule, rng: random.Random, *, start: datetime, rate_hz: int
) -> list[Reception]:
    """The epochs of the whole drive, ``rate_hz`` a second, from ``start`` on."""
    step_s = 1 / rate_hz
    wander = [_Wander(rng, step_s) for _ in range(3)]
    receptions = []
    last_dark_s = FIRST_FIX_S - REACQUIRE_S
    for index in range(int(schedule.duration_s * rate_hz) + 1):
        time_s = index * step_s
        motion = schedule.at(time_s)
        if route.in_tunnel(motion.distance_m):
            last_dark_s = time_s
        heard = time_s == 0 or last_dark_s < time_s
        fix = time_s - last_dark_s >= REACQUIRE_S
        poor = max(0.0, 1 - (time_s - last_dark_s - REACQUIRE_S) / POOR_FOR_S) if fix else 1.0
        east_m, north_m, up_m = (
            walk.step() * (1 + 2 * poor) + rng.gauss(0, JITTER_M) for walk in wander
        )
        east_m += WORST_M * poor * poor * (last_dark_s > FIRST_FIX_S)
        place = route.place(motion.distance_m)
        lat, lon = Plane(place.lat, place.lon).to_degrees(east_m, north_m)
        speed_mps = abs(motion.speed_mps + rng.gauss(0, SPEED_SIGMA_MPS))
        course_noise = math.degrees(SPEED_SIGMA_MPS / max(1.0, speed_mps))
        course = (place.heading_deg + rng.gauss(0, course_noise)) % 360
        sigma_m = (1.1 + 0.5 * rng.random()) * (1 + 3 * poor)
        receptions.append(
            Reception(
                time=start + timedelta(milliseconds=round(time_s * 1000)),
                gps=_in_view(GPS, time_s, rng, heard=heard),
                galileo=_in_view(GALILEO, time_s, rng, heard=heard),
                fix=fix,
                lat=lat,
                lon=lon,
                altitude_m=_altitude_m(place.lat) + 1.6 * up_m,
                speed_mps=speed_mps,
                course_deg=course if motion.speed_mps >= COURSE_FROM_MPS else None,
                hdop=0.72 + 0.12 * rng.random() + 2.4 * poor,
                vdop=1.05 + 0.2 * rng.random() + 3.1 * poor,
                lat_sigma_m=sigma_m * 1.1,
                lon_sigma_m=sigma_m * 0.9,
                altitude_sigma_m=sigma_m * 1.9,
            )
        )
    return receptions


class _Wander:
    """A first-order Gauss-Markov process with a standard deviation in metres."""

    def __init__(self, rng: random.Random, step_s: float) -> None:
        self._rng = rng
        self._keep = math.exp(-step_s / WANDER_TIME_S)
        self._push = WANDER_SIGMA_M * math.sqrt(1 - self._keep**2)
        self._value = rng.gauss(0, WANDER_SIGMA_M)

    def step(self) -> float:
        self._value = self._value * self._keep + self._rng.gauss(0, self._push)
        return self._value


def _altitude_m(lat: float) -> float:
    """The ground rises gently from the river's northern bank."""
    return RIVER_ALTITUDE_M + max(0.0, lat - RIVER_LAT) * RISE_M_PER_DEGREE


def _in_view(
    constellation: tuple[tuple[int, int, int], ...],
    time_s: float,
    rng: random.Random,
    *,
    heard: bool,
) -> tuple[SatelliteInView, ...]:
    satellites = []
    for number, elevation, azimuth in constellation:
        drift = 1 if number % 2 else -1
        now_elevation = min(89, max(6, round(elevation + drift * time_s / 180)))
        now_azimuth = round(azimuth + time_s / 150) % 360
        noise = rng.gauss(0, 1.2)
        strength = round(30 + 16 * math.sin(math.radians(now_elevation)) + noise)
        satellites.append(
            SatelliteInView(number, now_elevation, now_azimuth, strength if heard else None)
        )
    return tuple(satellites)
