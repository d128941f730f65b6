"""Samples and events to the hot store, samples with zone and vehicle type, and to the ledger.

Also the one consumer that keeps what broke the contract. A failed store names the first
record of the chunk that failed; the records before it are stored and will not come again.
The ledger is written after the hot store, so what it calls received can be found there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from cloud.accounting.intake import Intake
from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.geo import geohash_zone
from cloud.handlers.records import Arrival, Record, failures, read_records
from cloud.handlers.runtime import Handler, LazyHandler
from cloud.ports import (
    DeadLetter,
    DeadLetterStore,
    EnrichedSample,
    HotStore,
    LambdaEvent,
    LambdaResponse,
    LedgerStore,
    ReceivedEvent,
    VehicleRegister,
)
from cloud.stores import Stores
from cloud.stores.cache import CachedRegister

_log = logging.getLogger(__name__)

UNKNOWN_TYPE: Final = "unknown"
CHUNK_SAMPLES: Final = 1_000
"""Written at once; a chunk ends with the record that reaches it."""


def enrich(arrival: Arrival, record: Record, vehicle_type: str) -> EnrichedSample:
    """The row of the hot store for one sample."""
    sample, payload = arrival
    location = sample.location
    zone = None if location is None else geohash_zone(location.lat, location.lon)
    return EnrichedSample.of(sample, vehicle_type, zone, record.received_at, payload)


class Enrich:
    """The handler."""

    def __init__(
        self,
        hot: HotStore,
        ledger: LedgerStore,
        register: VehicleRegister,
        dead_letters: DeadLetterStore,
        clock: Clock,
    ) -> None:
        self._hot = hot
        self._ledger = ledger
        self._register = CachedRegister(register, clock)
        self._dead_letters = dead_letters

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Handle one Kinesis event."""
        del context
        samples: list[EnrichedSample] = []
        events: list[ReceivedEvent] = []
        letters: list[DeadLetter] = []
        intake = Intake()
        types: dict[str, str] = {}
        first: str | None = None
        try:
            for record in read_records(event):
                if first is None:
                    first = record.sequence_number
                intake.add(record)
                if record.samples:
                    vehicle_id = record.samples[0].sample.vehicle_id
                    vehicle_type = types.get(vehicle_id) or types.setdefault(
                        vehicle_id, self._vehicle_type(vehicle_id)
                    )
                    for arrival in record.samples:
                        samples.append(enrich(arrival, record, vehicle_type))  # noqa: PERF401  hot
                if record.events:
                    events.extend(ReceivedEvent(one, record.received_at) for one in record.events)
                if record.broken:
                    letters.extend(record.broken)
                if len(samples) >= CHUNK_SAMPLES:
                    self._store(samples, events, letters, intake)
                    samples, events, letters, intake = [], [], [], Intake()
                    first = None
            self._store(samples, events, letters, intake)
        except StoreError as error:
            _log.error("enrich: %s; records from %s on will come again", error, first)
            return failures([] if first is None else [first])
        return failures([])

    def _store(
        self,
        samples: Sequence[EnrichedSample],
        events: Sequence[ReceivedEvent],
        letters: Sequence[DeadLetter],
        intake: Intake,
    ) -> None:
        if samples:
            self._hot.put_samples(samples)
        if events:
            self._hot.put_events(events)
        self._ledger.record(intake.changes)
        for letter in letters:
            self._dead_letters.put(letter)

    def _vehicle_type(self, vehicle_id: str) -> str:
        vehicle = self._register.find(vehicle_id)
        return UNKNOWN_TYPE if vehicle is None else vehicle.vehicle_type


def build(stores: Stores) -> Handler:
    """The handler on any stores."""
    return Enrich(stores.hot, stores.ledger, stores.register, stores.dead_letters, stores.clock)


handler: Callable[[LambdaEvent, object], LambdaResponse] = LazyHandler(
    build, "HISTORY_TABLE", "RUNS_TABLE", "VEHICLES_TABLE", "DEAD_LETTER_QUEUE_URL"
)
