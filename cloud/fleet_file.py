"""The register of a small fleet, read from a TOML file.

::

    [vehicles."van-1"]
    type = "electric_van"
    name = "Van 1"          # may be absent
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloud.errors import ConfigError
from cloud.ports import Vehicle
from contract.fields import VEHICLE_ID_PATTERN

_HINT: Final = 'Each vehicle is a table: [vehicles."van-1"], type = "electric_van", name = "Van 1".'
_VEHICLE_ID: Final = re.compile(VEHICLE_ID_PATTERN)
_KEYS: Final = frozenset({"type", "name"})


@dataclass(frozen=True, slots=True)
class Fleet:
    """The vehicles that the operator declared; a ``VehicleRegister``."""

    vehicles: Mapping[str, Vehicle] = field(default_factory=dict)

    def find(self, vehicle_id: str) -> Vehicle | None:
        """The vehicle, or None when the file does not name it."""
        return self.vehicles.get(vehicle_id)


def load_fleet(path: Path) -> Fleet:
    """Read a fleet file.

    Raises:
        ConfigError: names the file, the vehicle and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint=_HINT) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint=_HINT) from None
    for key in document:
        if key != "vehicles":
            raise ConfigError(f"{path}: unknown key {key!r}", hint=_HINT)
    tables = document.get("vehicles", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: vehicles is no table", hint=_HINT)
    return Fleet(
        {vehicle_id: _vehicle(vehicle_id, table, path) for vehicle_id, table in tables.items()}
    )


def _vehicle(vehicle_id: str, table: object, path: Path) -> Vehicle:
    where = f"{path}: vehicles.{vehicle_id}"
    if not _VEHICLE_ID.fullmatch(vehicle_id):
        raise ConfigError(f"{where}: the id does not match {VEHICLE_ID_PATTERN}", hint=_HINT)
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is no table", hint=_HINT)
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=_HINT)
    vehicle_type = table.get("type")
    if not isinstance(vehicle_type, str) or not vehicle_type:
        raise ConfigError(f"{where}.type is missing or no text", hint=_HINT)
    name = table.get("name")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{where}.name is no text", hint=_HINT)
    return Vehicle(vehicle_id, vehicle_type, name)
