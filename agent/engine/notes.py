"""What the engine tells of its doings when it is asked: events, standing faults, last sample.

Written by the engine's thread, read from any other; bounded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from agent.ports import TimeBase
from contract import Event, EventType, Sample, TimeQuality
from contract.fields import format_timestamp

EVENTS_KEPT: Final = 100
FAULTS_KEPT: Final = 100
"""A bound against a vehicle that invents codes."""


@dataclass(frozen=True, slots=True)
class StandingFault:
    """A fault that was raised and not cleared yet; ``since_s`` is monotonic."""

    reason: str
    since_s: float


class Notes:
    """The newest of what the engine created."""

    def __init__(self) -> None:
        self._events: deque[tuple[Event, float]] = deque(maxlen=EVENTS_KEPT)
        self._faults: dict[str, StandingFault] = {}
        self._sample: Sample | None = None

    def sample(self, sample: Sample) -> None:
        """The newest sample."""
        self._sample = sample

    def event(self, event: Event, created_s: float) -> None:
        """The newest event, and when it was created (monotonic)."""
        self._events.append((event, created_s))
        details = event.details or {}
        code = str(details.get("code"))
        if event.event_type == EventType.FAULT_CLEARED:
            self._faults.pop(code, None)
        elif event.event_type == EventType.FAULT_RAISED and len(self._faults) < FAULTS_KEPT:
            self._faults[code] = StandingFault(str(details.get("reason", "")), created_s)

    def account(self, base: TimeBase, now_s: float) -> dict[str, Any]:
        """The engine's notes as JSON; unsynced times are given as they will be sent."""
        sample = self._sample
        return {
            "faults": [
                {"code": code, "reason": fault.reason, "lasts_s": round(now_s - fault.since_s, 1)}
                for code, fault in list(self._faults.items())
            ],
            "events": [_told(event, at_s, base) for event, at_s in list(self._events)],
            "last_sample": sample.model_dump(mode="json", exclude_none=True) if sample else None,
        }


def _told(event: Event, created_s: float, base: TimeBase) -> dict[str, Any]:
    """An event with the time that it is sent with."""
    moment = event.timestamp
    if event.time_quality is TimeQuality.UNSYNCED and base.trusted:
        moment = base.at(created_s)
    return {
        "event_type": event.event_type,
        "sequence": event.sequence,
        "timestamp": format_timestamp(moment),
        "details": event.details,
    }
