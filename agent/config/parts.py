"""What can be used of a config that as a whole cannot: for ``doctor``, which looks on.

The agent itself takes a config as a whole or not at all.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from agent.config.can import CanSettings
from agent.config.load import AgentSettings, parse, resolved
from agent.config.sections import BrokerSettings, OutboxSettings, StateSettings, VehicleSettings
from agent.config.sources import GpsSettings
from agent.errors import ConfigError

_Section = TypeVar("_Section", bound=BaseModel)

USED: Final = ("state", "gps", "can", "outbox", "broker")
"""The sections that are fields of ``ConfigParts`` too."""


@dataclass(frozen=True, slots=True)
class ConfigParts:
    """The sections that are good by themselves; ``None`` where one is not, or must be given.

    ``settings`` is the whole where the whole is good, ``fault`` says what is wrong where not.
    """

    vehicle_id: str | None = None
    state: StateSettings = field(default_factory=StateSettings)
    gps: GpsSettings | None = field(default_factory=GpsSettings)
    can: tuple[CanSettings, ...] = ()
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    broker: BrokerSettings | None = None
    settings: AgentSettings | None = None
    fault: ConfigError | None = None
    is_there: bool = True
    is_denied: bool = False
    """To the user who asks."""


def load_parts(path: Path) -> ConfigParts:
    """Read what can be read; raises nothing."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ConfigParts(fault=ConfigError(f"there is no file {path}"), is_there=False)
    except PermissionError:
        fault = ConfigError(f"this user may not read {path}", hint="Run this with sudo.")
        return ConfigParts(fault=fault, is_denied=True)
    except OSError as error:
        return ConfigParts(fault=ConfigError(f"{path} cannot be read: {error.strerror}"))
    except ValueError as error:  # neither UTF-8 nor TOML
        return ConfigParts(fault=ConfigError(f"{path}: {error}"))
    try:
        settings = parse(table, path)
    except ConfigError as error:
        return _salvaged(table, path, error)
    return ConfigParts(
        vehicle_id=settings.vehicle.id or None,
        **{name: getattr(settings, name) for name in USED},
        settings=settings,
    )


def _salvaged(table: dict[str, Any], path: Path, fault: ConfigError) -> ConfigParts:
    vehicle = _section(VehicleSettings, table.get("vehicle", {}))
    buses = table.get("can")
    can = [_section(CanSettings, bus) for bus in buses] if isinstance(buses, list) else []
    sections: dict[str, Any] = {
        "state": _section(StateSettings, table.get("state", {})) or StateSettings(),
        "gps": _section(GpsSettings, table.get("gps", {})),
        "can": tuple(bus for bus in can if bus is not None),
        "outbox": _section(OutboxSettings, table.get("outbox", {})) or OutboxSettings(),
        "broker": _section(BrokerSettings, table.get("broker")),
    }
    made = resolved(AgentSettings.model_construct(**sections), path.resolve().parent)
    return ConfigParts(
        vehicle_id=(vehicle.id or None) if vehicle else None,
        **{name: getattr(made, name) for name in USED},
        fault=fault,
    )


def _section(model: type[_Section], table: Any) -> _Section | None:
    try:
        return model.model_validate(table)
    except ValidationError:
        return None
