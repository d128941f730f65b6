"""The distance that a receiver has travelled, without its noise. Pure.

Positions wander, so the sum of the steps between them grows while nothing moves and zigzags
while something does. A receiver measures its speed by itself (Doppler), to a few cm/s; so
from fix to fix the speed counts, as the median of itself and its neighbours, which a single
wrong one does not change. Positions count where speeds do not: over a gap, and with
receivers that say none; there in straight lines of ``RULER_M`` at least, so that what is
told is rather too short than too long.
"""

from __future__ import annotations

from statistics import median
from typing import Final

from agent.engine.geo import apart_m, elapsed_s
from agent.inputs import Fix

GAP_S: Final = 3.0
RULER_M: Final = 10.0


class Travel:
    """Feed it each fix that is believed, in order. What it counts is one fix late."""

    def __init__(self) -> None:
        self._counted: Fix | None = None
        """The way up to here is counted."""
        self._counted_kmh = 0.0
        self._next: Fix | None = None
        """Its speed waits for that of its other neighbour."""

    def move(self, fix: Fix) -> None:
        """The vehicle is here, and the way to here does not count: it stands, or was carried."""
        self._counted, self._counted_kmh, self._next = fix, _kmh(fix), None

    def observe(self, fix: Fix) -> float:
        """Metres travelled that were not told yet."""
        counted, latest = self._counted, self._next or self._counted
        if counted is None or latest is None:
            self.move(fix)
            return 0.0
        if apart_m(latest, fix) == 0:
            # the last position repeated: its speed would count what a later fix tells better
            return 0.0
        if not _is_joined(latest, fix):
            travelled_m = self._count_next(None)
            straight_m = apart_m(latest, fix)
            if straight_m < RULER_M:
                return travelled_m
            self.move(fix)
            return travelled_m + straight_m
        travelled_m = self._count_next(fix)
        self._next = fix
        return travelled_m

    def _count_next(self, neighbour: Fix | None) -> float:
        """The way to the fix that waits, whose neighbour has come or will not come."""
        counted, waiting = self._counted, self._next
        if counted is None or waiting is None:
            return 0.0
        kmh = _kmh(waiting)
        if neighbour is not None:
            kmh = median((_kmh(counted), kmh, _kmh(neighbour)))
        mean_kmh = (self._counted_kmh + kmh) / 2
        self._counted, self._counted_kmh, self._next = waiting, kmh, None
        return mean_kmh / 3.6 * elapsed_s(counted, waiting)


def _kmh(fix: Fix) -> float:
    """Only fixes without a speed have none, and those are never joined."""
    return fix.speed_kmh or 0.0


def _is_joined(before: Fix, fix: Fix) -> bool:
    """Whether the speeds of two fixes say what was driven between them."""
    if before.speed_kmh is None or fix.speed_kmh is None:
        return False
    return 0 <= elapsed_s(before, fix) <= GAP_S
