"""The config sections of CAN: the buses, and which signal fills which field of the contract."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agent.config.sections import FilePath, Section


class FieldKind(StrEnum):
    """What a contract field takes from a CAN signal."""

    NUMBER = "number"
    FLAG = "flag"
    """Any value but zero is true."""
    CODES = "codes"
    """Each signal that is not zero gives one code."""
    ANY = "any"
    """The value as the DBC has it: a number, or the text of its value table."""


FIELDS: Final[dict[str, FieldKind]] = {
    "location.lat": FieldKind.NUMBER,
    "location.lon": FieldKind.NUMBER,
    "location.altitude": FieldKind.NUMBER,
    "location.accuracy": FieldKind.NUMBER,
    "battery.percent": FieldKind.NUMBER,
    "battery.voltage": FieldKind.NUMBER,
    "battery.current": FieldKind.NUMBER,
    "battery.temperature": FieldKind.NUMBER,
    "battery.charging": FieldKind.FLAG,
    "motion.speed_kmh": FieldKind.NUMBER,
    "motion.heading": FieldKind.NUMBER,
    "motion.acceleration.x": FieldKind.NUMBER,
    "motion.acceleration.y": FieldKind.NUMBER,
    "motion.acceleration.z": FieldKind.NUMBER,
    "vehicle_status.locked": FieldKind.FLAG,
    "vehicle_status.in_use": FieldKind.FLAG,
    "diagnostics.odometer_km": FieldKind.NUMBER,
    "diagnostics.error_codes": FieldKind.CODES,
    "diagnostics.last_maintenance_km": FieldKind.NUMBER,
}
"""The contract's fields that a signal may fill, beside ``signals.<name>``."""

FIELD_UNITS: Final[dict[str, str]] = {
    "location.lat": "°",
    "location.lon": "°",
    "location.altitude": "m",
    "location.accuracy": "m",
    "battery.percent": "%",
    "battery.voltage": "V",
    "battery.current": "A",
    "battery.temperature": "°C",
    "motion.speed_kmh": "km/h",
    "motion.heading": "°",
    "motion.acceleration.x": "m/s²",
    "motion.acceleration.y": "m/s²",
    "motion.acceleration.z": "m/s²",
    "diagnostics.odometer_km": "km",
    "diagnostics.last_maintenance_km": "km",
}
"""The contract's unit of each field that has one."""

SIGNALS_PREFIX: Final = "signals."


def field_kind(name: str) -> FieldKind | None:
    """What the contract field takes, or ``None`` when there is no such field."""
    if name.startswith(SIGNALS_PREFIX) and 0 < len(name) - len(SIGNALS_PREFIX) <= 64:
        return FieldKind.ANY
    return FIELDS.get(name)


class Stat(StrEnum):
    """Which of the values since the last sample goes into a sample."""

    LAST = "last"
    """The newest."""
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    """Each frame counts as much as every other."""


class Match(StrEnum):
    """Which frames are a DBC's message."""

    AUTO = "auto"
    """Each message as the DBC says: by PGN where it is declared as J1939, else by id."""
    ID = "id"
    """Those with exactly its id."""
    PGN = "pgn"
    """Those with its J1939 parameter group number, of any priority and source address."""


class SignalSettings(Section):
    """One entry of ``[can.signals]``: where a contract field gets its value.

    The value is ``decoded * scale + offset``, where ``decoded`` is what the DBC gives.
    """

    signal: Annotated[str, Field(min_length=1)] = Field(
        description='"Signal", or "Message.Signal" where several messages have one of that name.'
    )
    scale: float = Field(default=1.0, description="Factor to the contract's unit. Default 1.")
    offset: float = Field(default=0.0, description="Added after the factor. Default 0.")
    min: float | None = Field(
        default=None, description="A lower value is left out, contract's unit. Default none."
    )
    max: float | None = Field(
        default=None, description="A higher value is left out, contract's unit. Default none."
    )
    unit: str | None = Field(
        default=None,
        description='The unit that the signal really has, where the DBC\'s is wrong, e.g. "km/h"; '
        '"" switches the check of units off. Default: the DBC\'s.',
    )
    not_available_raw: Annotated[tuple[int, ...], Field(strict=False, max_length=64)] = Field(
        default=(),
        description='Raw values that mean "not available", beside those that the DBC names so, '
        "e.g. [255]. Default none.",
    )
    stat: Annotated[Stat, Field(strict=False)] = Field(
        default=Stat.LAST,
        description='Of all values since the last sample: "last", "min", "max" or "mean". '
        'Default "last".',
    )
    source_address: Annotated[int, Field(ge=0, le=253)] | None = Field(
        default=None,
        description="The only J1939 source address to listen to, where several send the "
        "message. Default any.",
    )
    valid_if: str = Field(
        default="",
        description="A signal that must not be zero for this one to count, e.g. "
        '"PositionValid". Default "".',
    )
    stale_after_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Seconds after which a value that was not renewed is left out. Default: "
        "the bus's.",
    )

    @model_validator(mode="after")
    def _range_is_one(self) -> SignalSettings:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


def _signal_lists(value: object) -> object:
    """Accept ``"S"`` and ``{signal = "S"}`` for a list of one."""
    entries = value if isinstance(value, list) else [value]
    return tuple({"signal": entry} if isinstance(entry, str) else entry for entry in entries)


def flatten(value: object, *, leaf: str = "signal") -> object:
    """Accept ``location.lat = …`` as well as ``"location.lat" = …``; ``leaf`` marks an entry."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}

    def walk(prefix: str, table: dict[str, Any]) -> None:
        for key, inner in table.items():
            if isinstance(inner, dict) and leaf not in inner:
                walk(f"{prefix}{key}.", inner)
            else:
                flat[prefix + key] = inner

    walk("", value)
    return flat


Signals = Annotated[
    dict[
        str,
        Annotated[
            tuple[SignalSettings, ...],
            BeforeValidator(_signal_lists),
            Field(min_length=1, max_length=64),
        ],
    ],
    BeforeValidator(flatten),
]


class CanSettings(Section):
    """``[[can]]``: one bus."""

    interface: Annotated[str, Field(min_length=1)] = Field(
        default="socketcan",
        description='python-can interface: "socketcan" on a vehicle, "udp_multicast" or '
        '"virtual" on a desk. Default "socketcan".',
    )
    channel: Annotated[str, Field(min_length=1)] = Field(
        default="can0", description='The interface\'s channel. Default "can0".'
    )
    fd: bool = Field(default=False, description="Whether CAN FD frames are read. Default false.")
    dbc: Annotated[tuple[FilePath, ...], Field(min_length=1, strict=False)] = Field(
        description="The DBC files that describe the bus. Required."
    )
    match: Annotated[Match, Field(strict=False)] = Field(
        default=Match.AUTO,
        description='Which frames are a message of the DBC: "id" those with its id, "pgn" those '
        'with its J1939 PGN from any source address, "auto" as the DBC says. Default "auto".',
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of can.Bus, e.g. hop_limit = 0; none with socketcan. "
        "Default none.",
    )
    stale_after_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=10.0,
        description="Seconds after which a value that was not renewed is left out. Default 10.",
    )
    signals: Signals = Field(
        description="Contract field = signal, or a table with scale, offset, min, max, "
        "valid_if. Required."
    )

    @model_validator(mode="after")
    def _options_are_used(self) -> CanSettings:
        if self.interface == "socketcan" and self.options:
            raise ValueError("options are python-can's; socketcan is read without it")
        return self

    @field_validator("signals")
    @classmethod
    def _fields_exist(cls, signals: Any) -> Any:
        if not signals:
            raise ValueError("maps no signal")
        for name, entries in signals.items():
            kind = field_kind(name)
            if kind is None:
                raise ValueError(f"the contract has no field {name!r}{near_field(name)}")
            if len(entries) > 1 and kind is not FieldKind.CODES:
                raise ValueError(f"{name!r} takes one signal, not a list")
            if kind in {FieldKind.FLAG, FieldKind.CODES}:
                for entry in entries:
                    if entry.stat is not Stat.LAST:
                        raise ValueError(f"{name!r} takes no stat: it is no measurement")
        if ("location.lat" in signals) != ("location.lon" in signals):
            raise ValueError("location.lat and location.lon must be mapped together")
        return signals


def near_field(name: str) -> str:
    """``; did you mean …?`` with the contract's field of the nearest name, or nothing."""
    import difflib  # noqa: PLC0415  only an error needs it

    near = difflib.get_close_matches(
        name, [*FIELDS, SIGNALS_PREFIX + name.rsplit(".", maxsplit=1)[-1]], n=1
    )
    return f'; did you mean "{near[0]}"?' if near else ""
