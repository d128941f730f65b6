"""The config sections of the sources: GPS, position checks and CAN."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agent.config.sections import FilePath, Host, Port, Section
from agent.config.serial import SerialSettings


class GpsSource(StrEnum):
    """Where fixes come from."""

    GPSD = "gpsd"
    """A gpsd daemon, spoken to over TCP."""

    SERIAL = "serial"
    """NMEA straight from a serial port, without gpsd."""

    NONE = "none"
    """No receiver; positions may still come from CAN signals."""


def _one_or_more(value: object) -> object:
    if isinstance(value, str):
        return (value,) if value else ()
    return value


class GpsSettings(Section):
    """``[gps]``: the receiver."""

    source: Annotated[GpsSource, Field(strict=False)] = Field(
        default=GpsSource.GPSD, description='"gpsd", "serial" or "none". Default "gpsd".'
    )
    host: Host = Field(default="127.0.0.1", description='Where gpsd is. Default "127.0.0.1".')
    port: Port = Field(default=2947, description="gpsd's TCP port. Default 2947.")
    device: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(_one_or_more),
        Field(max_length=16, strict=False),
    ] = Field(
        default=(),
        description="The receiver to listen to where gpsd has several, or a list in the order of "
        'preference, e.g. ["/dev/ttyAMA0", "/dev/ttyACM0"]; each as gpsd names it. Default []: '
        "the first one with a fix.",
    )
    fall_back_after_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=10.0,
        description="Seconds without a fix of the receiver in use until another one takes over. "
        "Default 10.",
    )
    return_after_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=30.0,
        description="Seconds of unbroken fixes until a more preferred receiver is taken again. "
        "Default 30.",
    )
    stale_after_s: Annotated[float, Field(ge=0.5, le=3_600)] = Field(
        default=5.0,
        description="Seconds after which a fix that was not renewed is no longer sent. Default 5.",
    )
    silent_after_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=15.0,
        description="Seconds without a word of the receiver until it counts as lost; also for a "
        "fix that is only repeated. Default 15.",
    )
    no_fix_after_s: Annotated[float, Field(ge=10, le=86_400)] = Field(
        default=300.0,
        description="Seconds without a fix until that is a fault event; shorter tunnels and "
        "garages are none. Default 300.",
    )
    serial: SerialSettings = Field(
        default=SerialSettings(),
        description='Used with `source = "serial"`. Such a port belongs to the agent alone: '
        "gpsd must not have it.",
    )


class Standing(StrEnum):
    """What is told of the position while the vehicle stands."""

    HOLD = "hold"
    """Where it stopped, until there is evidence that it moves."""

    FOLLOW = "follow"
    """What the receiver says, which wanders."""


class PositionSettings(Section):
    """``[position]``: what a position must satisfy, and when a vehicle stands."""

    max_speed_kmh: Annotated[float, Field(gt=0)] = Field(
        default=400.0,
        description="A position that implies a higher speed than this since the last one is "
        "rejected, km/h. Default 400.",
    )
    max_error_m: Annotated[float, Field(gt=0)] = Field(
        default=1_000.0,
        description="A position whose receiver claims a larger error than this (radius of 95 %) "
        "is rejected, metres. Default 1000.",
    )
    standing: Annotated[Standing, Field(strict=False)] = Field(
        default=Standing.HOLD,
        description='Position and speed of a vehicle that stands: "hold" tells where it stopped '
        'and 0 km/h, "follow" what the receiver says, which wanders. Parking, trips and distance '
        'are judged alike. Default "hold".',
    )
    standing_below_kmh: Annotated[float, Field(gt=0, le=10)] = Field(
        default=2.0,
        description="A vehicle slower than this for 5 s stands, km/h. Default 2.",
    )


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

SIGNALS_PREFIX: Final = "signals."


def field_kind(name: str) -> FieldKind | None:
    """What the contract field takes, or ``None`` when there is no such field."""
    if name.startswith(SIGNALS_PREFIX) and 0 < len(name) - len(SIGNALS_PREFIX) <= 64:
        return FieldKind.ANY
    return FIELDS.get(name)


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
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of can.Bus, e.g. hop_limit = 0. Default none.",
    )
    stale_after_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=10.0,
        description="Seconds after which a value that was not renewed is left out. Default 10.",
    )
    signals: Signals = Field(
        description="Contract field = signal, or a table with scale, offset, min, max, "
        "valid_if. Required."
    )

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
