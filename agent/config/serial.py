"""``[gps.serial]``: a receiver on a serial port, read without gpsd."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from agent.config.sections import Section

BAUDS: Final = (4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600)


class UbloxCycle(StrEnum):
    """Whether a u-blox receiver's cycle is changed."""

    TRIP = "trip"
    """As fast as the samples of a trip, back to its own after it; in its RAM only."""

    LEAVE = "leave"
    """Nothing is ever written to the receiver."""


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class SerialSettings(Section):
    """``[gps.serial]``."""

    device: Annotated[
        tuple[Annotated[str, Field(pattern="^/")], ...],
        BeforeValidator(_one_or_more),
        Field(min_length=1, max_length=16, strict=False),
    ] = Field(
        default=("/dev/serial0",),
        description="The port, or a list of which the first one that speaks is taken; `*` and "
        '`?` match, e.g. "/dev/serial/by-id/usb-u-blox*". Default "/dev/serial0".',
    )
    baud: Annotated[int, Field(ge=0, le=4_000_000)] = Field(
        default=0,
        description="Bits per second; 0 finds it out among "
        f"{BAUDS[0]} to {BAUDS[-1]} and remembers it. Default 0.",
    )
    ublox_cycle: Annotated[UbloxCycle, Field(strict=False)] = Field(
        default=UbloxCycle.TRIP,
        description='"trip" asks a u-blox receiver for as many fixes as a trip has samples, as far '
        'as the baud rate carries them; "leave" writes nothing to it. Default "trip".',
    )
