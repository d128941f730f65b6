"""Read the config file: TOML in, settings out, or one error that names every fault."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from agent.config.can import SIGNALS_PREFIX, CanSettings
from agent.config.identity import IdentitySettings
from agent.config.jobs import JobsSettings
from agent.config.metrics import MetricsSettings
from agent.config.obd import J1939Settings, ObdSettings
from agent.config.provision import ProvisionSettings
from agent.config.sampling import SamplingSettings
from agent.config.sections import (
    BrokerSettings,
    BudgetSettings,
    DeliverySettings,
    LogSettings,
    OutboxSettings,
    Section,
    ShadowSettings,
    StateSettings,
    VehicleSettings,
)
from agent.config.sources import GpsSettings, PositionSettings
from agent.errors import ConfigError
from contract.messages import MAX_SIGNALS


class AgentSettings(Section):
    """The whole config file."""

    vehicle: VehicleSettings = VehicleSettings()
    state: StateSettings = StateSettings()
    gps: GpsSettings = GpsSettings()
    position: PositionSettings = PositionSettings()
    can: tuple[CanSettings, ...] = Field(default=(), strict=False)
    obd: tuple[ObdSettings, ...] = Field(
        default=(),
        strict=False,
        description="ECUs that are asked by OBD-II or UDS, one table a bus. **The agent then "
        "transmits on it**, while the vehicle is awake ([obd.md](obd.md)). Default none.",
    )
    j1939: tuple[J1939Settings, ...] = Field(
        default=(),
        strict=False,
        description="Faults, VIN and engine hours of J1939 buses, one table a bus; single signals "
        "come through `[[can]]` and a DBC. Listens only, unless `requests` is set. Default none.",
    )
    sampling: SamplingSettings = SamplingSettings()
    outbox: OutboxSettings = OutboxSettings()
    delivery: DeliverySettings = DeliverySettings()
    budget: BudgetSettings = BudgetSettings()
    broker: BrokerSettings
    provision: ProvisionSettings = ProvisionSettings()
    identity: IdentitySettings = IdentitySettings()
    shadow: ShadowSettings = ShadowSettings()
    jobs: JobsSettings = JobsSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _one_source_a_field(self) -> AgentSettings:
        owners: dict[str, str] = {}
        for bus in self.can:
            for name in bus.signals:
                if name in owners:
                    raise ValueError(f"{name!r} is mapped on {owners[name]} and on {bus.channel}")
                owners[name] = bus.channel
        signals = sum(name.startswith(SIGNALS_PREFIX) for name in owners)
        if signals >= MAX_SIGNALS:
            raise ValueError(
                f"maps {signals} signals.*; a sample carries {MAX_SIGNALS - 1},"
                " and the distance by GPS"
            )
        return self

    @model_validator(mode="after")
    def _one_tester_a_bus(self) -> AgentSettings:
        buses = [(one.interface, one.channel, str(one.options)) for one in self.obd]
        for bus in buses:
            if buses.count(bus) > 1:
                raise ValueError(f"{bus[1]!r} has two [[obd]] tables; one asks for all of a bus")
        return self


_PATH_KEYS: Final = (
    ("state", "dir"),
    ("state", "runtime_dir"),
    ("broker", "ca_file"),
    ("broker", "certificate_file"),
    ("broker", "key_file"),
    ("broker", "pkcs11", "module_file"),
    ("broker", "pkcs11", "pin_file"),
    ("provision", "claim_certificate_file"),
    ("provision", "claim_key_file"),
)


def load(path: Path) -> AgentSettings:
    """Read and check the config file.

    Raises:
        ConfigError: the file cannot be read or is no TOML, or keys or values are wrong;
            the message has one line a fault, each with file, key and value.
    """
    return parse(read_table(path), path)


def read_table(path: Path) -> dict[str, Any]:
    """Read the config file; nothing of what it says is checked.

    Raises:
        ConfigError: the file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", hint="Name the config file with --config."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text", hint="Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: {error}", hint="Text values need quotes; see https://toml.io."
        ) from None


def parse(table: dict[str, Any], path: Path) -> AgentSettings:
    """Check an already parsed config; relative paths are taken from ``path``'s folder.

    Raises:
        ConfigError: as ``load``.
    """
    try:
        settings = AgentSettings.model_validate(table)
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [f"{path}: {_fault(detail)}" for detail in details]
        raise ConfigError("\n".join(lines), hint=_hint(details)) from None
    return resolved(settings, path.resolve().parent)


def with_section(settings: AgentSettings, section: str, table: dict[str, Any]) -> AgentSettings:
    """The settings with one section replaced; the others are as checked before.

    Raises:
        ConfigError: keys or values are wrong; one line a fault, each with key and value.
    """
    try:
        return AgentSettings.model_validate({**dict(settings), section: table})
    except ValidationError as error:
        details = error.errors(include_url=False)
        faults = "\n".join(_fault(detail) for detail in details)
        raise ConfigError(faults, hint=_hint(details)) from None


_Model = TypeVar("_Model", bound=BaseModel)


def resolved(settings: AgentSettings, folder: Path) -> AgentSettings:
    """The settings with all relative paths taken from ``folder``."""
    for keys in _PATH_KEYS:
        settings = _with_folder(settings, keys, folder)
    can = tuple(
        bus.model_copy(update={"dbc": tuple(folder / dbc for dbc in bus.dbc)})
        for bus in settings.can
    )
    return settings.model_copy(update={"can": can})


def _with_folder(part: _Model, keys: tuple[str, ...], folder: Path) -> _Model:
    value = getattr(part, keys[0])
    if value is None:
        return part
    inner = folder / value if len(keys) == 1 else _with_folder(value, keys[1:], folder)
    return part.model_copy(update={keys[0]: inner})


def _fault(detail: ErrorDetails) -> str:
    key = _key(detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), _siblings(detail["loc"]), n=1)
        guess = f'; did you mean "{near[0]}"?' if near else ""
        return f"{key} = {_shown(detail['input'])}: unknown key{guess}"
    if kind == "missing":
        return f"{key}: is required and missing"
    if kind == "tuple_type" and isinstance(detail["input"], dict):
        return f"{key}: is a list of tables; write [[{key}]], with two brackets"
    reason = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if isinstance(detail["input"], dict | list | tuple | BaseModel):
        return f"{key or 'config'}: {reason}"
    return f"{key} = {_shown(detail['input'])}: {reason}"


def _hint(details: list[ErrorDetails]) -> str:
    """The description of the first faulty key, which has its unit and default."""
    for detail in details:
        if detail["type"] == "extra_forbidden":
            return "Known keys there: " + ", ".join(sorted(_siblings(detail["loc"]))) + "."
        model, name = _place(detail["loc"])
        field = model.model_fields.get(name) if model else None
        if field is not None and field.description:
            return f"{_key(detail['loc'])}: {field.description}"
    return "See docs/configuration.md."


def _key(location: tuple[str | int, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = f'"{part}"' if "." in part else part
            text += f".{name}" if text else name
    return text


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _place(location: tuple[str | int, ...]) -> tuple[type[BaseModel] | None, str]:
    """The section that a key stands in, and the key."""
    model: type[BaseModel] | None = AgentSettings
    name = ""
    for part in location:
        if isinstance(part, int) or model is None:
            continue
        if name and name in model.model_fields:
            inner = _model_in(model.model_fields[name].annotation)
            if inner is not None:
                model = inner
                # a mapped field's name stands between `signals` or `pids` and its entry's keys
                name = "" if name in {"signals", "pids"} else part
                continue
        name = part
    return model, name


def _siblings(location: tuple[str | int, ...]) -> list[str]:
    model, _ = _place(location)
    return list(model.model_fields) if model else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
