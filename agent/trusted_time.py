"""Which time is to be trusted: every rule of it, pure, in this one file.

Time is the monotonic clock (``CLOCK_BOOTTIME``: counted from the boot, through a suspend,
never stepped) plus an offset, the :class:`~agent.ports.TimeBase`. So nothing that happens
to the system's wall clock moves a timestamp unless a rule here says so.

===========================  ======================================================
what happens                 what is done
===========================  ======================================================
nobody vouches yet           the system's time at the start, provisional, called
                             ``unsynced``; steps of it are not followed
a fix                        trusted after ``FIXES_TO_AGREE`` that agree over
                             ``AGREE_SPAN_S``; of a window the least delayed counts
one fix that disagrees       ignored; ``FIXES_TO_AGREE`` that agree with each other
                             are followed (a receiver that learns of a leap second)
the kernel is synchronised   its clock counts where no fix came for ``GPS_HOLD_S``;
                             its steps are followed as long as it says so: that is
                             how a leap second comes
the kernel no more, no fix   the last offset stays good: a crystal drifts by about
                             0.1 s an hour at worst; never ``unsynced`` again
``date -s``                  ends the kernel's word, so it is not followed
a date before 2024           moved by whole 1,024 weeks into 2024 to 2043, as ICD-GPS
                             sends the week modulo 1,024; believed like any other
a fix that contradicts a     moved by 1,024 weeks either way where that makes it
synchronised kernel          agree, else not believed
1970, or a fix after 2080    not believed, whoever says it
23:59:60                     POSIX time has none: that second has the numbers of its
                             neighbour, in GPS time and in the kernel's alike
a restart of the process     the offset holds for the boot: it is kept in the runtime
                             directory with the boot's id (:mod:`agent.time_anchor`)
suspend and resume           the monotonic clock went on, so the offset still holds
===========================  ======================================================
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from agent.ports import TimeBase
from contract import TimeQuality

EARLIEST_PLAUSIBLE: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Before this software was."""

LATEST_PLAUSIBLE: Final = datetime(2080, 1, 1, tzinfo=UTC)

GPS_EPOCH: Final = datetime(1980, 1, 6, tzinfo=UTC)
"""GPS cannot say an earlier time; a program that lost the date can."""

ROLLOVER: Final = timedelta(weeks=1024)

FIXES_TO_AGREE: Final = 3
AGREE_S: Final = 0.8
"""Reports of a receiver come late by its own and the line's delay, which varies by less."""

AGREE_SPAN_S: Final = 1.5
"""Fixes that a stalled line delivers in one bunch agree with each other and prove nothing."""

STEP_S: Final = 0.2
"""A system's clock that moved by more was stepped; slewing moves the monotonic clock too."""

AGREE_GAP_S: Final = 30.0
"""A fix that comes longer after the one before agrees with nothing."""

MAX_DISAGREEMENT_S: Final = 60.0
"""GPS further than this from a kernel that is synchronised is not believed."""

GPS_HOLD_S: Final = 6 * 3600.0
"""Without a fix for so long, a synchronised kernel is the better clock."""

WINDOW_S: Final = 60.0
"""Two windows of this length are kept, so that an old best offset expires."""


class TrustedTime:
    """Feed it fixes and readings of the system's clock; ask it for the base. Not thread-safe.

    ``start_utc`` is what the system's clock says at ``start_s``; ``kept`` is a base that
    was trusted earlier in this boot.
    """

    def __init__(self, start_utc: datetime, start_s: float, kept: TimeBase | None = None) -> None:
        provisional = start_utc - timedelta(seconds=start_s)
        self._base = TimeBase(provisional, TimeQuality.UNSYNCED)
        if kept is not None and kept.trusted and is_plausible(kept.at(start_s)):
            self._base = kept
        self._system = start_utc - timedelta(seconds=start_s)
        self._kernel_vouches = False
        self._fixes = FixOffsets()

    def observe_system(self, utc: datetime, now_s: float, *, synchronised: bool) -> None:
        """The system's clock says ``utc`` at ``now_s``, and whether the kernel vouches for it."""
        self._kernel_vouches = synchronised and is_plausible(utc)
        self._system = utc - timedelta(seconds=now_s)
        if self._kernel_vouches and not self._gps_is_fresh(now_s):
            self._base = TimeBase(self._system, TimeQuality.NTP)

    def stepped(self, utc: datetime, now_s: float) -> bool:
        """Whether the system's clock was stepped since it was last observed."""
        return abs((utc - timedelta(seconds=now_s) - self._system).total_seconds()) > STEP_S

    def observe_fix(self, fix_time: datetime, received_s: float) -> datetime | None:
        """A fix says that it was ``fix_time`` just before ``received_s``.

        Returns its time as far as it is believed, moved where the week count was wrong;
        ``None`` if it is not, or not yet, believed.
        """
        moment = self._plausible_fix_time(fix_time, received_s)
        if moment is None:
            return None
        believed = self._fixes.observe(moment - timedelta(seconds=received_s), received_s)
        zero = self._fixes.zero
        if zero is not None:
            self._base = TimeBase(zero, TimeQuality.GPS)
        return moment if believed else None

    def base(self) -> TimeBase:
        """What turns monotonic time into UTC."""
        return self._base

    @property
    def follows_fixes(self) -> bool:
        """Whether the base is one that fixes have given since the start."""
        return self._base.quality is TimeQuality.GPS and self._fixes.last_s is not None

    def _gps_is_fresh(self, now_s: float) -> bool:
        last_s = self._fixes.last_s
        return last_s is not None and now_s - last_s <= GPS_HOLD_S

    def _plausible_fix_time(self, fix_time: datetime, received_s: float) -> datetime | None:
        if fix_time < GPS_EPOCH:
            return None
        if not self._kernel_vouches:
            moment = fix_time
            while moment < EARLIEST_PLAUSIBLE:
                moment += ROLLOVER
            return moment if moment < LATEST_PLAUSIBLE else None
        should_be = self._system + timedelta(seconds=received_s)
        moment = fix_time + ROLLOVER * round((should_be - fix_time) / ROLLOVER)
        gap_s = abs((moment - should_be).total_seconds())
        return moment if gap_s <= MAX_DISAGREEMENT_S else None


class FixOffsets:
    """The UTC time of the monotonic zero as the fixes give it.

    A report arrives late, never early, so the latest zero of a window is the best one.
    """

    def __init__(self) -> None:
        self.zero: datetime | None = None
        self.last_s: float | None = None
        """Monotonic time of the newest fix that was believed."""
        self._window_best: datetime | None = None
        self._window_start_s = 0.0
        self._previous_best: datetime | None = None
        self._candidates: list[tuple[datetime, float]] = []

    def observe(self, zero: datetime, received_s: float) -> bool:
        """Take one fix; whether it is believed."""
        if self.zero is not None and abs(zero - self.zero) <= timedelta(seconds=AGREE_S):
            self._candidates.clear()
            self._take(zero, received_s)
            return True
        if self._candidates:
            first_zero, _ = self._candidates[0]
            _, last_s = self._candidates[-1]
            agrees = abs(zero - first_zero) <= timedelta(seconds=AGREE_S)
            if not agrees or received_s - last_s > AGREE_GAP_S:
                self._candidates.clear()
        self._candidates.append((zero, received_s))
        span_s = received_s - self._candidates[0][1]
        if len(self._candidates) < FIXES_TO_AGREE or span_s < AGREE_SPAN_S:
            return False
        self._window_best = self._previous_best = None
        for candidate in self._candidates:
            self._take(*candidate)
        self._candidates.clear()
        return True

    def _take(self, zero: datetime, received_s: float) -> None:
        if self._window_best is None or received_s - self._window_start_s > WINDOW_S:
            self._previous_best = self._window_best
            self._window_best = zero
            self._window_start_s = received_s
        self._window_best = max(self._window_best, zero)
        self.zero = max(self._window_best, self._previous_best or self._window_best)
        self.last_s = received_s


def is_plausible(moment: datetime) -> bool:
    """Whether a clock that says so may be right at all."""
    return EARLIEST_PLAUSIBLE <= moment < LATEST_PLAUSIBLE
