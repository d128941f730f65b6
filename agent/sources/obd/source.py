"""The OBD-II source: asks the ECUs of one bus in one thread, and only while they are awake.

Values, trouble codes and the VIN are kept for the engine to read. A vehicle that sleeps is
no fault; one that drives and does not answer is, and is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from agent.config.obd import ObdSettings
from agent.inputs import Inbox
from agent.ports import Clock
from agent.sources.can.worker import BusWorker
from agent.sources.obd import addresses
from agent.sources.obd.awake import Awake
from agent.sources.obd.policy import Asking, spacing_s
from agent.sources.obd.questions import Question, Questions

if TYPE_CHECKING:
    from agent.sources.obd.link import IsoTpLink

LOOK_EVERY_S: Final = 1.0
"""How often other traffic is looked for, where that decides anything."""

LOOK_S: Final = 0.2
"""How long one look waits for a frame."""

MOST_FRAMES_A_LOOK: Final = 2_000

SILENT_AFTER: Final = 8
"""Requests in a row without an answer after which the ECUs are searched for anew, and count
as lost if the vehicle is known to be in use."""

IN_USE: Final = frozenset({"in_trip", "ignition_on"})
"""Reasons for asking under which an ECU that does not answer is a fault."""

Ignition = Callable[[float], bool | None]
"""Whether a mapped CAN signal says that the vehicle is in use, at a monotonic time."""


class ObdSource(BusWorker):
    """``start()`` once; ``stop()`` at any time, idempotent; ``read`` from the engine.

    ``mapped`` are the fields that ``[[can]]`` fills: a preset leaves those alone.
    """

    def __init__(
        self,
        settings: ObdSettings,
        inbox: Inbox,
        clock: Clock,
        *,
        mapped: Collection[str] = (),
        ignition: Ignition = lambda _now_s: None,
    ) -> None:
        super().__init__("obd", settings, inbox, clock)
        self._obd = settings
        self._ignition = ignition
        self._in_trip = False
        self._questions = Questions(settings, self.readings, mapped)
        self._awake = Awake(settings, clock.monotonic_s())
        self._targets = [addresses.everyone(settings.ids), *map(addresses.uds, settings.uds)]
        self._link: IsoTpLink | None = None
        self._looked_s = self._ended_s = self._probed_s = float("-inf")
        self._unanswered = 0
        self.requests = 0
        self.answered = 0

    def set_in_trip(self, *, in_trip: bool) -> None:
        """Whether the vehicle is on a trip, as far as the engine knows; any thread."""
        self._in_trip = in_trip

    def account(self) -> dict[str, Any]:
        """What was asked and answered, and why nothing is asked at the moment."""
        link = self._link
        return {
            "channel": self._settings.channel,
            "state": self._awake.asking.value,
            "reason": self._awake.reason,
            "ecus": [f"{ecu:X}" for ecu in sorted(self._questions.ecus)],
            "requests": self.requests,
            "answered": self.answered,
            "refused": sum(link.refusals.values()) if link else 0,
            "transport_errors": sum(link.transport_errors.values()) if link else 0,
            "frames_sent": self.frames_sent,
            "bus_errors": self.bus_errors,
        }

    def _work(self) -> None:
        from agent.sources.obd.link import IsoTpLink  # noqa: PLC0415  brings python-can along

        link = self._link = IsoTpLink(
            send=lambda frame_id, data, extended: self._send(frame_id, data, extended=extended),
            receive=self._frame,
            monotonic_s=self._clock.monotonic_s,
            is_stopping=self._stopping.is_set,
            answer_timeout_s=self._obd.answer_timeout_s,
        )
        self._unanswered = 0
        self._questions.begin(self._clock.monotonic_s())
        self._let_answers_through()
        while not self._stopping.is_set():
            self._hold()
            self._decide()
            match self._awake.asking:
                case Asking.ASK:
                    self._ask_next(link)
                case Asking.PROBE:
                    self._probe(link)
                case Asking.LISTEN:
                    self._stopping.wait(LOOK_EVERY_S)
                    # an interface that went down says so only to somebody who reads
                    self._receive(0)

    def _frame(self, timeout_s: float) -> tuple[int, bool, bytes] | None:
        message = self._receive(timeout_s)
        if message is None:
            return None
        return message.arbitration_id, message.is_extended_id, bytes(message.data)

    def _decide(self) -> None:
        now_s = self._clock.monotonic_s()
        ignition, in_trip = self._ignition(now_s), self._in_trip
        look = now_s - self._looked_s >= LOOK_EVERY_S
        if look and self._awake.needs_traffic(now_s, ignition=ignition, in_trip=in_trip):
            self._look()
            now_s = self._clock.monotonic_s()
        before = self._awake.reason
        if self._awake.observe(now_s, ignition=ignition, in_trip=in_trip):
            self._questions.begin(now_s)
        if self._awake.reason != before:
            self._probed_s = now_s
            asking, reason = self._awake.asking.value, self._awake.reason
            self._log.info("OBD on %s: %s (%s)", self._settings.channel, asking, reason)

    def _look(self) -> None:
        """Look for frames that no tester and no answer to one sent."""
        self._filter([])
        timeout_s = LOOK_S
        for _ in range(MOST_FRAMES_A_LOOK):
            frame = self._frame(timeout_s)
            if frame is None:
                break
            timeout_s = 0
            if not self._is_diagnostic(frame[0], extended=frame[1]):
                self._awake.saw_traffic(self._clock.monotonic_s())
        self._looked_s = self._clock.monotonic_s()
        self._let_answers_through()

    def _is_diagnostic(self, frame_id: int, *, extended: bool) -> bool:
        return addresses.is_diagnostic(frame_id, extended=extended) or any(
            frame_id in {one.request_id, one.first_response_id} for one in self._targets
        )

    def _let_answers_through(self) -> None:
        self._filter(
            [(one.first_response_id, one.response_mask, one.extended) for one in self._targets]
        )

    def _ask_next(self, link: IsoTpLink) -> None:
        upcoming = self._questions.next()
        now_s = self._clock.monotonic_s()
        wait_s = LOOK_EVERY_S
        if upcoming is not None:
            question, due_s = upcoming
            free_s = self._ended_s + spacing_s(self._obd.spacing_s, self._unanswered)
            wait_s = max(due_s, free_s) - now_s
            if wait_s <= 0:
                self._ask(link, question)
                return
        self._stopping.wait(min(wait_s, LOOK_EVERY_S))

    def _probe(self, link: IsoTpLink) -> None:
        """Whether the engine runs again, of a vehicle whose bus stays awake without it."""
        now_s = self._clock.monotonic_s()
        question = self._questions.probe()
        if question is None or now_s - self._probed_s < self._obd.probe_s:
            self._stopping.wait(LOOK_EVERY_S)
            return
        self._probed_s = now_s
        self._ask(link, question)

    def _ask(self, link: IsoTpLink, question: Question) -> None:
        request = self._questions.request(question, self._clock.monotonic_s())
        answers = link.ask(request.data, request.target, request.expected)
        now_s = self._ended_s = self._clock.monotonic_s()
        if self._stopping.is_set():
            return
        self.requests += 1
        if not answers:
            self._unanswered += 1
            self._questions.missed(question, now_s)
            if self._unanswered % SILENT_AFTER == 0:
                self._ecus_fell_silent(now_s)
            return
        self.answered += 1
        self._unanswered = 0
        self._regained()
        if self._questions.answered(question, answers, now_s):
            self._awake.saw_running(now_s)

    def _ecus_fell_silent(self, now_s: float) -> None:
        if self._awake.reason in IN_USE:
            self._lost("no ECU answers although the vehicle is in use")
        self._questions.begin(now_s)
