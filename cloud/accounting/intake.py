"""From stream records to changes of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from cloud.accounting.ledger import Arrival, Change, RunEnd, Told
from cloud.clock import milliseconds
from cloud.handlers.records import Record
from contract import DropTotal, Event, EventType, Sample, Status, TimeQuality


def changes(records: Iterable[Record]) -> list[Change]:
    """What the records say, run by run."""
    found: dict[tuple[str, str], Change] = {}

    def of(vehicle_id: str, run_id: str, heard_ms: int) -> Change:
        key = (vehicle_id, run_id)
        if key not in found:
            found[key] = Change(vehicle_id, run_id, heard_ms)
        return found[key]

    for record in records:
        received_ms = milliseconds(record.received_at)
        for sample, _ in record.samples:
            change = of(sample.vehicle_id, sample.run_id, received_ms)
            change.arrivals.append(_arrival(sample, received_ms))
        for event in record.events:
            change = of(event.vehicle_id, event.run_id, received_ms)
            change.arrivals.append(_arrival(event, received_ms))
            if event.event_type == EventType.DROPPED:
                change.drops += told_drops(event.details or {})
        for status in record.statuses:
            change = of(status.vehicle_id, status.run_id, received_ms)
            change.told.append(_told(status, received_ms))
            change.drops += status.drops or ()
            if status.previous_run is not None:
                previous = status.previous_run
                of(status.vehicle_id, previous.run_id, received_ms).end = RunEnd(
                    previous.last_sequence, previous.unflushed_s, status.run_id
                )
    return list(found.values())


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
