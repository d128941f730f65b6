"""From stream records to changes of the ledger."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from cloud.accounting.ledger import Arrival, Change, RunEnd, Told
from cloud.clock import milliseconds
from cloud.handlers.records import Record
from contract import DropTotal, Event, EventType, Sample, Status, TimeQuality


class Intake:
    """Gathers, record by record, what is said of each run.

    It keeps no message: models that live until the whole event is read cost the reader a
    third of its speed.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Change] = {}

    @property
    def changes(self) -> list[Change]:
        """What the records said, run by run."""
        return list(self._found.values())

    def add(self, record: Record) -> None:
        """One more record."""
        received_ms = milliseconds(record.received_at)
        for sample, _ in record.samples:
            self._of(sample, received_ms).arrivals.append(_arrival(sample, received_ms))
        for event in record.events:
            change = self._of(event, received_ms)
            change.arrivals.append(_arrival(event, received_ms))
            if event.event_type == EventType.DROPPED:
                change.drops += told_drops(event.details or {})
        for status in record.statuses:
            change = self._of(status, received_ms)
            change.told.append(_told(status, received_ms))
            change.drops += status.drops or ()
            if status.previous_run is not None:
                previous = status.previous_run
                self._run(status.vehicle_id, previous.run_id, received_ms).end = RunEnd(
                    previous.last_sequence, previous.unflushed_s, status.run_id
                )

    def _of(self, message: Sample | Event | Status, heard_ms: int) -> Change:
        return self._run(message.vehicle_id, message.run_id, heard_ms)

    def _run(self, vehicle_id: str, run_id: str, heard_ms: int) -> Change:
        key = (vehicle_id, run_id)
        change = self._found.get(key)
        if change is None:
            change = self._found[key] = Change(vehicle_id, run_id, heard_ms)
        return change


def told_drops(details: dict[str, Any]) -> list[DropTotal]:
    """What a ``dropped`` event says; nothing when it has not the form of this version."""
    try:
        return [DropTotal.model_validate(details)]
    except ValidationError:
        return []


def _arrival(message: Sample | Event, received_ms: int) -> Arrival:
    trusted = message.time_quality is not TimeQuality.UNSYNCED
    at_ms = milliseconds(message.timestamp) if trusted else 0
    return Arrival(message.sequence, at_ms, received_ms, isinstance(message, Event))


def _told(status: Status, received_ms: int) -> Told:
    trusted = status.time_quality is not TimeQuality.UNSYNCED
    return Told(
        received_ms,
        milliseconds(status.timestamp) if trusted else 0,
        status.state.value,
        status.last_sequence or 0,
        status.backlog_messages,
    )
