"""Watches: each looks at one thing and says once when it becomes noteworthy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from agent.config import ThresholdSettings


class BatteryChange(Enum):
    """What became of the battery."""

    LOW = "low"
    RECOVERED = "recovered"


class BatteryWatch:
    """``battery_low`` and ``battery_recovered``, in turn, each after its level has held.

    Low: below ``battery_low_percent`` and not charging. Recovered: above
    ``battery_recovered_percent``, charging or not. Each for ``battery_dwell_s``. A battery of
    unknown level is neither; one of unknown charging state counts as not charging.
    """

    def __init__(self, thresholds: ThresholdSettings) -> None:
        self._thresholds = thresholds
        self._turning_since_s: float | None = None
        self._is_low = False

    def apply(self, thresholds: ThresholdSettings) -> None:
        """Other limits from now on."""
        self._thresholds = thresholds

    def observe(
        self, percent: float | None, *, charging: bool | None, now_s: float
    ) -> BatteryChange | None:
        """What the battery has become just now."""
        if percent is None or not self._turns(percent, charging=charging):
            self._turning_since_s = None
            return None
        if self._turning_since_s is None:
            self._turning_since_s = now_s
        if now_s - self._turning_since_s < self._thresholds.battery_dwell_s:
            return None
        self._turning_since_s = None
        self._is_low = not self._is_low
        return BatteryChange.LOW if self._is_low else BatteryChange.RECOVERED

    def _turns(self, percent: float, *, charging: bool | None) -> bool:
        if self._is_low:
            return percent > self._thresholds.battery_recovered_percent
        return percent < self._thresholds.battery_low_percent and charging is not True


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
