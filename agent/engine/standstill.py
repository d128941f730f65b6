"""Standstill: whether the vehicle stands, and where; decided from its fixes. Pure.

The position of a standing receiver wanders by metres and its speed shows one or two km/h.
So a vehicle that stands is held where it stopped until there is evidence that it moves.

========  ===========================================================================
stands    slower than ``standing_below_kmh`` for ``QUIET_S``; or within ``REST_RADIUS_M``
          for ``REST_S``, whatever a noisy speed below ``CLEARLY_MOVING_KMH`` says
moves     CAN says ``standing_below_kmh`` or more: at once
moves     GPS says ``DEPART_KMH`` or more, fix after fix, over ``DEPART_M``, and the
          position has gone at least half as far; ``DEPART_AGAINST_CAN_M`` where CAN says
          that it stands (towed, or a sensor that is stuck)
moves     the receiver never says a speed, and ``LEAVING_FIXES`` in a row lie twice as far
          away as drift
is held   the position lies further away than drift for ``WRONG_PLACE_S`` without a speed:
elsewhere it was held at the wrong place, or was carried slowly; nothing was driven
========  ===========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.engine.geo import apart_m, elapsed_s
from agent.inputs import Fix

QUIET_S: Final = 5.0
REST_S: Final = 20.0
REST_RADIUS_M: Final = 10.0
CLEARLY_MOVING_KMH: Final = 6.0

DEPART_KMH: Final = 3.0
DEPART_M: Final = 8.0
DEPART_AGAINST_CAN_M: Final = 50.0

DRIFT_M: Final = (30.0, 100.0)
"""How far a position may drift: the receiver's own error, within these bounds."""

LEAVING_FIXES: Final = 3
WRONG_PLACE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Departure:
    """Evidence of a departure under way: where it began, and what the speeds add up to."""

    begin: Fix
    travelled_m: float = 0.0


class Standstill:
    """Feed it each fix that is believed, in order."""

    def __init__(self, standing_below_kmh: float) -> None:
        self._standing_below_kmh = standing_below_kmh
        self._last: Fix | None = None
        self._quiet_since: Fix | None = None
        self._rests_since: Fix | None = None
        self._departure: Departure | None = None
        self._away: list[Fix] = []
        self.held: Fix | None = None
        """Where the vehicle stands, or ``None`` while it moves or nothing is known."""

    def observe(self, fix: Fix, can_speed_kmh: float | None) -> float:
        """Metres driven before the standstill was found to be over with this fix; mostly 0."""
        before, self._last = self._last, fix
        if self.held is None:
            self._look_for_rest(fix, can_speed_kmh)
            return 0.0
        departed_m = self._departed_m(self.held, before or fix, fix, can_speed_kmh)
        if departed_m is not None:
            self._leave()
            return departed_m
        self._look_for_wrong_place(self.held, fix)
        return 0.0

    def move(self, fix: Fix) -> None:
        """The vehicle was found elsewhere: what was held does not count any more."""
        self._leave()
        self._last = fix

    def _leave(self) -> None:
        self.held = self._departure = self._quiet_since = self._rests_since = None
        self._away.clear()

    def _look_for_rest(self, fix: Fix, can_speed_kmh: float | None) -> None:
        gps_kmh = fix.speed_kmh
        speed_kmh = gps_kmh if can_speed_kmh is None else can_speed_kmh
        is_slow = speed_kmh is not None and speed_kmh < self._standing_below_kmh
        is_moving_by_can = can_speed_kmh is not None and not is_slow
        if is_moving_by_can or (gps_kmh is not None and gps_kmh >= CLEARLY_MOVING_KMH):
            self._quiet_since = self._rests_since = None
            return
        if not is_slow:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = fix
        if self._rests_since is None or apart_m(self._rests_since, fix) > REST_RADIUS_M:
            self._rests_since = fix
        quiet = self._quiet_since
        is_quiet = quiet is not None and elapsed_s(quiet, fix) >= QUIET_S
        if is_quiet or elapsed_s(self._rests_since, fix) >= REST_S:
            self.held = fix

    def _departed_m(
        self, held: Fix, before: Fix, fix: Fix, can_speed_kmh: float | None
    ) -> float | None:
        """What was driven since the departure if this fix is the last evidence of it."""
        if can_speed_kmh is not None and can_speed_kmh >= self._standing_below_kmh:
            return self._departure.travelled_m if self._departure else 0.0
        if fix.speed_kmh is None:
            return self._left_without_speed_m(held, fix)
        if fix.speed_kmh < DEPART_KMH:
            self._departure = None
            return None
        departure = self._departure or Departure(before)
        mean_kmh = (fix.speed_kmh + (before.speed_kmh or 0.0)) / 2
        # over a gap nothing is known of the speed
        passed_s = min(max(elapsed_s(before, fix), 0.0), QUIET_S)
        travelled_m = departure.travelled_m + mean_kmh / 3.6 * passed_s
        self._departure = Departure(departure.begin, travelled_m)
        needed_m = DEPART_M if can_speed_kmh is None else DEPART_AGAINST_CAN_M
        if travelled_m < needed_m or apart_m(departure.begin, fix) < travelled_m / 2:
            return None
        return travelled_m

    def _left_without_speed_m(self, held: Fix, fix: Fix) -> float | None:
        if apart_m(held, fix) <= 2 * _drift_m(fix):
            self._away.clear()
            return None
        self._away.append(fix)
        return apart_m(held, fix) if len(self._away) >= LEAVING_FIXES else None

    def _look_for_wrong_place(self, held: Fix, fix: Fix) -> None:
        if fix.speed_kmh is None:
            return
        if apart_m(held, fix) <= _drift_m(fix):
            self._away.clear()
            return
        self._away.append(fix)
        del self._away[1:]
        if elapsed_s(self._away[0], fix) >= WRONG_PLACE_S:
            self._away.clear()
            self.held = fix


def _drift_m(fix: Fix) -> float:
    least_m, most_m = DRIFT_M
    return min(max(fix.accuracy_m or least_m, least_m), most_m)
