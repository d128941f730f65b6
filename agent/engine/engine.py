"""The engine: one thread that merges, decides and takes the samples.

It alone numbers the run's samples and events and calls the recorder. It wakes for what
the sources enqueue, when a sample is due, and at least once a second, because a dwell can
end and a CAN signal can change without a word. For a fix it does not wake while a sample is
due soon, which is always so in a trip: each wake-up and each look at all signals costs CPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.budgets import Budget, Change, Stage
from agent.config import SamplingSettings
from agent.engine.groups import Groups
from agent.engine.modes import ModeMachine, Transition
from agent.engine.notes import Notes
from agent.engine.odometer import Odometers
from agent.engine.rate import NO_LIMIT, Rate, rate_of
from agent.engine.schedule import Schedule
from agent.engine.state import VehicleState, View
from agent.engine.trips import TripKeeper
from agent.engine.watches import LowBatteryMark, Watches
from agent.inputs import FixReceived, Inbox, Input, SamplingChanged, SourceChanged
from agent.logs import StateLog
from agent.ports import Clock, Recorder
from contract import Event, EventType, Mode, Sample

LOOK_S: Final = 1.0
"""The longest time between two looks at the state."""

FIX_WAITS_S: Final = 0.2
"""A fix waits for the next sample where that is due within so long: the fastest usual interval."""

DROPS_S: Final = 10.0
"""How often what the outbox had to drop is gathered into one event."""

_log = logging.getLogger(__name__)

OnRate = Callable[[Rate], None]
"""Told at the start and on each change."""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What every message carries."""

    vehicle_id: str
    run_id: str


class Engine:
    """``start()`` once; ``stop()`` at any time, idempotent, after the sources' stop."""

    def __init__(
        self,
        *,
        identity: EngineIdentity,
        sampling: SamplingSettings,
        clock: Clock,
        inbox: Inbox,
        state: VehicleState,
        trips: TripKeeper,
        recorder: Recorder,
        on_rate: OnRate,
        take_unreported_drops: Callable[[], Sequence[dict[str, Any]]],
        budget_stages: Callable[[], Mapping[Budget, Stage]] = lambda: NO_LIMIT,
        take_budget_changes: Callable[[], list[Change]] = list,
        low_battery: LowBatteryMark | None = None,
    ) -> None:
        self._identity = identity
        self._sampling = sampling
        self._clock = clock
        self._inbox = inbox
        self._state = state
        self._trips = trips
        self._recorder = recorder
        self._on_rate = on_rate
        self._take_unreported_drops = take_unreported_drops
        self._budget_stages = budget_stages
        self._take_budget_changes = take_budget_changes
        self._drops_asked_s = clock.monotonic_s() - DROPS_S
        self._modes = ModeMachine(sampling.thresholds)
        self._watches = Watches(sampling.thresholds, low_battery)
        self._schedule = Schedule(sampling.normal.interval_s, clock.monotonic_s())
        self._trouble = StateLog(_log, "engine's work")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._progress_s = clock.monotonic_s()
        self._mode_since_s = clock.monotonic_s()
        self._rate = self._rate_now()
        self._seconds_in_mode = dict.fromkeys(Mode, 0.0)
        self._groups = Groups()
        self._notes = Notes()
        self._sequence = 0
        self._samples = 0

    def start(self) -> None:
        """Take up a trip that a restart interrupted, and begin."""
        self.prepare()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take in what is queued, note the trip, end the thread."""
        self._stopping.set()
        self._inbox.close()
        if self._thread is not None:
            self._thread.join(10)

    def apply(self, sampling: SamplingSettings) -> None:
        """Other rates and thresholds, from now on; the mode and the trip stay. Any thread."""
        self._inbox.put(SamplingChanged(sampling))

    def progress(self) -> float:
        """Monotonic time at which the engine was last seen working."""
        return self._progress_s

    def account(self) -> dict[str, Any]:
        """The engine's part of the account; from any thread."""
        now_s = self._clock.monotonic_s()
        seconds = {mode.value: spent_s for mode, spent_s in self._seconds_in_mode.items()}
        rate = self._rate
        seconds[rate.mode.value] += now_s - self._mode_since_s
        return {
            "mode": rate.mode.value,
            "sample_interval_s": rate.interval_s,
            "wanted_mode": rate.wanted.value,
            "limited_by": rate.limited_by.value if rate.limited_by else None,
            "samples_created": self._samples,
            "events_created": self._sequence - self._samples,
            "last_sequence": self._sequence,
            "fixes_received": self._state.fixes_received,
            "fixes_rejected": self._state.fixes_rejected(),
            "values_refused": self._groups.refused,
            "inputs_dropped": self._inbox.dropped,
            "seconds_in_mode": {mode: round(spent_s, 3) for mode, spent_s in seconds.items()},
            **self._notes.account(self._clock.base(), now_s),
        }

    def prepare(self) -> None:
        """Set the first mode: in a trip, if one was interrupted and goes on."""
        now_s = self._clock.monotonic_s()
        going_on, over = self._trips.restore(self._clock.base(), now_s)
        odometers = self._state.view(now_s).odometers
        if going_on is not None:
            self._modes = ModeMachine(self._sampling.thresholds, Mode.IN_TRIP)
            _log.info("trip %s goes on", going_on.trip_id)
        self._rate = self._rate_now()
        self._mode_since_s = now_s
        self._tell_rate(now_s)
        if over is not None:
            ended = {"reason": "restart", **_distance(over.odometers, odometers)}
            self._emit(EventType.TRIP_ENDED, None, ended, trip_id=over.trip_id)

    def step(self, item: Input | None, now_s: float) -> None:
        """One turn of the loop; the thread calls it, and tests do."""
        self._take_in(item)
        view = self._state.view(now_s)
        self._look(view, now_s)
        if now_s >= self._schedule.due_s:
            self._schedule.taken(now_s)
            self._take_sample(view)
        self._progress_s = now_s

    def _take_in(self, item: Input | None) -> None:
        match item:
            case FixReceived():
                self._state.take_fix(item, self._clock.base())
            case SourceChanged():
                self._source_changed(item)
            case SamplingChanged():
                self._sampling_changed(item.sampling)

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = min(self._schedule.due_s - self._clock.monotonic_s(), LOOK_S)
            items = self._inbox.take(wait_s, fixes_wait=wait_s <= FIX_WAITS_S)
            for earlier in items[:-1]:
                self._safely(earlier, self._take_in)
            self._safely(items[-1] if items else None, self._step_now)
        while (item := self._inbox.get(0)) is not None:
            self._safely(item, self._step_now)
        self._trips.stop(self._clock.base(), self._clock.monotonic_s())
        self._state.keep_distance()

    def _step_now(self, item: Input | None) -> None:
        self.step(item, self._clock.monotonic_s())
        self._trouble.recovered()

    def _safely(self, item: Input | None, work: Callable[[Input | None], None]) -> None:
        """Bad input must not end the agent; what no check foresaw costs this turn only."""
        try:
            work(item)
        except Exception as error:  # noqa: BLE001  logged once; the watchdog sees no progress
            if self._trouble.failed(repr(error)):
                _log.debug("on %r", item, exc_info=error)
            self._stopping.wait(0.2)

    def _look(self, view: View, now_s: float) -> None:
        for change in self._take_budget_changes():
            self._emit(_event_of(change), view, change.details())
        transition = self._modes.observe(view.situation, now_s)
        if transition is not None:
            self._change_mode(transition, view, now_s)
        else:
            self._follow_rate(view, now_s)
        for kind, details in self._watches.observe(view, now_s):
            self._emit(kind, view, details)
        if now_s - self._drops_asked_s >= DROPS_S:
            self._drops_asked_s = now_s
            for total in self._take_unreported_drops():
                self._emit(EventType.DROPPED, view, total)

    def _change_mode(self, transition: Transition, view: View, now_s: float) -> None:
        if transition.target is Mode.IN_TRIP:
            self._state.keep_distance()
            self._trips.begin(self._clock.base(), now_s, view.odometers)
            self._emit(EventType.TRIP_STARTED, view, {"reason": transition.reason})
        self._change_rate(transition.reason, view, now_s)
        if transition.source is Mode.IN_TRIP:
            ended: dict[str, Any] = {"reason": transition.reason}
            lasted_s = self._trips.lasted_s(self._clock.base(), now_s)
            if lasted_s is not None:
                ended["duration_s"] = round(lasted_s, 1)
            ended |= _distance(self._trips.odometers, view.odometers)
            self._emit(EventType.TRIP_ENDED, view, ended)
            self._trips.end()
            self._state.keep_distance()

    def _sampling_changed(self, sampling: SamplingSettings) -> None:
        self._sampling = sampling
        self._modes.apply(sampling.thresholds)
        self._watches.apply(sampling.thresholds)

    def _follow_rate(self, view: View, now_s: float) -> None:
        """The wanted mode is the same; a budget or other settings may have changed its rate."""
        rate = self._rate_now()
        if rate == self._rate:
            return
        by = rate.limited_by
        self._change_rate(f"{by}_budget" if by else "budget_restored", view, now_s)

    def _change_rate(self, reason: str, view: View, now_s: float) -> None:
        before, self._rate = self._rate, self._rate_now()
        if self._rate.mode is not before.mode:
            self._seconds_in_mode[before.mode] += now_s - self._mode_since_s
            self._mode_since_s = now_s
            _log.info("mode %s -> %s (%s)", before.mode, self._rate.mode, reason)
            details = {"from": before.mode.value, "to": self._rate.mode.value, "reason": reason}
            if self._rate.limited_by is not None:
                details["wanted"] = self._rate.wanted.value
            self._emit(EventType.MODE_CHANGED, view, details)
        self._tell_rate(now_s)

    def _rate_now(self) -> Rate:
        return rate_of(self._modes.mode, self._budget_stages(), self._sampling)

    def _tell_rate(self, now_s: float) -> None:
        self._schedule.change_interval(self._rate.interval_s, now_s)
        self._on_rate(self._rate)

    def _source_changed(self, change: SourceChanged) -> None:
        details: dict[str, Any] = {"code": f"source:{change.source}"}
        if change.available:
            self._emit(EventType.FAULT_CLEARED, None, details)
        else:
            details["reason"] = change.reason[:256]
            if change.cause:
                details["cause"] = change.cause
            self._emit(EventType.FAULT_RAISED, None, details)

    def _take_sample(self, view: View) -> None:
        base = self._clock.base()
        groups = self._groups.groups(view, self._trips.trip_id, base)
        sample = Sample(
            vehicle_id=self._identity.vehicle_id,
            run_id=self._identity.run_id,
            sequence=self._sequence + 1,
            timestamp=base.at(self._clock.monotonic_s()),
            time_quality=base.quality,
            **groups,
        )
        self._sequence += 1
        self._samples += 1
        self._notes.sample(sample)
        self._recorder.record_sample(sample)
        self._state.sampled()

    def _emit(
        self,
        kind: EventType,
        view: View | None,
        details: dict[str, Any],
        *,
        trip_id: str | None = None,
    ) -> None:
        base = self._clock.base()
        now_s = self._clock.monotonic_s()
        event = Event(
            vehicle_id=self._identity.vehicle_id,
            run_id=self._identity.run_id,
            sequence=self._sequence + 1,
            timestamp=base.at(now_s),
            time_quality=base.quality,
            event_type=kind.value,
            location=self._groups.location(view, base) if view is not None else None,
            trip_id=trip_id or self._trips.trip_id,
            details=details,
        )
        self._sequence += 1
        self._notes.event(event, now_s)
        self._recorder.record_event(event)


def _distance(start: Odometers, end: Odometers) -> dict[str, Any]:
    """How long a trip was, where that is known."""
    driven = end.since(start)
    return {"distance_km": round(driven[0], 2), "distance_source": driven[1]} if driven else {}


def _event_of(change: Change) -> EventType:
    """A stage that falls is a relief, wherever it falls to."""
    if change.stage < change.before:
        return EventType.BUDGET_RESTORED
    return EventType.BUDGET_NEAR if change.stage is Stage.NEAR else EventType.BUDGET_REACHED
