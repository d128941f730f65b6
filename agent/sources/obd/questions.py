"""What is asked of the ECUs, and what their answers are good for. Pure but for the readings.

First everybody is asked for the PIDs that it has; what is wanted of those is planned, each
at its interval, with the trouble codes and the VIN.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from agent.config import FieldKind, field_kind
from agent.config.obd import Addressing, DtcMode, ObdSettings, PidSettings
from agent.sources.obd import addresses, codes, pids, services
from agent.sources.obd.plan import Plan
from agent.sources.readings import Readings

DISCOVER_S: Final = 5.0
"""From one search for ECUs to the next, until one answers; and after any missed answer."""

GIVE_UP_AFTER: Final = 3
"""Times that a question gets no answer while others do, after which it is left until the
vehicle wakes again: an ECU keeps quiet on a request to all that it does not know."""

LEAST_STALE_S: Final = 10.0
MISSED_INTERVALS: Final = 3
"""A value is left out after so many of its intervals, and not before the seconds above."""


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


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes, whom they go to, and whose answers end the waiting (``None``: time does)."""

    data: bytes
    target: addresses.Target
    expected: frozenset[int] | None = None


class Questions:
    """The plan of one bus; ``mapped`` are fields that a preset leaves alone."""

    def __init__(
        self, settings: ObdSettings, readings: Readings, mapped: Collection[str] = ()
    ) -> None:
        self._settings = settings
        self._readings = readings
        self._wanted: dict[int, dict[str, PidSettings]] = {}
        for name, entry in settings.wanted().items():
            if name in settings.pids or name not in mapped:
                self._wanted.setdefault(entry.pid, {})[name] = entry
        self._everyone = addresses.everyone(settings.ids)
        self._plan: Plan[Question] = Plan()
        self._having: dict[int, list[int]] = {}
        self._misses: dict[Question, tuple[int, int]] = {}
        self._answered = 0
        self.ecus: frozenset[int] = frozenset()

    def begin(self, now_s: float) -> None:
        """Begin anew: whoever is there now is searched for first."""
        self._plan.clear()
        self._having.clear()
        self._misses.clear()
        self.ecus = frozenset()
        settings = self._settings
        if self._wanted or settings.dtc_modes or settings.vin:
            self._plan.add(Discover(), DISCOVER_S, now_s, once=True)
        for index, entry in enumerate(settings.uds):
            self._plan.add(Uds(index), entry.interval_s, now_s)

    def next(self) -> tuple[Question, float] | None:
        """What is due first, and when (monotonic)."""
        return self._plan.next()

    def probe(self) -> Question | None:
        """What tells whether the engine runs; ``None`` if that is not among the values."""
        for number in (pids.RPM, pids.SPEED):
            if number in self._wanted:
                return Value(number)
        return None

    def request(self, question: Question, now_s: float) -> Request:
        """The bytes to send now; the next time is planned."""
        self._plan.asked(question, now_s)
        everyone = self._everyone
        match question:
            case Discover():
                return Request(bytes([services.CURRENT_DATA, 0]), everyone)
            case Supported(ecu, base):
                return Request(bytes([services.CURRENT_DATA, base]), addresses.one(ecu))
            case Value(number):
                data = bytes([services.CURRENT_DATA, number])
                having = self._having.get(number)
                if having and self._settings.addressing is Addressing.PHYSICAL:
                    return Request(data, addresses.one(having[0]))
                return Request(data, everyone, frozenset(having) if having else None)
            case Dtc(mode):
                return Request(bytes([services.DTC_SERVICES[mode]]), everyone)
            case Vin():
                return Request(bytes([services.VEHICLE_INFORMATION, services.VIN]), everyone)
            case Uds(index):
                entry = self._settings.uds[index]
                data = bytes([services.READ_DTC, services.BY_STATUS_MASK, entry.status_mask])
                return Request(data, addresses.uds(entry))

    def missed(self, question: Question, now_s: float) -> None:
        """Nobody answered: what is asked rarely is asked again soon."""
        count, answered_before = self._misses.get(question, (0, self._answered))
        self._misses[question] = count + 1, answered_before
        if count + 1 >= GIVE_UP_AFTER and self._answered > answered_before:
            self._plan.drop([question])
        self._plan.hasten(question, now_s + DISCOVER_S)

    def answered(
        self, question: Question, answers: Sequence[services.Answer], now_s: float
    ) -> bool:
        """Keep what the ECUs said; whether it shows that the vehicle runs."""
        self._answered += 1
        self._misses.pop(question, None)
        if all(answer.refusal in services.NEVER for answer in answers):
            self._plan.drop([question])
            return False
        running = False
        for answer in answers:
            if answer.refusal is not None:
                continue
            if isinstance(question, Value):
                running |= self._take_value(question.pid, answer, now_s)
            elif self._take(question, answer, now_s):
                self._plan.settled(question)
        return running

    def _take(self, question: Question, answer: services.Answer, now_s: float) -> bool:
        """Whether the answer was of use."""
        match question:
            case Discover():
                self._found(answer.ecu, 0, answer.data, now_s)
            case Supported(ecu, base):
                self._found(ecu, base, answer.data, now_s)
            case Vin():
                vin = codes.vin_text(answer.data)
                if vin is None:
                    return False
                self._readings.put("signals.vin", vin, now_s)
            case Dtc():
                self._take_codes((answer.ecu, question), codes.obd_codes(answer.data))
            case Uds(index):
                mask = self._settings.uds[index].status_mask
                self._take_codes((answer.ecu, question), codes.uds_codes(answer.data, mask))
        return True

    def _take_codes(self, owner: tuple[int, Question], found: tuple[str, ...] | None) -> None:
        if found is not None:
            self._readings.put_codes(owner, found)

    def _found(self, ecu: int, base: int, bitmap: bytes, now_s: float) -> None:
        is_first = not self.ecus
        self.ecus |= {ecu}
        for number in pids.supported(base, bitmap):
            if number % pids.SUPPORTED_STEP == 0:
                if number <= pids.LAST_SUPPORTED and any(one > number for one in self._wanted):
                    self._plan.add(Supported(ecu, number), DISCOVER_S, now_s, once=True)
            elif number in self._wanted:
                having = self._having.setdefault(number, [])
                if ecu not in having:
                    having.append(ecu)
                    having.sort()
                shortest_s = min(one.interval_s for one in self._wanted[number].values())
                self._plan.add(Value(number), shortest_s, now_s)
        if is_first:
            # after the values: whether the engine runs decides if anything is asked at all
            self._plan_codes(now_s)

    def _plan_codes(self, now_s: float) -> None:
        for mode in self._settings.dtc_modes:
            self._plan.add(Dtc(mode), self._settings.dtc_interval_s, now_s)
        if self._settings.vin:
            self._plan.add(Vin(), DISCOVER_S, now_s, once=True)

    def _take_value(self, number: int, answer: services.Answer, now_s: float) -> bool:
        """Whether the value says that the engine turns, or the wheels."""
        having = self._having.get(number)
        if having and answer.ecu != having[0]:
            return False  # two ECUs have it: the one with the lower id counts
        running = False
        for name, entry in self._wanted.get(number, {}).items():
            pid = pids.plain(number, entry.bytes) if entry.bytes else pids.PIDS[number]
            value = pid.decode(answer.data)
            if value is None:
                continue
            running |= number in {pids.RPM, pids.SPEED} and value > 0
            if entry.scale != 1 or entry.offset != 0:
                value = value * entry.scale + entry.offset
            kept = value != 0 if field_kind(name) is FieldKind.FLAG else round(value, 6)
            stale_after_s = max(MISSED_INTERVALS * entry.interval_s, LEAST_STALE_S)
            self._readings.put(name, kept, now_s, stale_after_s)
        return running
