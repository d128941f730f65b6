"""One request and its answers over ISO-TP (ISO 15765-2), on can-isotp's state machine.

Each ECU has a receiver of its own, by the id it answers with, so that the frames of two
that answer at once may come in any mixture. Frames are given to the receivers only during
an exchange: another tester's multi-frame answers must not get flow control from us.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import isotp

from agent.sources.obd.addresses import Target
from agent.sources.obd.services import Answer, Refusal, parse_answer

PENDING_TIMEOUT_S: Final = 5.0
"""P2*: how long an ECU has after "response pending" (ISO 15765-4 and ISO 14229-2)."""

LONGEST_EXCHANGE_S: Final = 30.0
"""An ECU that stays pending for ever is given up."""

SLICE_S: Final = 0.05
"""The longest wait for one frame, so that time-outs and a stop are heeded."""

MOST_LATE_FRAMES: Final = 2_000

PARAMS: Final[dict[str, Any]] = {
    "tx_padding": 0x00,  # ISO 15765-4 wants eight bytes always
    "blocksize": 0,
    "stmin": 0,
    "rx_consecutive_frame_timeout": 1_000,  # N_Cr
    "rx_flowcontrol_timeout": 1_000,  # N_Bs
    "wftmax": 8,
    "max_frame_size": 4_095,
    "logger_name": "agent.sources.obd.isotp",
}

# What can-isotp warns of is counted here; a disturbed bus must not fill the journal.
logging.getLogger("agent.sources.obd.isotp").setLevel(logging.CRITICAL)

Receive = Callable[[float], tuple[int, bool, bytes] | None]
"""Wait so long for a frame: id, whether of 29 bits, data."""

Send = Callable[[int, bytes, bool], None]


@dataclass(slots=True)
class _Ecu:
    """One direction pair of ids and its state machine."""

    layer: isotp.TransportLayerLogic
    frames: deque[isotp.CanMessage]


@dataclass(slots=True)
class IsoTpLink:
    """``ask`` from one thread."""

    send: Send
    receive: Receive
    monotonic_s: Callable[[], float]
    is_stopping: Callable[[], bool]
    answer_timeout_s: float
    transport_errors: Counter[str] = field(default_factory=Counter)
    refusals: Counter[int] = field(default_factory=Counter)
    _ecus: dict[tuple[int, int], _Ecu] = field(default_factory=dict)

    def ask(
        self, request: bytes, target: Target, expected: frozenset[int] | None = None
    ) -> list[Answer]:
        """The final answers, by ECU; none when nobody answered in time.

        ``expected`` are the ECUs (ids of their answers) after whose answers a request to
        all is over; otherwise its whole time is waited, since anybody may answer.

        Raises:
            SourceError: the bus is of no use any more.
        """
        self._forget()
        sender = self._ecu(target.request_id, target.first_response_id)
        sender.layer.send(request)
        sender.layer.process()
        begun_s = self.monotonic_s()
        deadline_s = begun_s + self.answer_timeout_s
        pending_until_s: dict[int, float] = {}
        answers: dict[int, Answer] = {}
        while not self.is_stopping():
            now_s = self.monotonic_s()
            if target.is_one and answers:
                break
            if expected is not None and expected <= answers.keys():
                break
            until_s = max([deadline_s, *pending_until_s.values()])
            if now_s >= begun_s + LONGEST_EXCHANGE_S or (
                now_s >= until_s and not self._is_receiving()
            ):
                break
            self._take(target, self.receive(SLICE_S))
            for ecu, payload in self._complete():
                answer = parse_answer(request, ecu, payload)
                if answer is None:
                    continue
                if answer.refusal == Refusal.RESPONSE_PENDING:
                    pending_until_s[ecu] = self.monotonic_s() + PENDING_TIMEOUT_S
                    continue
                if answer.refusal is not None:
                    self.refusals[answer.refusal] += 1
                pending_until_s.pop(ecu, None)
                answers[ecu] = answer
        return list(answers.values())

    def _forget(self) -> None:
        """Late answers to the request before this one answer nothing."""
        for _ in range(MOST_LATE_FRAMES):
            if self.receive(0) is None:
                break
        for ecu in self._ecus.values():
            ecu.frames.clear()
            ecu.layer.reset()

    def _take(self, target: Target, frame: tuple[int, bool, bytes] | None) -> None:
        if frame is not None:
            frame_id, extended, data = frame
            if not target.is_answer(frame_id, extended=extended):
                return
            ecu = self._ecu(target.flow_control_id(frame_id), frame_id)
            ecu.frames.append(
                isotp.CanMessage(
                    arbitration_id=frame_id, dlc=len(data), data=data, extended_id=extended
                )
            )
        for ecu in self._ecus.values():
            ecu.layer.process()

    def _complete(self) -> list[tuple[int, bytes]]:
        done = []
        for (_, response_id), ecu in self._ecus.items():
            while (payload := ecu.layer.recv()) is not None:
                done.append((response_id, bytes(payload)))
        return done

    def _is_receiving(self) -> bool:
        return any(ecu.layer.is_rx_active() for ecu in self._ecus.values())

    def _ecu(self, request_id: int, response_id: int) -> _Ecu:
        ecu = self._ecus.get((request_id, response_id))
        if ecu is None:
            ecu = self._ecus[request_id, response_id] = self._new_ecu(request_id, response_id)
        return ecu

    def _new_ecu(self, request_id: int, response_id: int) -> _Ecu:
        extended = request_id > 0x7FF
        mode = (
            isotp.AddressingMode.Normal_29bits if extended else (isotp.AddressingMode.Normal_11bits)
        )
        frames: deque[isotp.CanMessage] = deque()
        layer = isotp.TransportLayerLogic(
            rxfn=lambda _timeout_s: frames.popleft() if frames else None,
            txfn=lambda message: self.send(message.arbitration_id, bytes(message.data), extended),
            address=isotp.Address(mode, txid=request_id, rxid=response_id),
            error_handler=self._count,
            params=PARAMS,
        )
        return _Ecu(layer, frames)

    def _count(self, error: Exception) -> None:
        self.transport_errors[type(error).__name__] += 1
