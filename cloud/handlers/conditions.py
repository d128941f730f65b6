"""When an alert opens and when it resolves: the whole policy, without any store.

======================  ==============================  ===================================
condition               opens                           resolves
======================  ==============================  ===================================
battery_low             below 15 % and not charging     at 20 % or more, or charging
outside_operating_area  3 fixes in a row outside by     3 fixes in a row inside
                        more than the band
======================  ==============================  ===================================

The band is 20 m, or the fix's own accuracy where that is worse. A fix inside the band says
neither and breaks a row. A fix that did not change since the last sample is no new fix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from cloud.ports import AlertKind, Condition, OperatingAreas
from contract import Sample


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The figures of the policy."""

    battery_low_percent: float = 15.0
    battery_recovered_percent: float = 20.0
    area_band_m: float = 20.0
    consistent_fixes: int = 3


@dataclass(frozen=True, slots=True)
class Observation:
    """What one sample says about one condition."""

    at: datetime
    """When it was so; decides what is late."""
    raised: bool | None
    """Whether the condition holds; None: the sample speaks for neither."""
    detail: str = ""


class Rule(Protocol):
    """One condition."""

    kind: AlertKind
    needed: int
    """Observations in a row that change the state."""

    def observe(self, sample: Sample, *, raised: bool) -> Observation | None:
        """What the sample says, given the state so far; None: it has nothing on this."""
        ...


class BatteryRule:
    """``battery_low``."""

    kind: AlertKind = AlertKind.BATTERY_LOW
    needed: int = 1

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds

    def observe(self, sample: Sample, *, raised: bool) -> Observation | None:
        """A battery that does not say whether it charges counts as not charging."""
        battery = sample.battery
        if battery is None or (battery.percent is None and not battery.charging):
            return None
        if battery.charging or battery.percent is None:
            return Observation(sample.timestamp, raised=False)
        limits = self._thresholds
        limit = limits.battery_recovered_percent if raised else limits.battery_low_percent
        return Observation(
            sample.timestamp, raised=battery.percent < limit, detail=f"{battery.percent:g} %"
        )


class AreaRule:
    """``outside_operating_area``."""

    kind: AlertKind = AlertKind.OUTSIDE_OPERATING_AREA

    def __init__(self, thresholds: Thresholds, areas: OperatingAreas) -> None:
        self._thresholds = thresholds
        self._areas = areas
        self.needed: int = thresholds.consistent_fixes

    def observe(self, sample: Sample, *, raised: bool) -> Observation | None:
        """The time is the fix's own, so that a stale fix is not taken for a second one."""
        location = sample.location
        if location is None:
            return None
        at = sample.timestamp
        if location.fix_time is not None and location.fix_time < at:
            at = location.fix_time
        outside_by_m = self._areas.outside_by_m(location.lat, location.lon)
        if outside_by_m is None:
            # The areas were taken away: an open alert has lost its ground.
            return Observation(at, raised=False) if raised else None
        band_m = max(self._thresholds.area_band_m, location.accuracy or 0.0)
        if outside_by_m > band_m:
            return Observation(at, raised=True, detail=f"{outside_by_m:.0f} m outside")
        return Observation(at, raised=False if outside_by_m <= 0 else None)


_NEVER: Final = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


def unevaluated(vehicle_id: str, kind: AlertKind) -> Condition:
    """The state before the first evaluation."""
    return Condition(vehicle_id=vehicle_id, kind=kind, raised=False, evaluated_at=_NEVER)


def advance(condition: Condition, seen: Observation, needed: int) -> tuple[Condition, bool]:
    """The state after an observation, and whether it changed sides.

    A late observation changes nothing at all.
    """
    if seen.at <= condition.evaluated_at:
        return condition, False
    streak = condition.streak + 1 if seen.raised not in {None, condition.raised} else 0
    if streak < needed:
        return replace(condition, evaluated_at=seen.at, streak=streak), False
    return replace(condition, raised=not condition.raised, evaluated_at=seen.at, streak=0), True
