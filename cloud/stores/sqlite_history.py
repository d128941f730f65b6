"""Samples and events in SQLite: the hot store of one machine.

A delivery is counted only when it was received later than the last one of the same
identity, so a handler's retry of a stream record changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cloud.clock import milliseconds
from cloud.ports import EnrichedSample, ReceivedEvent
from cloud.stores.database import Database
from contract import encode

_PUT: Final = """
    INSERT INTO history (vehicle_id, run_id, sequence, kind, timestamp_ms, received_ms,
                         last_received_ms, lat, lon, vehicle_type, geohash_zone, event_type,
                         payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
    ON CONFLICT (vehicle_id, run_id, sequence) DO UPDATE
    SET deliveries = deliveries + 1, last_received_ms = excluded.last_received_ms
    WHERE excluded.last_received_ms > last_received_ms
"""


class SqliteHotStore:
    """``HotStore`` on the table ``history``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_samples(self, samples: Sequence[EnrichedSample]) -> None:
        """Store all or none, in one transaction."""
        self._put([_sample_row(sample) for sample in samples])

    def put_events(self, events: Sequence[ReceivedEvent]) -> None:
        """Store all or none, in one transaction."""
        self._put([_event_row(event) for event in events])

    def _put(self, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            with self._database.write() as connection:
                connection.executemany(_PUT, rows)


def _sample_row(sample: EnrichedSample) -> tuple[Any, ...]:
    return (
        sample.vehicle_id,
        sample.run_id,
        sample.sequence,
        "sample",
        milliseconds(sample.timestamp),
        milliseconds(sample.received_at),
        sample.lat,
        sample.lon,
        sample.vehicle_type,
        sample.geohash_zone,
        None,
        sample.payload.decode(),
    )


def _event_row(received: ReceivedEvent) -> tuple[Any, ...]:
    event = received.event
    return (
        event.vehicle_id,
        event.run_id,
        event.sequence,
        "event",
        milliseconds(event.timestamp),
        milliseconds(received.received_at),
        None if event.location is None else event.location.lat,
        None if event.location is None else event.location.lon,
        None,
        None,
        event.event_type,
        encode(event).decode(),
    )
