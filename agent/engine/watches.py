"""Watches: each looks at one thing and says once when it becomes noteworthy. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from agent.config import ThresholdSettings

KMH_TO_MPS: Final = 1 / 3.6

BRAKING_WINDOW_S: Final = (0.5, 2.0)
"""Speeds this far apart are compared: closer is noise, further apart is no braking."""


class BatteryWatch:
    """``battery_low``: below the limit for the dwell and not charging; once until recovered."""

    def __init__(self, thresholds: ThresholdSettings) -> None:
        self._thresholds = thresholds
        self._below_since_s: float | None = None
        self._is_low = False

    def apply(self, thresholds: ThresholdSettings) -> None:
        """Other limits from now on."""
        self._thresholds = thresholds

    def observe(self, percent: float | None, *, charging: bool | None, now_s: float) -> bool:
        """Whether the battery has become low just now."""
        if percent is None:
            self._below_since_s = None
            return False
        limit = self._thresholds
        if percent > limit.battery_recovered_percent:
            self._is_low = False
        if percent >= limit.battery_low_percent or charging is True or self._is_low:
            self._below_since_s = None
            return False
        if self._below_since_s is None:
            self._below_since_s = now_s
        self._is_low = now_s - self._below_since_s >= limit.battery_dwell_s
        return self._is_low


class FaultWatch:
    """``fault_raised`` and ``fault_cleared``: the error codes that came and went."""

    def __init__(self) -> None:
        self._present: frozenset[str] = frozenset()

    def observe(self, codes: Iterable[str] | None) -> tuple[list[str], list[str]]:
        """Codes raised and cleared since the last time; ``None``, not known, changes nothing."""
        if codes is None:
            return [], []
        now = frozenset(codes)
        raised, cleared = sorted(now - self._present), sorted(self._present - now)
        self._present = now
        return raised, cleared


class BrakingWatch:
    """``harsh_braking``: speed falls faster than the limit; once a braking.

    Works on speeds, which every vehicle has. A braking is over when the deceleration has
    fallen to half the limit.
    """

    def __init__(self, limit_mps2: float) -> None:
        self._limit_mps2 = limit_mps2
        self._speeds: deque[tuple[float, float]] = deque(maxlen=64)
        self._braking = False

    def apply(self, limit_mps2: float) -> None:
        """Another limit from now on."""
        self._limit_mps2 = limit_mps2

    def observe(self, speed_kmh: float | None, measured_s: float) -> float | None:
        """The deceleration in m/s² when a harsh braking begins, else ``None``.

        ``measured_s`` is monotonic; the same one again is the same measurement.
        """
        if speed_kmh is None:
            self._speeds.clear()
            self._braking = False
            return None
        if self._speeds and measured_s <= self._speeds[-1][0]:
            return None
        nearest_s, furthest_s = BRAKING_WINDOW_S
        while self._speeds and measured_s - self._speeds[0][0] > furthest_s:
            self._speeds.popleft()
        strongest_mps2 = 0.0
        for then_s, then_kmh in self._speeds:
            if measured_s - then_s >= nearest_s:
                fall_mps2 = (then_kmh - speed_kmh) * KMH_TO_MPS / (measured_s - then_s)
                strongest_mps2 = max(strongest_mps2, fall_mps2)
        self._speeds.append((measured_s, speed_kmh))
        if self._braking:
            self._braking = strongest_mps2 > self._limit_mps2 / 2
            return None
        self._braking = strongest_mps2 > self._limit_mps2
        return strongest_mps2 if self._braking else None
