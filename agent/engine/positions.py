"""Position checks: what cannot be is rejected and counted by reason. Pure.

A receiver is wrong in ways of its own: 0/0 before its first fix, a jump when satellites
are reflected, time that runs backwards, the last position again and again in a tunnel. A
position is compared with the last one that was believed. When that one itself was wrong,
or the vehicle was carried, everything after it would be rejected for ever; so several
rejects that agree with each other are believed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from agent.engine.geo import apart_m, elapsed_s
from agent.inputs import Fix

ZERO_BAND_DEG: Final = 1e-4
"""11 m around 0/0, where there is only sea."""

DEFAULT_ERROR_M: Final = 15.0
"""Taken where a fix does not say how accurate it is."""

AGREEING_REJECTS: Final = 3

FUTURE_S: Final = 60.0
"""Ahead of the trusted time by more: no clock that vehicles carry is wrong by that."""

HARDEST_MPS2: Final = 10.0
"""What tyres can transmit; with the reported speed it bounds how far a vehicle can get."""

JUMP_MARGIN_M: Final = 10.0
JUMP_WITHIN_S: Final = 3.0
"""Over a longer gap the speeds at its ends say little of what was driven."""

FROZEN_ABOVE_KMH: Final = 5.0
FROZEN_AFTER_M: Final = 10.0
FROZEN_AFTER_S: Final = 3.0
"""Of travel that the receiver claims without moving by the last decimal."""

REPEATED_FOR_S: Final = 1.0
"""A bus may carry each position several times: it may be older than its last repetition."""


class Reject(StrEnum):
    """Why a position was not believed; the names are counters' names."""

    ZERO_POSITION = "zero_position"
    """Latitude and longitude 0."""

    REPORTED_SPEED = "reported_speed"
    """The receiver claims a speed above the limit."""

    INACCURATE = "inaccurate"
    """The receiver itself claims an error above the limit."""

    FROZEN = "frozen"
    """The very same position again, with a speed: the last fix repeated, as in a tunnel."""

    IMPLIED_SPEED = "implied_speed"
    """Too far from the last position for the time between."""

    JUMP = "jump"
    """Too far from the last position for the speeds that the receiver says at both."""

    TIME_BACKWARDS = "time_backwards"
    """Measured before the last one."""

    FUTURE_TIME = "future_time"
    """Ahead of the trusted time, and the receiver was not so before."""


FINAL: Final = frozenset(
    {Reject.ZERO_POSITION, Reject.REPORTED_SPEED, Reject.INACCURATE, Reject.FROZEN}
)
"""Wrong however often they are said; the others may be right when several agree."""


class PositionCheck:
    """Feed it every new fix, in the order of arrival."""

    def __init__(self, max_speed_kmh: float, max_error_m: float) -> None:
        self._max_speed_mps = max_speed_kmh / 3.6
        self._max_error_m = max_error_m
        self._last: Fix | None = None
        self._first_here: Fix | None = None
        """The first of those that were believed at exactly the last one's place."""
        self._doubtful: list[Fix] = []
        self.rejected: dict[str, int] = {}
        self.moved_over = False
        """Whether the last one was believed against the one before, as others agree."""

    def check(self, fix: Fix, ahead_s: float | None = None) -> Reject | None:
        """``None`` if the fix is believed, else why not.

        ``ahead_s`` is how far its time is ahead of the trusted time; ``None`` where nothing
        is known of that.
        """
        reason = self._doubt(fix, ahead_s)
        self.moved_over = False
        if reason is not None and reason not in FINAL and self._rejects_agree(fix):
            reason = None
            self.moved_over = True
        if reason is not None:
            self.rejected[reason.value] = self.rejected.get(reason.value, 0) + 1
            return reason
        if self._first_here is None or not _same_place(self._first_here, fix):
            self._first_here = fix
        self._last = fix
        self._doubtful.clear()
        return None

    def _doubt(self, fix: Fix, ahead_s: float | None) -> Reject | None:
        if abs(fix.lat) < ZERO_BAND_DEG and abs(fix.lon) < ZERO_BAND_DEG:
            return Reject.ZERO_POSITION
        if fix.speed_kmh is not None and fix.speed_kmh / 3.6 > self._max_speed_mps:
            return Reject.REPORTED_SPEED
        if fix.accuracy_m is not None and fix.accuracy_m > self._max_error_m:
            return Reject.INACCURATE
        if self._is_frozen(fix):
            return Reject.FROZEN
        if ahead_s is not None and ahead_s > FUTURE_S and not self._keeps_time(fix):
            return Reject.FUTURE_TIME
        if self._last is None or self._first_here is None:
            return None
        repeated_s = min(elapsed_s(self._first_here, self._last), REPEATED_FOR_S)
        return self._check_pair(self._last, fix, max(repeated_s, 0.0))

    def _is_frozen(self, fix: Fix) -> bool:
        first = self._first_here
        if first is None or fix.speed_kmh is None or fix.speed_kmh < FROZEN_ABOVE_KMH:
            return False
        passed_s = elapsed_s(first, fix)
        if passed_s < FROZEN_AFTER_S or fix.speed_kmh / 3.6 * passed_s < FROZEN_AFTER_M:
            return False
        return _same_place(first, fix)

    def _keeps_time(self, fix: Fix) -> bool:
        """Whether the receiver's clock is where it was at the last fix that was believed."""
        last = self._last
        if last is None or last.time is None or fix.time is None:
            return False
        arrived_s = fix.received_s - last.received_s
        return abs((fix.time - last.time).total_seconds() - arrived_s) <= FUTURE_S

    def _check_pair(self, before: Fix, fix: Fix, repeated_s: float = 0.0) -> Reject | None:
        passed_s = elapsed_s(before, fix)
        if passed_s < 0:
            return Reject.TIME_BACKWARDS
        passed_s += repeated_s
        surely_m = apart_m(before, fix) - _error_m(before) - _error_m(fix)
        if surely_m > self._max_speed_mps * passed_s:
            return Reject.IMPLIED_SPEED
        if before.speed_kmh is None or fix.speed_kmh is None or passed_s > JUMP_WITHIN_S:
            return None
        fastest_mps = max(before.speed_kmh, fix.speed_kmh) / 3.6 + HARDEST_MPS2 * passed_s
        return Reject.JUMP if surely_m > fastest_mps * passed_s + JUMP_MARGIN_M else None

    def _rejects_agree(self, fix: Fix) -> bool:
        """Whether this fix and those rejected just before it could be one drive."""
        if self._doubtful and self._check_pair(self._doubtful[-1], fix) is not None:
            self._doubtful.clear()
        self._doubtful.append(fix)
        return len(self._doubtful) >= AGREEING_REJECTS


def _same_place(one: Fix, other: Fix) -> bool:
    return (one.lat, one.lon) == (other.lat, other.lon)


def _error_m(fix: Fix) -> float:
    return DEFAULT_ERROR_M if fix.accuracy_m is None else max(fix.accuracy_m, 1.0)
