"""The vehicle's state as the contract's groups; what has no value is absent."""

from __future__ import annotations

import logging
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from agent.engine.state import View
from agent.ports import TimeBase
from contract import Acceleration, Battery, Diagnostics, Location, Motion, VehicleStatus

Group = TypeVar("Group", bound=BaseModel)

GPS_DISTANCE: Final = "gps_distance_km"
"""Told among ``signals`` while CAN gives no odometer."""

ALTITUDES_M: Final = (-500.0, 9_000.0)
"""Where vehicles drive: from below the shore of the Dead Sea to above all mountains."""

_log = logging.getLogger(__name__)


class Groups:
    """Used by the engine's thread alone; ``refused`` counts values that were left out."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self.refused = 0

    def location(self, view: View, base: TimeBase) -> Location | None:
        """The position as a group, its time on the same scale as the message's."""
        position = view.position
        if position is None:
            return None
        fix = position.fix
        altitude_m = fix.altitude_m
        if altitude_m is not None and not ALTITUDES_M[0] <= altitude_m <= ALTITUDES_M[1]:
            self._refuse("location.altitude", altitude_m)
            altitude_m = None
        group = {
            "lat": fix.lat,
            "lon": fix.lon,
            "altitude": altitude_m,
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
        signals = split.get("signals", {})
        if view.odometers.can_km is None and view.odometers.gps_km is not None:
            signals.setdefault(GPS_DISTANCE, round(view.odometers.gps_km, 2))
        status = split.get("vehicle_status", {})
        status["trip_id"] = trip_id
        return {
            "location": self.location(view, base),
            "battery": self._group(Battery, "battery", split.get("battery", {})),
            "motion": self._group(Motion, "motion", motion),
            "vehicle_status": self._group(VehicleStatus, "vehicle_status", status),
            "diagnostics": self._group(Diagnostics, "diagnostics", split.get("diagnostics", {})),
            "signals": signals or None,
        }

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
                    self._refuse(f"{name}.{key}", values.pop(key))
        return None

    def _refuse(self, name: str, value: object) -> None:
        self.refused += 1
        if name not in self._told:
            self._told.add(name)
            _log.warning("%s = %r cannot be and is left out", name, value)
