"""The sources' part of the composition: which of them a config asks for, built and held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent.config import AgentSettings, GpsSource
from agent.engine.rate import Rate
from agent.inputs import Inbox, SignalReader
from agent.ports import Clock
from agent.sources.can.python_can import check_interface
from agent.sources.can.setup import load_signal_map
from agent.sources.can.source import CanSource
from agent.sources.dbc.compile import TIMEOUT_S as DBC_TAKES_S
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.source import GpsdSource
from agent.sources.j1939.source import J1939Source
from agent.sources.nmea.baud import BaudMemory
from agent.sources.obd.source import Ignition, ObdSource
from contract import Mode

if TYPE_CHECKING:
    from agent.sources.nmea.source import NmeaSource

USUAL_CYCLE_S: Final = 1.0
"""What a receiver does unasked; a mode that samples faster asks it for more."""

IN_USE: Final = "vehicle_status.in_use"

REST_OF_START_S: Final = 60.0
"""What the service manager is asked for beside the time of a bus's DBC files."""


class Source(Protocol):
    """``start()`` once; ``stop()`` at any time, idempotent, safe before ``start()``."""

    def start(self) -> None:
        """Begin, in a thread of its own."""
        ...

    def stop(self) -> None:
        """End that thread."""
        ...


def check_sources(settings: AgentSettings) -> None:
    """Look at the buses' interfaces and at the DBC files.

    Raises:
        ConfigError: a CAN interface or a mapped signal does not exist, a DBC is broken, a
            signal's unit is not its field's.
    """
    for bus in settings.can:
        check_interface(bus)
        load_signal_map(bus)
    for asked in settings.obd:
        check_interface(asked, "obd")
    for heard in settings.j1939:
        check_interface(heard, "j1939")


class SourceSet:
    """The config's sources; those on a bus are ``readers`` for the engine too.

    ``[[can]]`` comes last among the readers: what somebody mapped goes before a preset.
    ``ask_for_time`` is told, before each bus, how many seconds it may take from then on.
    """

    def __init__(
        self,
        settings: AgentSettings,
        inbox: Inbox,
        clock: Clock,
        ask_for_time: Callable[[float], None],
    ) -> None:
        self._gps = _gps_source(settings, inbox, clock)
        self._can = []
        for bus in settings.can:
            ask_for_time(DBC_TAKES_S + REST_OF_START_S)
            self._can.append(CanSource(bus, load_signal_map(bus), inbox, clock))
        mapped = frozenset(name for bus in settings.can for name in bus.signals)
        ignition = _ignition(settings, self._can)
        self._obd = [
            ObdSource(one, inbox, clock, mapped=mapped, ignition=ignition) for one in settings.obd
        ]
        self._j1939 = [J1939Source(one, inbox, clock) for one in settings.j1939]
        self.readers: list[SignalReader] = [*self._obd, *self._j1939, *self._can]

    def start(self) -> None:
        """Start them all."""
        for source in self._all():
            source.start()

    def stop(self) -> None:
        """Stop them all."""
        for source in self._all():
            source.stop()

    def on_rate(self, rate: Rate) -> None:
        """Another rate or mode: a trip wants a faster receiver, and its ECUs are awake."""
        if self._gps is not None:
            fast = rate.interval_s < USUAL_CYCLE_S
            self._gps.request_cycle(rate.interval_s if fast else None)
        for asked in self._obd:
            asked.set_in_trip(in_trip=rate.wanted is Mode.IN_TRIP)

    def frames_dropped(self) -> dict[str, int]:
        """Mapped frames that were lost before they could be decoded, by bus that lost any."""
        lost = {bus.channel[:64]: bus.frames_dropped() for bus in self._can}
        return {channel: frames for channel, frames in lost.items() if frames}

    def account(self) -> dict[str, Any]:
        """What the receiver and the buses give; from any thread."""
        return {
            "gps": self._gps.account() if self._gps else None,
            "can": [bus.account() for bus in self._can],
            "obd": [asked.account() for asked in self._obd],
            "j1939": [heard.account() for heard in self._j1939],
        }

    def _all(self) -> list[Source]:
        return [*self._can, *self._obd, *self._j1939, *([self._gps] if self._gps else [])]


def _gps_source(
    settings: AgentSettings, inbox: Inbox, clock: Clock
) -> GpsdSource | NmeaSource | None:
    cycles = CycleMemory(settings.state.dir)
    match settings.gps.source:
        case GpsSource.GPSD:
            return GpsdSource(settings.gps, inbox, clock, cycles)
        case GpsSource.SERIAL:
            # pyserial is loaded only where there is a port to read
            from agent.sources.nmea.source import NmeaSource  # noqa: PLC0415

            return NmeaSource(settings.gps, inbox, clock, BaudMemory(settings.state.dir), cycles)
        case GpsSource.NONE:
            return None


def _ignition(settings: AgentSettings, buses: list[CanSource]) -> Ignition:
    """What the mapped signal says, of the bus that has it; ``None`` where none does."""
    telling = [bus for bus, one in zip(buses, settings.can, strict=True) if IN_USE in one.signals]

    def ignition(now_s: float) -> bool | None:
        for bus in telling:
            value = bus.read(now_s).get(IN_USE)
            if isinstance(value, bool):
                return value
        return None

    return ignition
