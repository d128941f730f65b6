"""History and register in DynamoDB.

================  ===========================  ========================================
table             key                          item
================  ===========================  ========================================
``HISTORY``       ``vehicle_id``, ``item_key``  ``item_key`` is "<timestamp>#<run_id>#<sequence>";
                                               ``payload`` is the message as JSON text;
                                               ``expires_at`` when retention is limited
``VEHICLES``      ``vehicle_id``               ``vehicle_type``, ``display_name``
================  ===========================  ========================================

The payload stays text because DynamoDB's numbers and nesting are narrower than JSON's: a
valid sample must never be one that the table refuses for ever. Writing an item again
replaces it by the same, so deliveries are not counted here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.ports import EnrichedSample, ReceivedEvent, Vehicle
from cloud.stores.aws_errors import wrapped
from contract import Event, encode
from contract.fields import format_timestamp

BATCH_ITEMS: Final = 25
"""What one BatchWriteItem takes."""
MAX_TRIES: Final = 7
FIRST_WAIT_S: Final = 0.05

Item = dict[str, Any]


class DynamoHotStore:
    """``HotStore`` on the history table."""

    def __init__(
        self, client: Any, table: str, clock: Clock, *, retention_days: int | None = None
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._retention = None if retention_days is None else timedelta(days=retention_days)

    def put_samples(self, samples: Sequence[EnrichedSample]) -> None:
        """Store them, 25 at a time; some may be stored when it raises."""
        self._put((_sample_item(sample), sample.received_at) for sample in samples)

    def put_events(self, events: Sequence[ReceivedEvent]) -> None:
        """Store them likewise."""
        self._put((_event_item(event), event.received_at) for event in events)

    def _put(self, items: Iterable[tuple[Item, datetime]]) -> None:
        by_key: dict[tuple[str, str], Item] = {}
        for item, received_at in items:
            item["received_at"] = {"S": format_timestamp(received_at)}
            if self._retention is not None:
                expires_at = received_at + self._retention
                item["expires_at"] = {"N": str(int(expires_at.timestamp()))}
            # One request must not name a key twice; the last of equal ones wins.
            by_key[item["vehicle_id"]["S"], item["item_key"]["S"]] = item
        unique = list(by_key.values())
        for start in range(0, len(unique), BATCH_ITEMS):
            self._write([{"PutRequest": {"Item": i}} for i in unique[start : start + BATCH_ITEMS]])

    def _write(self, requests: list[Item]) -> None:
        for attempt in range(MAX_TRIES):
            with wrapped(self._table):
                answer = self._client.batch_write_item(RequestItems={self._table: requests})
            requests = answer.get("UnprocessedItems", {}).get(self._table, [])
            if not requests:
                return
            # Full jitter: many functions are throttled at the same moment.
            self._clock.sleep_s(random.uniform(0, FIRST_WAIT_S * 2**attempt))  # noqa: S311  no secret
        raise StoreError(
            f"{self._table}: {len(requests)} items not taken in {MAX_TRIES} tries",
            hint="The table is throttled; look at its write capacity.",
        )


def item_key(message: EnrichedSample | Event) -> str:
    """Sorts a vehicle's history by time; unique by identity."""
    return f"{format_timestamp(message.timestamp)}#{message.run_id}#{message.sequence}"


def _message_item(message: EnrichedSample | Event, kind: str) -> Item:
    return {
        "vehicle_id": {"S": message.vehicle_id},
        "item_key": {"S": item_key(message)},
        "kind": {"S": kind},
        "run_id": {"S": message.run_id},
        "sequence": {"N": str(message.sequence)},
        "timestamp": {"S": format_timestamp(message.timestamp)},
    }


def _sample_item(enriched: EnrichedSample) -> Item:
    item = _message_item(enriched, "sample")
    item["vehicle_type"] = {"S": enriched.vehicle_type}
    item["payload"] = {"S": enriched.payload.decode()}
    if enriched.geohash_zone is not None:
        item["geohash_zone"] = {"S": enriched.geohash_zone}
    return item


def _event_item(received: ReceivedEvent) -> Item:
    item = _message_item(received.event, "event")
    item["event_type"] = {"S": received.event.event_type}
    item["payload"] = {"S": encode(received.event).decode()}
    return item


class DynamoVehicleRegister:
    """``VehicleRegister`` on the vehicles table."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def find(self, vehicle_id: str) -> Vehicle | None:
        """The vehicle, or None when there is no item, or one without a type."""
        with wrapped(self._table):
            answer = self._client.get_item(
                TableName=self._table, Key={"vehicle_id": {"S": vehicle_id}}
            )
        item = answer.get("Item", {})
        vehicle_type = item.get("vehicle_type", {}).get("S")
        if not vehicle_type:
            return None
        return Vehicle(vehicle_id, vehicle_type, item.get("display_name", {}).get("S"))
