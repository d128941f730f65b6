"""The distance that a receiver has travelled, without its noise. Pure.

Positions wander, so the sum of the steps between them grows while nothing moves and zigzags
while something does. A receiver measures its speed by itself (Doppler), to a few cm/s; so
from fix to fix the speed counts. Positions count where speeds do not: over a gap, and with
receivers that say none; there in straight lines of ``RULER_M`` at least, so that what is
told is rather too short than too long.
"""

from __future__ import annotations

from typing import Final

from agent.engine.geo import apart_m, elapsed_s
from agent.inputs import Fix

GAP_S: Final = 3.0
RULER_M: Final = 10.0


class Travel:
    """Feed it each fix that is believed, in order."""

    def __init__(self) -> None:
        self._last: Fix | None = None

    def move(self, fix: Fix) -> None:
        """The vehicle is here, and the way to here does not count: it stands, or was carried."""
        self._last = fix

    def observe(self, fix: Fix) -> float:
        """Metres travelled since the last fix that brought some."""
        last = self._last
        if last is None:
            self._last = fix
            return 0.0
        passed_s = elapsed_s(last, fix)
        step_m = apart_m(last, fix)
        if step_m == 0:
            # the last position repeated: its speed would count what a later fix tells better
            return 0.0
        if last.speed_kmh is None or fix.speed_kmh is None or not 0 <= passed_s <= GAP_S:
            if step_m < RULER_M:
                return 0.0
            self._last = fix
            return step_m
        self._last = fix
        return (last.speed_kmh + fix.speed_kmh) / 2 / 3.6 * passed_s
