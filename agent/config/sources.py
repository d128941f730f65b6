"""The config sections of GPS and of the position checks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from agent.config.sections import Host, Port, Section
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

    @model_validator(mode="after")
    def _says_which_receiver(self) -> GpsSettings:
        if self.source is GpsSource.SERIAL and self.device:
            raise ValueError("device is for gpsd; a serial port stands in gps.serial.device")
        if "serial" in self.model_fields_set and "source" not in self.model_fields_set:
            raise ValueError('[gps.serial] is used with source = "serial" only; set gps.source')
        return self


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
