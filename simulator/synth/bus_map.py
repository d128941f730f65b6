"""What a simulated vehicle sends on its buses: messages of a DBC, fed by the drive.

A signal takes a quantity of the drive (a field of ``VehicleState``) or a constant. Signals
that are not named keep the DBC's initial value, or the value nearest to 0 that they can
have. A multiplexed message is sent with each of its selector's values in turn.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from simulator.errors import FileError
from simulator.synth.models import MODELS
from simulator.synth.vehicle import VehicleState
from simulator.toml_file import Table, load

QUANTITIES: Final = tuple(field.name for field in fields(VehicleState))
DEFAULT_PERIOD_S: Final = 1.0
PHASE_STEP_S: Final = 0.005


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
            f"{path}: model: there is no {profile.model!r}{_near(profile.model, MODELS)}",
            hint=f"choose one of {', '.join(MODELS)}",
        )
    buses = tuple(
        bus.model_copy(update={"dbc": path.resolve().parent / bus.dbc}) for bus in profile.bus
    )
    return profile.model_copy(update={"bus": buses})


@dataclass(slots=True)
class CyclicMessage:
    """One message that is sent every ``period_s``, first at ``phase_s``."""

    channel: str
    frame_id: int
    extended: bool
    period_s: float
    phase_s: float
    _message: Any
    _sources: dict[str, Source]
    _resting: dict[str, float]
    _selector: str | None
    _branches: tuple[int, ...]

    def data(self, state: VehicleState, number: int) -> bytes:
        """The payload of frame ``number``, counted from 0."""
        values = dict(self._resting)
        for name, source in self._sources.items():
            values[name] = _clamped(self._message.get_signal_by_name(name), _value(source, state))
        if self._selector is not None:
            branch = self._branches[number % len(self._branches)]
            values[self._selector] = branch
            values = {
                signal.name: values[signal.name]
                for signal in self._message.signals
                if not signal.multiplexer_ids or branch in signal.multiplexer_ids
            }
        # J1939: bits that are not used are 1
        padding = self._message.protocol == "j1939"
        data: bytes = self._message.encode(values, padding=padding, strict=True)
        return data


def cyclic_messages(bus: BusMap, *, state: VehicleState) -> list[CyclicMessage]:
    """The messages of a bus, tied to its DBC; ``state`` says which quantities there are.

    Raises:
        FileError: the DBC cannot be read, or a message, signal or quantity does not exist.
    """
    database = load_dbc(bus.dbc)
    known = {message.name: message for message in database.messages}
    found = []
    for index, (name, wanted) in enumerate(bus.messages.items()):
        message = known.get(name)
        if message is None:
            raise FileError(
                f"{bus.dbc} has no message {name!r}{_near(name, known)}",
                hint="cantools dump FILE lists what it has",
            )
        found.append(_cyclic(bus, message, wanted, index, state))
    return found


def load_dbc(path: Path) -> Any:
    """The DBC, as cantools loads it.

    Raises:
        FileError: cantools refuses it, or it cannot be read.
    """
    import cantools  # noqa: PLC0415  half a second that only CAN needs

    try:
        return cantools.database.load_file(path, database_format="dbc", strict=False)
    except (OSError, ValueError, cantools.Error) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(
            f"the DBC {path} cannot be read: {first}", hint="check it with: cantools dump FILE"
        ) from error


def _cyclic(
    bus: BusMap, message: Any, wanted: MessageMap, index: int, state: VehicleState
) -> CyclicMessage:
    signals = {signal.name: signal for signal in message.signals}
    for name, source in wanted.signals.items():
        if name not in signals:
            raise FileError(
                f"{bus.dbc}: {message.name} has no signal {name!r}{_near(name, signals)}",
                hint=f"it has {', '.join(signals)}",
            )
        _check_source(f"{message.name}.{name}", source, state)
    selectors = [signal.name for signal in message.signals if signal.is_multiplexer]
    if len(selectors) > 1:
        raise FileError(
            f"{bus.dbc}: {message.name} has {len(selectors)} multiplexers; one can be sent",
            hint="leave this message out",
        )
    branches = sorted({one for signal in message.signals for one in signal.multiplexer_ids or ()})
    frame_id = message.frame_id
    if wanted.source_address is not None:
        frame_id = frame_id & ~0xFF | wanted.source_address
    period_s = wanted.period_s or (message.cycle_time or 0) / 1000 or DEFAULT_PERIOD_S
    return CyclicMessage(
        channel=bus.channel,
        frame_id=frame_id,
        extended=message.is_extended_frame,
        period_s=period_s,
        phase_s=(index + 1) * PHASE_STEP_S if wanted.phase_s is None else wanted.phase_s,
        _message=message,
        _sources=dict(wanted.signals),
        _resting={
            name: _clamped(signal, float(signal.initial or 0)) for name, signal in signals.items()
        },
        _selector=selectors[0] if selectors else None,
        _branches=tuple(branches),
    )


def _check_source(where: str, source: Source, state: VehicleState) -> None:
    quantity = source.quantity
    if (quantity is None) is (source.constant is None):
        raise FileError(
            f"{where}: give either a quantity or a constant",
            hint=f"the quantities are {', '.join(QUANTITIES)}",
        )
    if quantity is None:
        return
    if quantity not in QUANTITIES:
        raise FileError(
            f"{where}: the drive has no quantity {quantity!r}{_near(quantity, QUANTITIES)}",
            hint=f"it has {', '.join(QUANTITIES)}",
        )
    if getattr(state, quantity) is None:
        raise FileError(
            f"{where}: this model of vehicle has no {quantity}",
            hint="an engine's quantities need a model with an engine, a motor's one without",
        )


def _value(source: Source, state: VehicleState) -> float:
    if source.quantity is None:
        return float(source.constant or 0.0)
    return float(getattr(state, source.quantity)) * source.scale + source.offset


def _clamped(signal: Any, value: float) -> float:
    """A sensor that is out of its range says the end of it."""
    if signal.minimum is not None:
        value = max(value, float(signal.minimum))
    if signal.maximum is not None:
        value = min(value, float(signal.maximum))
    return value


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
