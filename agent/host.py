"""The host: wall time, the boot's identity, random identity. Wall time is read here only.

A board without a clock starts in 1970 or at its last shutdown, so system time counts for
nothing until somebody vouches for it. Trusted time is, in this order:

1. GPS: an offset from the monotonic clock, taken from fixes. It stays good through gaps
   of the receiver because a crystal drifts by about 2 s a day at worst.
2. The kernel's own word that NTP (or chrony, PTP) disciplines it: ``adjtimex(2)``.
3. Nothing: the system's time is given out, and called unsynced.
"""

from __future__ import annotations

import ctypes
import logging
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from contract import TimeQuality

_log = logging.getLogger(__name__)

EARLIEST_PLAUSIBLE: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Before this software was; an earlier GPS date is a receiver that lost its week count."""

LATEST_PLAUSIBLE: Final = datetime(2080, 1, 1, tzinfo=UTC)

MAX_DISAGREEMENT_S: Final = 60.0
"""GPS further from a kernel that is synchronised is not believed (week rollover, replay)."""

GPS_HOLD_S: Final = 6 * 3600.0
"""How long the offset is trusted after the last fix: half a second of drift at 25 ppm."""

WINDOW_S: Final = 60.0
KERNEL_CHECK_S: Final = 30.0

STA_UNSYNC: Final = 0x0040
TIME_ERROR: Final = 5
"""From ``sys/timex.h``."""

_TIMEX_BYTES: Final = 256
"""More than ``struct timex`` takes on any Linux; ``modes`` is its first int, 0 = only read."""


def kernel_is_synchronised() -> bool:
    """Whether the kernel says that its clock is disciplined (``adjtimex`` without changes)."""
    buffer = (ctypes.c_long * (_TIMEX_BYTES // ctypes.sizeof(ctypes.c_long)))()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    # struct timex { unsigned modes; long offset, freq, maxerror, esterror; int status; … }
    status = ctypes.c_int.from_buffer(buffer, 5 * ctypes.sizeof(ctypes.c_long)).value
    return state >= 0 and state != TIME_ERROR and not status & STA_UNSYNC


def boot_id() -> str:
    """The kernel's random name of this boot; ``""`` where the kernel gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def new_run_id() -> str:
    """12 hexadecimal characters, drawn at each start of the agent."""
    return secrets.token_hex(6)


class GpsTime:
    """The offset from monotonic time to UTC, as the fixes give it. Pure; not thread-safe.

    A fix arrives late by the receiver's and the line's delay, never early, so the largest
    offset of a window is the best one. Two windows are kept, so that an old best expires.
    """

    def __init__(self) -> None:
        self._epoch: datetime = EARLIEST_PLAUSIBLE
        self._best_s: float | None = None
        self._previous_best_s: float | None = None
        self._window_start_s = 0.0
        self._last_fix_s: float | None = None

    def observe(self, fix_time: datetime, received_s: float) -> None:
        """Take one fix; a step of the receiver's time by over a second starts afresh."""
        offset_s = (fix_time - self._epoch).total_seconds() - received_s
        current_s = self._current()
        if current_s is not None and abs(offset_s - current_s) > 2.0:
            self._best_s = self._previous_best_s = None
        if self._best_s is None or received_s - self._window_start_s > WINDOW_S:
            self._previous_best_s = self._best_s
            self._best_s = offset_s
            self._window_start_s = received_s
        self._best_s = max(self._best_s, offset_s)
        self._last_fix_s = received_s

    def utc_at(self, monotonic_s: float) -> datetime | None:
        """UTC at a monotonic time, or ``None`` when the last fix is too long ago."""
        offset_s = self._current()
        if offset_s is None or self._last_fix_s is None:
            return None
        if monotonic_s - self._last_fix_s > GPS_HOLD_S:
            return None
        return self._epoch + timedelta(seconds=offset_s + monotonic_s)

    def _current(self) -> float | None:
        if self._best_s is None:
            return None
        if self._previous_best_s is None:
            return self._best_s
        return max(self._best_s, self._previous_best_s)


class SystemClock:
    """``agent.ports.Clock`` on the real host. Thread-safe.

    The arguments are for tests of the rules; the defaults are the real clocks.
    """

    def __init__(
        self,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        system_utc: Callable[[], datetime] = lambda: datetime.now(UTC),  # noqa: TID251  the one place
        kernel_is_synchronised: Callable[[], bool] = kernel_is_synchronised,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._system_utc = system_utc
        self._ask_kernel = kernel_is_synchronised
        self._lock = threading.Lock()
        self._gps = GpsTime()
        self._kernel_ok = kernel_is_synchronised()
        self._kernel_asked_s = monotonic_s()
        self._distrusted = False

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never steps."""
        return self._monotonic_s()

    def utc(self) -> datetime:
        """GPS time where known, else the system's."""
        with self._lock:
            return self._gps.utc_at(self._monotonic_s()) or self._system_utc()

    def quality(self) -> TimeQuality:
        """What stands behind ``utc`` at this moment."""
        with self._lock:
            if self._gps.utc_at(self._monotonic_s()) is not None:
                return TimeQuality.GPS
            return TimeQuality.NTP if self._kernel() else TimeQuality.UNSYNCED

    def sleep_s(self, duration_s: float) -> None:
        """Wait."""
        time.sleep(duration_s)

    def observe_gps(self, fix_time: datetime, received_s: float) -> bool:
        """A fresh fix says that it was ``fix_time`` just before ``received_s`` (monotonic).

        Returns whether that is believed.
        """
        with self._lock:
            believed = EARLIEST_PLAUSIBLE <= fix_time <= LATEST_PLAUSIBLE
            if believed and self._kernel():
                age_s = self._monotonic_s() - received_s
                gap_s = (self._system_utc() - fix_time).total_seconds() - age_s
                believed = abs(gap_s) <= MAX_DISAGREEMENT_S
            if believed:
                self._gps.observe(fix_time, received_s)
            changed = believed == self._distrusted
            self._distrusted = not believed
        if changed and not believed:
            _log.warning("GPS says %s, which cannot be; its time is not used", fix_time.isoformat())
        elif changed:
            _log.info("GPS time is plausible again")
        return believed

    def _kernel(self) -> bool:
        now_s = self._monotonic_s()
        if now_s - self._kernel_asked_s > KERNEL_CHECK_S:
            self._kernel_ok = self._ask_kernel()
            self._kernel_asked_s = now_s
        return self._kernel_ok
