"""The host: the clocks, the boot's identity, random identity. Wall time is read here only.

A board without a clock starts in 1970 or at its last shutdown, so system time counts for
nothing until somebody vouches for it: see :mod:`agent.trusted_time` for the rules.
"""

from __future__ import annotations

import logging
import secrets
import select
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.kernel_clock import kernel_is_synchronised
from agent.ports import Clock, TimeBase
from agent.trusted_time import TrustedTime
from contract import TimeQuality

_log = logging.getLogger(__name__)

KERNEL_CHECK_S: Final = 30.0


def boot_id() -> str:
    """The kernel's random name of this boot; ``""`` where the kernel gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def new_run_id() -> str:
    """12 hexadecimal characters, drawn at each start of the agent."""
    return secrets.token_hex(6)


def boottime_s() -> float:
    """Seconds since the boot, a suspend included (``CLOCK_BOOTTIME``).

    ``CLOCK_MONOTONIC`` stands still in a suspend; a sample from before it would be
    stamped late by its length. Both are disciplined in rate and never stepped.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def system_utc() -> datetime:
    """What the system's wall clock says, right or wrong."""
    return datetime.now(UTC)  # noqa: TID251  the one place


def system_error_s(clock: Clock) -> float | None:
    """How far the system's clock is ahead of the trusted time; ``None`` while there is none.

    TLS checks certificates by the system's clock, whatever time the agent trusts.
    """
    base = clock.base()
    if not base.trusted:
        return None
    return (system_utc() - base.at(clock.monotonic_s())).total_seconds()


class SystemClock:
    """``agent.ports.Clock`` on the real host. Thread-safe.

    The readers are arguments so that a test, or a test's process, can put a board with a
    wrong clock in their place; the defaults are the real ones. ``kept`` is a base that
    was trusted earlier in this boot.
    """

    def __init__(
        self,
        *,
        monotonic_s: Callable[[], float] = boottime_s,
        system_utc: Callable[[], datetime] = system_utc,
        kernel_is_synchronised: Callable[[], bool] = kernel_is_synchronised,
        kept: TimeBase | None = None,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._system_utc = system_utc
        self._ask_kernel = kernel_is_synchronised
        self._lock = threading.Lock()
        self._kernel_asked_s = now_s = monotonic_s()
        utc = system_utc()
        self._trusted = TrustedTime(utc, now_s, kept)
        self._trusted.observe_system(utc, now_s, synchronised=kernel_is_synchronised())
        self._told: TimeQuality | None = None
        self._distrusted = False

    def monotonic_s(self) -> float:
        """Seconds since the boot, those of a suspend counted; never steps."""
        return self._monotonic_s()

    def base(self) -> TimeBase:
        """What turns monotonic time into UTC now; time and its quality in one answer."""
        with self._lock:
            now_s = self._monotonic_s()
            self._look_at_system(now_s)
            return self._trusted.base()

    def utc(self) -> datetime:
        """The best known time."""
        base = self.base()
        return base.at(self._monotonic_s())

    def quality(self) -> TimeQuality:
        """What stands behind ``utc`` at this moment."""
        return self.base().quality

    def sleep_s(self, duration_s: float) -> None:
        """Wait."""
        # time.sleep waits for an absolute time, which libfaketime garbles (scenario clock-1970)
        select.select([], [], [], duration_s)

    def observe_gps(self, fix_time: datetime, received_s: float) -> datetime | None:
        """A fresh fix says that it was ``fix_time`` just before ``received_s`` (monotonic).

        Returns its time as believed; ``None`` if it is not, or not yet, believed.
        """
        with self._lock:
            self._look_at_system(self._monotonic_s())
            believed = self._trusted.observe_fix(fix_time, received_s)
            # a base of an earlier process is none that this one's fixes could have left
            trusted = self._trusted.follows_fixes
            changed = trusted and (believed is None) != self._distrusted
            self._distrusted = trusted and believed is None
        if changed and believed is None:
            _log.warning("GPS says %s, which cannot be; its time is not used", fix_time.isoformat())
        elif changed:
            _log.info("GPS time is plausible again")
        return believed

    def _look_at_system(self, now_s: float) -> None:
        """Read the wall clock each time, ask the kernel now and then and after each step."""
        utc = self._system_utc()
        is_due = now_s - self._kernel_asked_s > KERNEL_CHECK_S
        if is_due or self._trusted.stepped(utc, now_s):
            self._kernel_asked_s = now_s
            self._trusted.observe_system(utc, now_s, synchronised=self._ask_kernel())
