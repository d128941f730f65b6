"""Watches: each looks at one thing and says once when it becomes noteworthy."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

from agent.config import ThresholdSettings
from agent.engine.harsh import Harshness, HarshWatch
from agent.engine.state import View
from agent.files import write_atomically
from contract import EventType

LOW_BATTERY_FILE: Final = "battery-low"

_log = logging.getLogger(__name__)


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

    def __init__(self, thresholds: ThresholdSettings, *, is_low: bool = False) -> None:
        self._thresholds = thresholds
        self._turning_since_s: float | None = None
        self._is_low = is_low

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


class LowBatteryMark:
    """A file that is there from ``battery_low`` to ``battery_recovered``.

    A battery that is low restarts boards, and each start would tell it anew.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOW_BATTERY_FILE

    def is_set(self) -> bool:
        """Whether low was told last."""
        return self._path.exists()

    def put(self, change: BatteryChange) -> None:
        """Remember what was told; on a disk that takes nothing it is told again at worst."""
        try:
            if change is BatteryChange.LOW:
                write_atomically(self._path, b"")
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s cannot be changed: %s", self._path, error)


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


_BATTERY: Final = {
    BatteryChange.LOW: EventType.BATTERY_LOW,
    BatteryChange.RECOVERED: EventType.BATTERY_RECOVERED,
}
_HARSH: Final = {
    Harshness.BRAKING: (EventType.HARSH_BRAKING, "deceleration_mps2"),
    Harshness.ACCELERATION: (EventType.HARSH_ACCELERATION, "acceleration_mps2"),
}


class Watches:
    """All of them; what each finds is an event with its details."""

    def __init__(
        self, thresholds: ThresholdSettings, low_battery: LowBatteryMark | None = None
    ) -> None:
        self._low_battery = low_battery
        is_low = low_battery is not None and low_battery.is_set()
        self._battery = BatteryWatch(thresholds, is_low=is_low)
        self._faults = FaultWatch()
        self._harsh = HarshWatch(thresholds)

    def apply(self, thresholds: ThresholdSettings) -> None:
        """Other limits from now on."""
        self._battery.apply(thresholds)
        self._harsh.apply(thresholds)

    def observe(self, view: View, now_s: float) -> Iterator[tuple[EventType, dict[str, Any]]]:
        """What has become noteworthy at a monotonic time."""
        percent, charging = view.situation.battery_percent, view.situation.charging
        battery = self._battery.observe(percent, charging=charging, now_s=now_s)
        if battery is not None:
            yield _BATTERY[battery], {"percent": percent}
            if self._low_battery is not None:
                self._low_battery.put(battery)
        codes = view.values.get("diagnostics.error_codes")
        raised, cleared = self._faults.observe(codes if isinstance(codes, tuple) else None)
        for code in raised:
            yield EventType.FAULT_RAISED, {"code": code}
        for code in cleared:
            yield EventType.FAULT_CLEARED, {"code": code}
        harsh = self._harsh.observe(view.measured_speed, view.forward_mps2, now_s)
        if harsh is not None:
            kind, name = _HARSH[harsh.kind]
            details = {name: round(harsh.mps2, 2), "source": harsh.source}
            if view.speed_kmh is not None:
                details["speed_kmh"] = view.speed_kmh
            yield kind, details
