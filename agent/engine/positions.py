"""Position checks: what cannot be is rejected and counted by reason. Pure.

A receiver is wrong in ways of its own: 0/0 before its first fix, a jump when satellites
are reflected, time that runs backwards. A position is compared with the last one that was
believed. When that one itself was wrong, or the vehicle was carried, everything after it
would be rejected for ever; so several rejects that agree with each other are believed.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from agent.inputs import Fix

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius (IUGG)."""

ZERO_BAND_DEG: Final = 1e-4
"""11 m around 0/0, where there is only sea."""

DEFAULT_ERROR_M: Final = 15.0
"""Taken where a fix does not say how accurate it is."""

AGREEING_REJECTS: Final = 3


class Reject(StrEnum):
    """Why a position was not believed; the names are counters' names."""

    ZERO_POSITION = "zero_position"
    """Latitude and longitude 0."""

    REPORTED_SPEED = "reported_speed"
    """The receiver claims a speed above the limit."""

    IMPLIED_SPEED = "implied_speed"
    """Too far from the last position for the time between."""

    TIME_BACKWARDS = "time_backwards"
    """Measured before the last one."""


class PositionCheck:
    """Feed it every new fix, in the order of arrival."""

    def __init__(self, max_speed_kmh: float) -> None:
        self._max_speed_mps = max_speed_kmh / 3.6
        self._last: Fix | None = None
        self._doubtful: list[Fix] = []
        self.rejected: dict[str, int] = {}

    def check(self, fix: Fix) -> Reject | None:
        """``None`` if the fix is believed, else why not."""
        reason = self._check_alone(fix)
        if reason is None and self._last is not None:
            reason = self._check_pair(self._last, fix)
            if reason is not None and self._rejects_agree(fix):
                reason = None
        if reason is not None:
            self.rejected[reason.value] = self.rejected.get(reason.value, 0) + 1
            return reason
        self._last = fix
        self._doubtful.clear()
        return None

    def _check_alone(self, fix: Fix) -> Reject | None:
        if abs(fix.lat) < ZERO_BAND_DEG and abs(fix.lon) < ZERO_BAND_DEG:
            return Reject.ZERO_POSITION
        if fix.speed_kmh is not None and fix.speed_kmh / 3.6 > self._max_speed_mps:
            return Reject.REPORTED_SPEED
        return None

    def _check_pair(self, before: Fix, fix: Fix) -> Reject | None:
        elapsed_s = _elapsed_s(before, fix)
        if elapsed_s < 0:
            return Reject.TIME_BACKWARDS
        error_m = _error_m(before) + _error_m(fix)
        moved_m = distance_m(before.lat, before.lon, fix.lat, fix.lon)
        if moved_m - error_m > self._max_speed_mps * elapsed_s:
            return Reject.IMPLIED_SPEED
        return None

    def _rejects_agree(self, fix: Fix) -> bool:
        """Whether this fix and those rejected just before it could be one drive."""
        if self._doubtful and self._check_pair(self._doubtful[-1], fix) is not None:
            self._doubtful.clear()
        self._doubtful.append(fix)
        return len(self._doubtful) >= AGREEING_REJECTS


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance (haversine), metres."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_lat = math.sin((phi2 - phi1) / 2)
    half_lon = math.sin(math.radians(lon2 - lon1) / 2)
    chord = half_lat * half_lat + math.cos(phi1) * math.cos(phi2) * half_lon * half_lon
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(chord)))


def _elapsed_s(before: Fix, fix: Fix) -> float:
    """By the receiver's time where both have one: arrival times bunch and stretch."""
    if before.time is not None and fix.time is not None:
        return (fix.time - before.time).total_seconds()
    return fix.received_s - before.received_s


def _error_m(fix: Fix) -> float:
    return DEFAULT_ERROR_M if fix.accuracy_m is None else max(fix.accuracy_m, 1.0)
