"""Messages that a vehicle sends again and again, encoded by the DBC of their bus.

Signals that the vehicle file does not name keep the DBC's initial value, or the value
nearest to 0 that they can have. A multiplexed message is sent with each of its selector's
values in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.errors import FileError
from simulator.synth.vehicle import VehicleState
from simulator.synth.vehicle_file import QUANTITIES, BusMap, MessageMap, Source, near

DEFAULT_PERIOD_S: Final = 1.0
PHASE_STEP_S: Final = 0.005


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
                f"{bus.dbc} has no message {name!r}{near(name, known)}",
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
                f"{bus.dbc}: {message.name} has no signal {name!r}{near(name, signals)}",
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
            f"{where}: the drive has no quantity {quantity!r}{near(quantity, QUANTITIES)}",
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
