"""Every message for ever: Parquet, partitioned by the hour of the message's own time.

::

    samples/year=2025/month=01/day=15/hour=14/<shard>-<first sequence number>.parquet
    events/year=…

One object per batch, hour and dataset. Its name is made from the batch's first sequence
number: a failed batch begins again at its first record (all objects or none count), so
the retry, longer or shorter, replaces what the first try wrote. A message that the vehicle
delivered twice may stand in two objects: readers tell by (vehicle_id, run_id, sequence).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from cloud.errors import StoreError
from cloud.handlers.archive_schema import EVENTS, SAMPLES, Row, to_parquet
from cloud.handlers.records import Record, failures, read_records
from cloud.handlers.runtime import Handler, LazyHandler
from cloud.ports import Archive, LambdaEvent, LambdaResponse
from cloud.stores import Stores
from contract import Event

_log = logging.getLogger(__name__)

DATASETS: Final = {"samples": SAMPLES, "events": EVENTS}
Hour = tuple[int, int, int, int]


def partition(hour: Hour) -> str:
    """The folder of one hour, in the form that Athena, Spark and pyarrow read as columns."""
    return "year={:04d}/month={:02d}/day={:02d}/hour={:02d}".format(*hour)


def by_hour(records: Iterable[Record]) -> dict[tuple[str, Hour], list[Row]]:
    """Rows by dataset and hour (UTC), each identity once."""
    rows: dict[tuple[str, Hour], list[Row]] = {}
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        messages = [Row(sample, record.received_at) for sample, _ in record.samples]
        messages += [Row(event, record.received_at) for event in record.events]
        for row in messages:
            message = row.message
            identity = (message.vehicle_id, message.run_id, message.sequence)
            if identity not in seen:
                seen.add(identity)
                dataset = "events" if isinstance(message, Event) else "samples"
                rows.setdefault((dataset, _hour(message.timestamp)), []).append(row)
    return rows


class ArchiveBatch:
    """The handler."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Handle one Kinesis event."""
        del context
        records = list(read_records(event))
        if not records:
            return failures([])
        first = records[0]
        shard_id = event["Records"][0].get("eventID", "").partition(":")[0]
        name = "-".join(part for part in (shard_id, first.sequence_number) if part)
        try:
            for (dataset, hour), rows in by_hour(records).items():
                key = f"{dataset}/{partition(hour)}/{name}.parquet"
                self._archive.put(key, to_parquet(rows, DATASETS[dataset]))
        except StoreError as error:
            _log.error("archive: %s; %d records will come again", error, len(records))
            return failures([first.sequence_number])
        return failures([])


def _hour(moment: datetime) -> Hour:
    return moment.year, moment.month, moment.day, moment.hour


def build(stores: Stores) -> Handler:
    """The handler on any stores."""
    return ArchiveBatch(stores.archive)


handler: Callable[[LambdaEvent, object], LambdaResponse] = LazyHandler(build, "ARCHIVE_BUCKET")
