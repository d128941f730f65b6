"""A truck's ECU that broadcasts J1939, in a thread; it sleeps with the ignition off."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from simulator.clock import monotonic_s
from simulator.ecu import j1939
from simulator.ecu.bus_node import BusNode
from simulator.ecu.engine import EngineAt, EngineState
from simulator.ecu.node import DEFAULT_VIN

if TYPE_CHECKING:
    import can

PACKET_EVERY_S: Final = 0.05
"""Between the packets of a broadcast message, the least that the standard allows."""

GROUPS: Final[Sequence[tuple[int, float, int, Callable[[EngineState], bytes]]]] = (
    (j1939.EEC1, 0.05, 3, j1939.eec1),
    (j1939.CCVS1, 0.1, 6, j1939.ccvs1),
    (j1939.ENGINE_TEMPERATURE_1, 1.0, 6, j1939.engine_temperature),
    (j1939.VEHICLE_DISTANCE, 1.0, 6, j1939.vehicle_distance),
    (j1939.DASH_DISPLAY, 1.0, 6, j1939.dash_display),
)
"""Group, seconds between two, priority, and its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TruckOptions:
    """What the ECU is."""

    address: int = 0
    vin: str = DEFAULT_VIN
    faults: Sequence[j1939.Fault] = ()
    dm1_every_s: float = 1.0


class TruckNode(BusNode):
    """Broadcasts what ``options`` say; ``faults`` may be replaced at any time."""

    name = "truck"

    def __init__(
        self,
        options: TruckOptions | None = None,
        *,
        interface: str,
        channel: str,
        bus_options: Mapping[str, Any] | None = None,
        engine: EngineAt | None = None,
    ) -> None:
        super().__init__(
            interface=interface, channel=channel, bus_options=bus_options, engine=engine
        )
        self.options = options or TruckOptions()
        self.faults: Sequence[j1939.Fault] | None = self.options.faults
        """``None`` sends no DM1 at all."""
        self.frames_sent = 0
        self.requests = 0
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._queued = 0
        self._transport_free_s = 0.0

    def _serve(self, bus: can.BusABC) -> None:
        import can  # noqa: PLC0415  slow to import

        due_s = dict.fromkeys((group for group, *_ in GROUPS), self._begun_s)
        due_s[j1939.DM1] = self._begun_s
        while not self._stopping.is_set():
            next_s = min([*due_s.values(), *(entry[0] for entry in self._queue[:1])])
            message = bus.recv(max(0.001, next_s - monotonic_s()))
            if message is not None:
                self._hear(message)
            now_s = monotonic_s()
            self._broadcast(due_s, now_s)
            while self._queue and self._queue[0][0] <= now_s:
                _, _, frame_id, data = heapq.heappop(self._queue)
                bus.send(can.Message(arbitration_id=frame_id, data=data))
                self.frames_sent += 1

    def _broadcast(self, due_s: dict[int, float], now_s: float) -> None:
        state = self._engine(now_s - self._begun_s)
        source = self.options.address
        for group, every_s, priority, encode in GROUPS:
            if now_s >= due_s[group]:
                due_s[group] = max(due_s[group] + every_s, now_s - every_s)
                if state.ignition:
                    self._put(now_s, j1939.frame_id(group, source, priority), encode(state))
        if now_s >= due_s[j1939.DM1]:
            due_s[j1939.DM1] = max(due_s[j1939.DM1] + self.options.dm1_every_s, now_s - 1)
            faults = self.faults
            if state.ignition and faults is not None:
                self._put_message(now_s, j1939.DM1, j1939.dm1(faults))

    def _hear(self, message: can.Message) -> None:
        """Answer a request to everyone or to this ECU, if the ignition is on."""
        group = message.arbitration_id >> 8 & 0x3_FF00
        destination = message.arbitration_id >> 8 & 0xFF
        if not message.is_extended_id or group != j1939.REQUEST or len(message.data) < 3:
            return
        state = self.state
        if destination not in {0xFF, self.options.address} or not state.ignition:
            return
        self.requests += 1
        asked = int.from_bytes(message.data[:3], "little")
        if asked == j1939.VEHICLE_ID:
            self._put_message(monotonic_s(), asked, j1939.vehicle_id(self.options.vin))
        elif asked == j1939.ENGINE_HOURS:
            self._put_message(monotonic_s(), asked, j1939.engine_hours(state))

    def _put_message(self, now_s: float, group: int, message: bytes) -> None:
        """One broadcast message after the other: a source has one open at a time."""
        frames = j1939.packets(group, self.options.address, message)
        at_s = now_s
        if len(frames) > 1:
            at_s = max(now_s, self._transport_free_s)
            self._transport_free_s = at_s + PACKET_EVERY_S * len(frames)
        for number, (frame_id, data) in enumerate(frames):
            self._put(at_s + number * PACKET_EVERY_S, frame_id, data)

    def _put(self, at_s: float, frame_id: int, data: bytes) -> None:
        self._queued += 1
        heapq.heappush(self._queue, (at_s, self._queued, frame_id, data))
