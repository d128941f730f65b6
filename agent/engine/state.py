"""The state of the vehicle: what GPS and CAN say, merged into the contract's groups.

A CAN signal that is mapped to a field goes before GPS for that field, because somebody
mapped it on purpose; when it is stale or not valid, GPS fills in. A group without any
value is absent. Positions of either source are checked, each against its own past.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from agent.engine.modes import Situation
from agent.engine.positions import PositionCheck
from agent.inputs import Fix, FixReceived, SignalReader, SignalValue
from agent.ports import TimeBase
from contract import Acceleration, Battery, Diagnostics, Location, Motion, VehicleStatus

Group = TypeVar("Group", bound=BaseModel)

ObserveTime = Callable[[datetime, float], datetime | None]
"""Tell the clock a fix's time and when it came (monotonic); the time as far as believed."""

LAT: Final = "location.lat"
LON: Final = "location.lon"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """A position that was believed.

    ``fix_time`` is the receiver's time of measurement, where that was believed; else the
    time of arrival counts, which is monotonic and becomes UTC only when it is sent.
    """

    fix: Fix
    fix_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The merged state at one moment."""

    values: dict[str, SignalValue]
    position: Position | None
    speed_kmh: float | None
    speed_measured_s: float
    situation: Situation


class VehicleState:
    """Used by the engine's thread alone."""

    def __init__(
        self,
        *,
        observe_time: ObserveTime,
        readers: Sequence[SignalReader],
        max_speed_kmh: float,
        stale_after_s: float,
    ) -> None:
        self._observe_time = observe_time
        self._readers = readers
        self._stale_after_s = stale_after_s
        self._gps_check = PositionCheck(max_speed_kmh)
        self._can_check = PositionCheck(max_speed_kmh)
        self._gps: Position | None = None
        self._can: Position | None = None
        self._can_seen_s: float | None = None
        self._told: set[str] = set()
        self.fixes_received = 0
        self.invalid_values = 0

    def fixes_rejected(self) -> dict[str, int]:
        """Positions that were not believed, by reason, both sources together."""
        counts = dict(self._gps_check.rejected)
        for reason, count in self._can_check.rejected.items():
            counts[reason] = counts.get(reason, 0) + count
        return counts

    def take_fix(self, received: FixReceived) -> None:
        """A fix of the receiver, or the rest of the epoch of the one before."""
        fix = received.fix
        if not received.is_new:
            if self._gps is not None and self._gps.fix.received_s == fix.received_s:
                self._gps = Position(fix, self._gps.fix_time)
            return
        fix_time = None
        if fix.time is not None:
            fix_time = self._observe_time(fix.time, fix.received_s)
        self.fixes_received += 1
        if self._gps_check.check(fix) is None:
            self._gps = Position(fix, fix_time)

    def view(self, now_s: float) -> View:
        """What is known and fresh at a monotonic time."""
        values: dict[str, SignalValue] = {}
        for reader in self._readers:
            values.update(reader.read(now_s))
        gps = self._gps
        if gps is not None and now_s - gps.fix.received_s > self._stale_after_s:
            gps = None
        position = self._can_position(values) or gps
        speed_kmh = _number(values, "motion.speed_kmh")
        speed_measured_s = self._received_s("motion.speed_kmh") or now_s
        if speed_kmh is None and gps is not None:
            speed_kmh, speed_measured_s = gps.fix.speed_kmh, gps.fix.received_s
        return View(
            values=values,
            position=position,
            speed_kmh=speed_kmh,
            speed_measured_s=speed_measured_s,
            situation=Situation(
                speed_kmh=speed_kmh,
                in_use=_flag(values, "vehicle_status.in_use"),
                battery_percent=_number(values, "battery.percent"),
                charging=_flag(values, "battery.charging"),
            ),
        )

    def location(self, view: View, base: TimeBase) -> Location | None:
        """The position as a group, its time on the same scale as the message's."""
        position = view.position
        if position is None:
            return None
        fix = position.fix
        group = {
            "lat": fix.lat,
            "lon": fix.lon,
            "altitude": fix.altitude_m,
            "accuracy": fix.accuracy_m,
            "fix_time": position.fix_time or base.at(fix.received_s),
            "fix_mode": fix.mode,
            "satellites": fix.satellites,
            "hdop": fix.hdop,
        }
        return self._group(Location, "location", group)

    def groups(self, view: View, trip_id: str | None, base: TimeBase) -> dict[str, Any]:
        """The groups of a sample, by name; absent ones are ``None``."""
        values = view.values
        split: dict[str, dict[str, Any]] = {}
        acceleration: dict[str, Any] = {}
        for name, value in values.items():
            group, _, rest = name.partition(".")
            if rest.startswith("acceleration."):
                acceleration[rest[-1]] = value
            else:
                split.setdefault(group, {})[rest] = value
        motion = split.get("motion", {})
        if view.speed_kmh is not None:
            motion["speed_kmh"] = view.speed_kmh
        if "heading" not in motion and view.position is not None:
            motion["heading"] = view.position.fix.heading
        if len(acceleration) == 3:
            motion["acceleration"] = self._group(Acceleration, "acceleration", acceleration)
        status = split.get("vehicle_status", {})
        status["trip_id"] = trip_id
        return {
            "location": self.location(view, base),
            "battery": self._group(Battery, "battery", split.get("battery", {})),
            "motion": self._group(Motion, "motion", motion),
            "vehicle_status": self._group(VehicleStatus, "vehicle_status", status),
            "diagnostics": self._group(Diagnostics, "diagnostics", split.get("diagnostics", {})),
            "signals": split.get("signals"),
        }

    def _can_position(self, values: dict[str, SignalValue]) -> Position | None:
        lat, lon = _number(values, LAT), _number(values, LON)
        if lat is None or lon is None:
            return None
        received_s = self._received_s(LAT)
        if received_s is not None and received_s != self._can_seen_s:
            self._can_seen_s = received_s
            fix = Fix(
                received_s=received_s,
                lat=lat,
                lon=lon,
                altitude_m=_number(values, "location.altitude"),
                accuracy_m=_number(values, "location.accuracy"),
                heading=_number(values, "motion.heading"),
            )
            self.fixes_received += 1
            if self._can_check.check(fix) is None:
                self._can = Position(fix)
        can = self._can
        if can is None or received_s is None:
            return None
        # fixes that are rejected one after the other must not keep the last good one alive
        return can if received_s - can.fix.received_s <= self._stale_after_s else None

    def _received_s(self, name: str) -> float | None:
        times = [reader.received_s(name) for reader in self._readers]
        return max((moment for moment in times if moment is not None), default=None)

    def _group(self, model: type[Group], name: str, values: dict[str, Any]) -> Group | None:
        """The group without what the contract refuses (a latitude of 191), counted."""
        values = {key: value for key, value in values.items() if value is not None}
        while values:
            try:
                return model(**values)
            except ValidationError as error:
                refused = {str(detail["loc"][0]) for detail in error.errors()} & values.keys()
                if not refused:
                    return None
                for key in refused:
                    self._tell_once(f"{name}.{key}", values.pop(key))
        return None

    def _tell_once(self, name: str, value: object) -> None:
        self.invalid_values += 1
        if name not in self._told:
            self._told.add(name)
            _log.warning("%s = %r is refused by the contract and left out", name, value)


def _number(values: dict[str, SignalValue], name: str) -> float | None:
    value = values.get(name)
    return value if isinstance(value, int | float) else None


def _flag(values: dict[str, SignalValue], name: str) -> bool | None:
    value = values.get(name)
    return value if isinstance(value, bool) else None
