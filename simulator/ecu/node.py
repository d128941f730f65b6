"""One ECU on a bus, in a thread: it answers, is slow, sleeps and wakes as real ones do."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from simulator.clock import monotonic_s
from simulator.ecu import obd, uds
from simulator.ecu.bus_node import BusNode
from simulator.ecu.engine import EngineAt

if TYPE_CHECKING:
    import can
    import isotp

P2_S: Final = 0.05
"""What an ECU has for its answer before it must say "response pending"."""

PENDING_EVERY_S: Final = 2.0
RECEIVE_S: Final = 0.02

DEFAULT_VIN: Final = "WMPST000000000001"
DEFAULT_PIDS: Final = (0x04, 0x05, 0x0C, 0x0D, 0x1C, 0x2F, 0x42, 0xA6)


@dataclass(frozen=True, slots=True, kw_only=True)
class EcuOptions:
    """What an ECU is. Its ids are derived from ``number``: 7E0 + number, or 18DA10F1."""

    number: int = 0
    extended: bool = False
    vin: str | None = DEFAULT_VIN
    pids: Sequence[int] = DEFAULT_PIDS
    refused_pids: Sequence[int] = ()
    stored: Sequence[obd.TroubleCode] = ()
    pending: Sequence[obd.TroubleCode] = ()
    permanent: Sequence[obd.TroubleCode] = ()
    answer_after_s: float = 0.005
    """Longer than 50 ms is told by "response pending"."""

    stays_awake_s: float = 10.0
    """After the ignition went off, and after each request: requests keep an ECU awake."""

    traffic_every_s: float = 0.1
    """A frame that nobody asked for, while awake; 0 sends none, as behind a gateway."""

    @property
    def request_id(self) -> int:
        """The id of requests to this ECU alone."""
        return 0x18DA_00F1 | (0x10 + self.number) << 8 if self.extended else 0x7E0 + self.number

    @property
    def response_id(self) -> int:
        """The id of its answers."""
        return 0x18DA_F100 | 0x10 + self.number if self.extended else 0x7E8 + self.number

    @property
    def functional_id(self) -> int:
        """The id of requests to all."""
        return 0x18DB_33F1 if self.extended else 0x7DF


@dataclass(slots=True)
class EcuCounts:
    """What happened so far."""

    requests: int = 0
    answers: int = 0
    unheard: int = 0
    """Requests that came while it slept; each woke it."""

    asleep: bool = False


@dataclass(slots=True)
class _Reply:
    payload: bytes
    due_s: float


class EcuNode(BusNode):
    """Answers what ``options`` say; counts what it was asked."""

    name = "ecu"

    def __init__(
        self,
        options: EcuOptions | None = None,
        *,
        interface: str,
        channel: str,
        bus_options: Mapping[str, Any] | None = None,
        engine: EngineAt | None = None,
    ) -> None:
        super().__init__(
            interface=interface, channel=channel, bus_options=bus_options, engine=engine
        )
        self.options = options or EcuOptions()
        self.counts = EcuCounts()
        self._kept_awake_until_s = 0.0
        self._replies: deque[_Reply] = deque()
        self._traffic_due_s = 0.0

    def _serve(self, bus: can.BusABC) -> None:
        self._traffic_due_s = self._begun_s
        self._kept_awake_until_s = self._begun_s + self.options.stays_awake_s
        layer, frames = self._layer(bus)
        while not self._stopping.is_set():
            self._turn(bus, layer, frames)

    def _layer(self, bus: can.BusABC) -> tuple[isotp.TransportLayerLogic, deque[isotp.CanMessage]]:
        import can  # noqa: PLC0415  slow to import
        import isotp  # noqa: PLC0415  likewise

        def send(message: isotp.CanMessage) -> None:
            bus.send(
                can.Message(
                    arbitration_id=message.arbitration_id,
                    data=message.data,
                    is_extended_id=message.is_extended_id,
                )
            )

        options = self.options
        modes = isotp.AddressingMode
        mode = modes.Normal_29bits if options.extended else modes.Normal_11bits
        frames: deque[isotp.CanMessage] = deque()
        return (
            isotp.TransportLayerLogic(
                rxfn=lambda _timeout_s: frames.popleft() if frames else None,
                txfn=send,
                address=isotp.Address(mode, txid=options.response_id, rxid=options.request_id),
                params={"tx_padding": 0xAA, "wftmax": 8},
            ),
            frames,
        )

    def _turn(
        self,
        bus: can.BusABC,
        layer: isotp.TransportLayerLogic,
        frames: deque[isotp.CanMessage],
    ) -> None:
        import isotp  # noqa: PLC0415  slow to import

        message = bus.recv(0.001 if layer.transmitting() else RECEIVE_S)
        now_s = monotonic_s()
        options = self.options
        awake = self._engine(now_s - self._begun_s).ignition or now_s < self._kept_awake_until_s
        if message is not None and message.is_extended_id == options.extended:
            functional = message.arbitration_id == options.functional_id
            if functional or message.arbitration_id == options.request_id:
                self._kept_awake_until_s = now_s + options.stays_awake_s
                if awake:
                    frames.append(
                        isotp.CanMessage(
                            arbitration_id=options.request_id,
                            dlc=len(message.data),
                            data=bytes(message.data),
                            extended_id=options.extended,
                        )
                    )
                else:
                    self.counts.unheard += 1
        self.counts.asleep = not awake
        layer.process()
        while (request := layer.recv()) is not None:
            functional = message is not None and message.arbitration_id == options.functional_id
            self._take(bytes(request), functional=functional, now_s=now_s)
        while self._replies and self._replies[0].due_s <= now_s and not layer.transmitting():
            layer.send(self._replies.popleft().payload)
            self.counts.answers += 1
            layer.process()
        if awake and options.traffic_every_s and now_s >= self._traffic_due_s:
            self._traffic_due_s = now_s + options.traffic_every_s
            self._send_traffic(bus)

    def _take(self, request: bytes, *, functional: bool, now_s: float) -> None:
        self.counts.requests += 1
        options = self.options
        reply = obd.answer(
            request,
            state=self._engine(now_s - self._begun_s),
            pids=options.pids,
            vin=options.vin,
            codes={0x03: options.stored, 0x07: options.pending, 0x0A: options.permanent},
            refused=options.refused_pids,
        )
        if reply is None:
            listed = [(code, 0x09) for code in options.stored]
            listed += [(code, 0x04) for code in options.pending]
            reply = uds.answer(request, listed)
        # ISO 14229-1: whoever was not meant keeps quiet on a request to all
        unmeant = {obd.NOT_SUPPORTED, obd.SUBFUNCTION_NOT_SUPPORTED, obd.OUT_OF_RANGE}
        if not reply or (functional and reply[0] == obd.NEGATIVE and reply[2] in unmeant):
            return
        wait_s = options.answer_after_s
        pending_s = P2_S
        while pending_s < wait_s:
            self._replies.append(_Reply(bytes([0x7F, request[0], 0x78]), now_s + pending_s))
            pending_s += PENDING_EVERY_S
        self._replies.append(_Reply(reply, now_s + wait_s))

    def _send_traffic(self, bus: can.BusABC) -> None:
        import can  # noqa: PLC0415  slow to import

        speed = round(self.state.speed_kmh * 100).to_bytes(2, "big")
        bus.send(can.Message(arbitration_id=0x0B4, data=speed + bytes(6), is_extended_id=False))
