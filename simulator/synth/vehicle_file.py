"""The vehicle file: what is on the buses of a simulated vehicle. Every key is described here.

A signal takes a quantity of the drive (a field of ``VehicleState``) or a constant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from simulator.errors import FileError
from simulator.synth.models import MODELS
from simulator.synth.vehicle import VehicleState
from simulator.toml_file import Table, load

QUANTITIES: Final = tuple(field.name for field in fields(VehicleState))


class Source(Table):
    """Where a signal gets its value: ``quantity * scale + offset``, or ``constant``."""

    quantity: str | None = Field(default=None, description="A quantity of the drive.")
    scale: float = Field(default=1.0, description="Factor to the signal's unit. Default 1.")
    offset: float = Field(default=0.0, description="Added after the factor. Default 0.")
    constant: float | None = Field(default=None, description="In place of a quantity.")


def _source(value: object) -> object:
    """Accept ``"speed_kmh"`` and ``0`` for tables of one key."""
    if isinstance(value, str):
        return {"quantity": value}
    return {"constant": value} if isinstance(value, int | float) else value


class MessageMap(Table):
    """``[bus.messages.NAME]``: one message of the DBC, sent again and again."""

    period_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Seconds from frame to frame. Default: the DBC's GenMsgCycleTime, or 1.",
    )
    phase_s: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="When the first frame is sent, seconds. Default: each message a little later.",
    )
    source_address: Annotated[int, Field(ge=0, le=255)] | None = Field(
        default=None, description="J1939: sent from this address. Default: the DBC's."
    )
    signals: dict[str, Annotated[Source, BeforeValidator(_source)]] = Field(
        default_factory=dict,
        description="Signal = quantity, number, or a table with quantity, scale and offset.",
    )


class BusMap(Table):
    """``[[bus]]``: one bus of the vehicle."""

    channel: str = Field(default="can0", description='Its name on the vehicle. Default "can0".')
    dbc: Path = Field(description="The DBC, relative to this file. Required.")
    messages: dict[str, MessageMap] = Field(description="What is sent, by the message's name.")


class EcuProtocol(StrEnum):
    """How an ECU speaks beside the cyclic messages."""

    OBD = "obd"
    J1939 = "j1939"


class EcuMap(Table):
    """``[[ecu]]``: an ECU that answers or tells its faults; only scenarios have it."""

    channel: str = Field(default="can0", description='Its bus. Default "can0".')
    protocol: EcuProtocol = Field(
        description='"obd" answers OBD-II and UDS requests, "j1939" broadcasts. Required.'
    )
    address: Annotated[int, Field(ge=0, le=253)] = Field(
        default=0, description="J1939: its source address. OBD: its number, 0 to 7. Default 0."
    )
    faults: tuple[str, ...] = Field(
        default=(), description='Stored codes, e.g. ["P0301"], or SPN:FMI, ["110:3"]. Default none.'
    )


class VehicleProfile(Table):
    """The whole file: a kind of vehicle as it looks from outside."""

    model: str = Field(
        default="light-van", description=f"Its physics: {', '.join(MODELS)}. Default light-van."
    )
    battery_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        default=70.0, description="State of charge at the beginning, %. Default 70."
    )
    gps: bool = Field(default=True, description="Whether it has a receiver. Default true.")
    bus: tuple[BusMap, ...] = Field(default=(), description="Its buses. Default none.")
    ecu: tuple[EcuMap, ...] = Field(default=(), description="Its ECUs. Default none.")

    @property
    def channels(self) -> list[str]:
        """Every bus, each once."""
        named = [bus.channel for bus in self.bus] + [ecu.channel for ecu in self.ecu]
        return list(dict.fromkeys(named))


def load_profile(path: Path) -> VehicleProfile:
    """Read a profile; its DBC paths become those of files.

    Raises:
        FileError: it cannot be read or used, with the key.
    """
    profile = load(path, VehicleProfile)
    if profile.model not in MODELS:
        raise FileError(
            f"{path}: model: there is no {profile.model!r}{near(profile.model, MODELS)}",
            hint=f"choose one of {', '.join(MODELS)}",
        )
    buses = tuple(
        bus.model_copy(update={"dbc": path.resolve().parent / bus.dbc}) for bus in profile.bus
    )
    return profile.model_copy(update={"bus": buses})


def near(name: str, known: Iterable[str]) -> str:
    """A guess at a mistyped name, for the end of a message; empty where there is none."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
