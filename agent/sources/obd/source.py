"""The OBD-II source: asks the ECUs of one bus in one thread, and only while they are awake.

Values, trouble codes and the VIN are kept for the engine to read. A vehicle that sleeps is
no fault; one that drives and does not answer is, and is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.config import FieldKind, field_kind
from agent.config.obd import Addressing, DtcMode, ObdSettings, PidSettings
from agent.inputs import Inbox
from agent.ports import Clock
from agent.sources.bus_worker import BusWorker
from agent.sources.obd import addresses, codes, pids, services
from agent.sources.obd.plan import Plan
from agent.sources.obd.policy import Asking, Evidence, decide, spacing_s

if TYPE_CHECKING:
    from agent.sources.obd.link import IsoTpLink

LOOK_EVERY_S: Final = 1.0
"""How often other traffic is looked for, where that decides anything."""

LOOK_S: Final = 0.2
"""How long one look waits for a frame."""

MOST_FRAMES_A_LOOK: Final = 2_000

DISCOVER_S: Final = 5.0
"""From one search for ECUs to the next, until one answers."""

SILENT_AFTER: Final = 8
"""Requests in a row without an answer after which the ECUs are searched for anew, and count
as lost if the vehicle is known to be in use."""

GIVE_UP_AFTER: Final = 3
"""Times that a question gets no answer while others do, after which it is left until the
vehicle wakes again: an ECU keeps quiet on a request to all that it does not know."""

LEAST_STALE_S: Final = 10.0
MISSED_INTERVALS: Final = 3
"""A value is left out after so many of its intervals, and not before the seconds above."""

Ignition = Callable[[float], bool | None]
"""Whether a mapped CAN signal says that the vehicle is in use, at a monotonic time."""


@dataclass(frozen=True, slots=True)
class Discover:
    """Ask all for the PIDs that they have."""


@dataclass(frozen=True, slots=True)
class Supported:
    """Ask one ECU for the next 32 PIDs."""

    ecu: int
    base: int


@dataclass(frozen=True, slots=True)
class Value:
    """Ask for one PID, and so for every field that takes it."""

    pid: int


@dataclass(frozen=True, slots=True)
class Dtc:
    """Ask all for trouble codes."""

    mode: DtcMode


@dataclass(frozen=True, slots=True)
class Vin:
    """Ask all for the VIN."""


@dataclass(frozen=True, slots=True)
class Uds:
    """Ask the ECU of one ``[[obd.uds]]`` entry."""

    index: int


Question = Discover | Supported | Value | Dtc | Vin | Uds


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
        self._wanted: dict[int, dict[str, PidSettings]] = {}
        for name, entry in settings.wanted().items():
            if name in settings.pids or name not in mapped:
                self._wanted.setdefault(entry.pid, {})[name] = entry
        self._everyone = addresses.everyone(settings.ids)
        self._plan: Plan[Question] = Plan()
        self._supporters: dict[int, list[int]] = {}
        self._ecus: frozenset[int] = frozenset()
        self._in_trip = False
        self._reason, self._asking = "", Asking.LISTEN
        self._ran_s: float | None = None
        self._awake_since_s = clock.monotonic_s()
        self._traffic_s: float | None = None
        self._looked_s = float("-inf")
        self._ended_s = float("-inf")
        self._probed_s = float("-inf")
        self._unanswered = 0
        self._ecus_are_lost = False
        self._misses: dict[Question, tuple[int, int]] = {}
        self._link: IsoTpLink | None = None
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
            "state": self._asking.value,
            "reason": self._reason,
            "ecus": [f"{ecu:X}" for ecu in sorted(self._ecus)],
            "requests": self.requests,
            "answered": self.answered,
            "refused": sum(link.refusals.values()) if link else 0,
            "transport_errors": sum(link.transport_errors.values()) if link else 0,
            "bus_errors": self.bus_errors,
        }

    def _work(self) -> None:
        from agent.sources.obd.link import IsoTpLink  # noqa: PLC0415  brings python-can along

        link = IsoTpLink(
            send=lambda frame_id, data, extended: self._send(frame_id, data, extended=extended),
            receive=self._frame,
            monotonic_s=self._clock.monotonic_s,
            is_stopping=self._stopping.is_set,
            answer_timeout_s=self._obd.answer_timeout_s,
        )
        self._link = link
        self._unanswered = 0
        self._lay_plan()
        while not self._stopping.is_set():
            self._decide()
            match self._asking:
                case Asking.ASK:
                    self._ask_next(link)
                case Asking.PROBE:
                    self._probe(link)
                case Asking.LISTEN:
                    self._stopping.wait(LOOK_EVERY_S)

    def _frame(self, timeout_s: float) -> tuple[int, bool, bytes] | None:
        message = self._receive(timeout_s)
        if message is None:
            return None
        return message.arbitration_id, message.is_extended_id, bytes(message.data)

    # when

    def _decide(self) -> None:
        now_s = self._clock.monotonic_s()
        evidence = self._evidence(now_s)
        certain = evidence.ignition is not None or evidence.in_trip or evidence.running
        if not certain and now_s - self._looked_s >= LOOK_EVERY_S:
            self._look()
            evidence = self._evidence(self._clock.monotonic_s())
        reason, asking = decide(evidence)
        if asking is not Asking.LISTEN and self._asking is Asking.LISTEN:
            self._awake_since_s = now_s
            self._lay_plan()
            reason, asking = decide(self._evidence(now_s))
        if reason == self._reason:
            return
        self._log.info("OBD on %s: %s (%s)", self._settings.channel, asking.value, reason)
        self._reason, self._asking = reason, asking

    def _evidence(self, now_s: float) -> Evidence:
        settings = self._obd
        ran_s = self._ran_s
        since_s = self._awake_since_s if ran_s is None else max(ran_s, self._awake_since_s)
        return Evidence(
            ignition=self._ignition(now_s),
            in_trip=self._in_trip,
            running=ran_s is not None and now_s - ran_s <= LEAST_STALE_S,
            running_ago_s=now_s - since_s,
            traffic_ago_s=None if self._traffic_s is None else now_s - self._traffic_s,
            quiet_s=settings.quiet_s,
            engine_off_s=settings.engine_off_s,
        )

    def _look(self) -> None:
        """Look for frames that neither are ours nor answer us."""
        self._filter([])
        timeout_s = LOOK_S
        for _ in range(MOST_FRAMES_A_LOOK):
            frame = self._frame(timeout_s)
            if frame is None:
                break
            timeout_s = 0
            frame_id, extended, _ = frame
            if not self._is_diagnostic(frame_id, extended=extended):
                self._traffic_s = self._clock.monotonic_s()
                if not self._ecus_are_lost:
                    self._regained()
        self._looked_s = self._clock.monotonic_s()
        targets = [self._everyone, *map(addresses.uds, self._obd.uds)]
        self._filter([(one.first_response_id, one.response_mask, one.extended) for one in targets])

    def _is_diagnostic(self, frame_id: int, *, extended: bool) -> bool:
        if self._everyone.is_answer(frame_id, extended=extended):
            return True
        return any(frame_id in {one.request_id, one.response_id} for one in self._obd.uds)

    # what

    def _lay_plan(self) -> None:
        """Begin anew: whoever is there now is searched for first."""
        now_s = self._clock.monotonic_s()
        self._plan.clear()
        self._supporters.clear()
        self._misses.clear()
        self._ecus = frozenset()
        if self._wanted or self._obd.dtc_modes or self._obd.vin:
            self._plan.add(Discover(), DISCOVER_S, now_s, once=True)
        for index, entry in enumerate(self._obd.uds):
            self._plan.add(Uds(index), entry.interval_s, now_s)

    def _ask_next(self, link: IsoTpLink) -> None:
        upcoming = self._plan.next()
        now_s = self._clock.monotonic_s()
        if upcoming is None:
            self._stopping.wait(LOOK_EVERY_S)
            return
        question, due_s = upcoming
        free_s = self._ended_s + spacing_s(self._obd.spacing_s, self._unanswered)
        wait_s = max(due_s, free_s) - now_s
        if wait_s > 0:
            self._stopping.wait(min(wait_s, LOOK_EVERY_S))
            return
        self._plan.asked(question, now_s)
        self._put_question(link, question)

    def _probe(self, link: IsoTpLink) -> None:
        """Whether the engine runs again, of a vehicle whose bus stays awake without it."""
        now_s = self._clock.monotonic_s()
        numbers = [one for one in (pids.RPM, pids.SPEED) if one in self._wanted]
        if now_s - self._probed_s < self._obd.probe_s or not numbers:
            self._stopping.wait(LOOK_EVERY_S)
            return
        self._probed_s = now_s
        self._put_question(link, Value(numbers[0]))

    def _put_question(self, link: IsoTpLink, question: Question) -> None:
        answers = link.ask(*self._request(question))
        self._ended_s = self._clock.monotonic_s()
        if self._stopping.is_set():
            return
        self.requests += 1
        if answers:
            self.answered += 1
            self._unanswered = 0
            self._misses.pop(question, None)
            self._ecus_are_lost = False
            self._regained()
        else:
            self._unanswered += 1
            self._missed(question)
            if self._unanswered % SILENT_AFTER == 0:
                self._fall_silent()
        refused = [one for one in answers if one.refusal is not None]
        if answers and len(refused) == len(answers):
            if all(one.refusal in services.NEVER for one in refused):
                self._plan.drop([question])
            return
        for answer in answers:
            if answer.refusal is None and self._take(question, answer):
                self._plan.settled(question)

    def _missed(self, question: Question) -> None:
        count, answered_before = self._misses.get(question, (0, self.answered))
        self._misses[question] = count + 1, answered_before
        if count + 1 >= GIVE_UP_AFTER and self.answered > answered_before:
            self._plan.drop([question])

    def _fall_silent(self) -> None:
        in_use = self._reason in {"in_trip", "ignition_on"}
        if in_use:
            self._ecus_are_lost = True
            self._lost("no ECU answers although the vehicle is in use")
        if self._ecus:
            self._lay_plan()

    def _request(self, question: Question) -> tuple[bytes, addresses.Target, frozenset[int] | None]:
        everyone, known = self._everyone, self._ecus or None
        match question:
            case Discover():
                return bytes([services.CURRENT_DATA, 0]), everyone, None
            case Supported(ecu, base):
                return bytes([services.CURRENT_DATA, base]), addresses.one(ecu), None
            case Value(number):
                request = bytes([services.CURRENT_DATA, number])
                having = self._supporters.get(number)
                if having and self._obd.addressing is Addressing.PHYSICAL:
                    return request, addresses.one(having[0]), None
                return request, everyone, frozenset(having) if having else known
            case Dtc(mode):
                return bytes([services.DTC_SERVICES[mode]]), everyone, known
            case Vin():
                return bytes([services.VEHICLE_INFORMATION, services.VIN]), everyone, None
            case Uds(index):
                entry = self._obd.uds[index]
                request = bytes([services.READ_DTC, services.BY_STATUS_MASK, entry.status_mask])
                return request, addresses.uds(entry), None

    def _take(self, question: Question, answer: services.Answer) -> bool:
        """Keep what an ECU said; whether it was of use."""
        now_s = self._clock.monotonic_s()
        match question:
            case Discover():
                self._found(answer.ecu, 0, answer.data, now_s)
            case Supported(ecu, base):
                self._found(ecu, base, answer.data, now_s)
            case Value(number):
                return self._take_value(number, answer, now_s)
            case Vin():
                vin = codes.vin_text(answer.data)
                if vin is None:
                    return False
                self.readings.put("signals.vin", vin, now_s)
            case Dtc():
                return self._take_codes((answer.ecu, question), codes.obd_codes(answer.data))
            case Uds(index):
                mask = self._obd.uds[index].status_mask
                return self._take_codes((answer.ecu, question), codes.uds_codes(answer.data, mask))
        return True

    def _take_codes(self, owner: tuple[int, Question], found: tuple[str, ...] | None) -> bool:
        if found is None:
            return False
        self.readings.put_codes(owner, found)
        return True

    def _found(self, ecu: int, base: int, bitmap: bytes, now_s: float) -> None:
        if not self._ecus:
            self._plan_codes(now_s)
        self._ecus |= {ecu}
        for number in pids.supported(base, bitmap):
            if number % pids.SUPPORTED_STEP == 0:
                if number <= pids.LAST_SUPPORTED and any(one > number for one in self._wanted):
                    self._plan.add(Supported(ecu, number), DISCOVER_S, now_s, once=True)
            elif number in self._wanted:
                having = self._supporters.setdefault(number, [])
                if ecu not in having:
                    having.append(ecu)
                    having.sort()
                shortest_s = min(one.interval_s for one in self._wanted[number].values())
                self._plan.add(Value(number), shortest_s, now_s)

    def _plan_codes(self, now_s: float) -> None:
        for mode in self._obd.dtc_modes:
            self._plan.add(Dtc(mode), self._obd.dtc_interval_s, now_s)
        if self._obd.vin:
            self._plan.add(Vin(), DISCOVER_S, now_s, once=True)

    def _take_value(self, number: int, answer: services.Answer, now_s: float) -> bool:
        having = self._supporters.get(number)
        if having and answer.ecu != having[0]:
            return True  # two ECUs have it: the one that was found first counts
        for name, entry in self._wanted.get(number, {}).items():
            pid = pids.plain(number, entry.bytes) if entry.bytes else pids.PIDS[number]
            value = pid.decode(answer.data)
            if value is None:
                return False
            if number in {pids.RPM, pids.SPEED} and value > 0:
                self._ran_s = now_s
            if entry.scale != 1 or entry.offset != 0:
                value = value * entry.scale + entry.offset
            kept = value != 0 if field_kind(name) is FieldKind.FLAG else round(value, 6)
            stale_after_s = max(MISSED_INTERVALS * entry.interval_s, LEAST_STALE_S)
            self.readings.put(name, kept, now_s, stale_after_s)
        return True
