"""Records a second on one core: ``enrich`` and ``track_position`` beside a plain version.

Both do the same work on the same Kinesis event and the same stores: decode, validate, check
the origin, zone and vehicle type or latest position, store. The plain version takes one
record at a time: ``json.loads``, the model from the parsed object, a register look-up, one
write. In turn, many times; each figure is the median of records a second of processor time
(``per_cpu_s``, what one core can do) and of wall time (``per_s``, with the waits for the
disk). ``validate`` is pydantic alone on the same bytes, the floor of every version.

    python bench/handlers.py [--json] [--seconds 20]
"""

from __future__ import annotations

import argparse
import base64
import gc
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloud.clock import SystemClock, from_milliseconds
from cloud.fleet_file import Fleet
from cloud.geo import geohash_zone
from cloud.handlers import enrich, track_position
from cloud.handlers.records import read_records
from cloud.ports import EnrichedSample, Vehicle
from cloud.stores import Stores
from cloud.stores.sqlite import SqliteStores
from contract import decode_sample, encode, encode_batch_rows, validate_sample
from tests.fakes.seed import SEED

RECORDS = 500
"""The template's BatchSize for enrich."""
VEHICLES = 50
START = datetime(2025, 1, 15, 14, 0, 0, tzinfo=UTC)


class Null:
    """A store that takes everything and keeps nothing."""

    def put_samples(self, samples: Any) -> None:
        """Take."""

    def put_events(self, events: Any) -> None:
        """Take."""

    def put(self, letter: Any) -> None:
        """Take."""

    def put_if_newer(self, position: Any) -> bool:
        """Take."""
        return position is not None

    def put_newest(self, positions: Any) -> Any:
        """Take."""
        return positions

    def observe(self, name: str, value: float) -> None:
        """Take."""

    def observe_all(self, name: str, values: Any) -> None:
        """Take."""

    def record(self, changes: Any) -> None:
        """Take."""


@dataclass
class Feed:
    """Kinesis events that never repeat an identity: every write is a new row.

    A vehicle's sequence numbers follow on each other, as the ledger expects of a run.
    """

    run_id: str
    ticks: Iterator[int]
    """Shared, so that each sample is newer than all before it, whoever's turn it is."""
    taken: int = 0
    batched: int = 0

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Samples of the contract's example, a vehicle after the other."""
        made = []
        for _ in range(count):
            made.append(_sample(self.run_id, self.taken, next(self.ticks)))
            self.taken += 1
        return made

    def singles(self) -> dict[str, Any]:
        """One live sample a record."""
        return _event([_selected(row) for row in self.rows(RECORDS)])

    def payloads(self) -> list[bytes]:
        """The bytes of ``singles``."""
        return [_selected(row) for row in self.rows(RECORDS)]

    def batches(self) -> dict[str, Any]:
        """Ten records of 60 samples of one vehicle each."""
        data = []
        for _ in range(10):
            rows = self.rows(60)
            for row in rows:
                row["vehicle_id"] = "van-1"
                row["sequence"] = self.batched = self.batched + 1
            added = {"topic_vehicle_id": "van-1", "received_at_ms": 1_736_951_538_000}
            content = base64.b64encode(encode_batch_rows(rows)).decode()
            data.append(json.dumps({"batch_base64": content, **added}).encode())
        return _event(data)


def _sample(run_id: str, number: int, tick: int) -> dict[str, Any]:
    moment = START + timedelta(seconds=tick / 10)
    return {
        **SEED,
        "vehicle_id": f"van-{number % VEHICLES}",
        "run_id": run_id,
        "sequence": number // VEHICLES + 1,
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "location": {
            **SEED["location"],
            "lat": 50.1105 + number % 997 * 1e-5,
            "lon": 8.6821 + number % 991 * 1e-5,
        },
    }


def _selected(row: dict[str, Any]) -> bytes:
    moment = datetime.fromisoformat(row["timestamp"])
    added = {
        "topic_vehicle_id": row["vehicle_id"],
        "received_at_ms": round(moment.timestamp() * 1000) + 80,
    }
    return json.dumps({**row, **added}, separators=(",", ":")).encode()


def _event(data: list[bytes]) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventID": f"shardId-000000000000:{index}",
                "kinesis": {
                    "sequenceNumber": str(index),
                    "data": base64.b64encode(one).decode(),
                    "approximateArrivalTimestamp": 1_736_951_538.0,
                },
            }
            for index, one in enumerate(data)
        ]
    }


def _plain_sample(record: dict[str, Any]) -> tuple[Any, datetime]:
    row = json.loads(base64.b64decode(record["kinesis"]["data"]))
    origin, received_ms = row.pop("topic_vehicle_id"), row.pop("received_at_ms")
    sample = validate_sample(row)
    assert origin == sample.vehicle_id
    return sample, from_milliseconds(received_ms)


def plain_enrich(stores: Stores) -> Callable[[dict[str, Any], object], None]:
    """The straightforward version."""

    def handle(event: dict[str, Any], _: object) -> None:
        for record in event["Records"]:
            sample, received_at = _plain_sample(record)
            vehicle = stores.register.find(sample.vehicle_id)
            kind = "unknown" if vehicle is None else vehicle.vehicle_type
            location = sample.location
            zone = None if location is None else geohash_zone(location.lat, location.lon)
            stores.hot.put_samples(
                [EnrichedSample.of(sample, kind, zone, received_at, encode(sample))]
            )

    return handle


def plain_track_position(stores: Stores) -> Callable[[dict[str, Any], object], None]:
    """The straightforward version."""

    def handle(event: dict[str, Any], _: object) -> None:
        for record in event["Records"]:
            sample, _received_at = _plain_sample(record)
            position = track_position.position_of(sample)
            if position is not None and stores.positions.put_if_newer(position):
                late = stores.clock.utc() - sample.timestamp
                stores.metrics.observe("position_latency_ms", late.total_seconds() * 1000)

    return handle


def validate_only(_: Stores) -> Callable[[dict[str, Any], object], None]:
    """Pydantic alone, the base64 done before the clock starts."""

    def handle(payloads: Any, _: object) -> None:
        for payload in payloads:
            decode_sample(payload)

    return handle


def decode_only(_: Stores) -> Callable[[dict[str, Any], object], None]:
    """What both handlers begin with: base64, JSON, validation."""

    def handle(event: dict[str, Any], _: object) -> None:
        for _record in read_records(event):
            pass

    return handle


def measure(seconds: float) -> dict[str, dict[str, int]]:
    """Median records (samples) a second of every version."""
    fleet = Fleet({f"van-{n}": Vehicle(f"van-{n}", "electric_van") for n in range(VEHICLES)})
    with tempfile.TemporaryDirectory(prefix="milepost-bench-") as folder:
        sqlite = SqliteStores.open(Path(folder), register=fleet)
        null: Any = Null()
        nothing = replace(
            Stores(**{name: getattr(sqlite, name) for name in Stores.__dataclass_fields__}),
            hot=null,
            ledger=null,
            positions=null,
            metrics=null,
            dead_letters=null,
            clock=SystemClock(),
        )
        runs: dict[str, tuple[Callable[..., Any], Callable[[Feed], Any], int]] = {
            "validate": (validate_only(nothing), Feed.payloads, RECORDS),
            "decode": (decode_only(nothing), Feed.singles, RECORDS),
            "enrich_null": (enrich.build(nothing), Feed.singles, RECORDS),
            "enrich_null_plain": (plain_enrich(nothing), Feed.singles, RECORDS),
            "enrich_sqlite": (enrich.build(sqlite), Feed.singles, RECORDS),
            "enrich_sqlite_plain": (plain_enrich(sqlite), Feed.singles, RECORDS),
            "enrich_null_batches": (enrich.build(nothing), Feed.batches, 600),
            "enrich_sqlite_batches": (enrich.build(sqlite), Feed.batches, 600),
            "position_null": (track_position.build(nothing), Feed.singles, RECORDS),
            "position_null_plain": (plain_track_position(nothing), Feed.singles, RECORDS),
            "position_sqlite": (track_position.build(sqlite), Feed.singles, RECORDS),
            "position_sqlite_plain": (plain_track_position(sqlite), Feed.singles, RECORDS),
        }
        ticks = itertools.count()
        feeds = {name: Feed(f"{number:08x}", ticks) for number, name in enumerate(runs, 1)}
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        gc.freeze()  # as the entry points do
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for name, (handle, make, count) in runs.items():
                event = make(feeds[name])
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                handle(event, None)
                cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
                took[name].append((count / cpu_s, count / wall_s))
        sqlite.close()
    return {
        name: {
            "per_cpu_s": round(statistics.median(cpu for cpu, _ in found)),
            "per_s": round(statistics.median(wall for _, wall in found)),
        }
        for name, found in took.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure")
    options = parser.parse_args()
    rates = measure(options.seconds)
    ratios = {
        name: {
            unit: round(rates[name][unit] / rates[f"{name}_plain"][unit], 2)
            for unit in ("per_cpu_s", "per_s")
        }
        for name in ("enrich_null", "enrich_sqlite", "position_null", "position_sqlite")
    }
    if options.json:
        print(json.dumps({"records": rates, "times_the_plain_version": ratios}))
        return
    print(f"{'records a second of':24}{'one core':>12}{'wall time':>12}")
    for name, rate in rates.items():
        line = f"{name:24}{rate['per_cpu_s']:12,}{rate['per_s']:12,}"
        if name in ratios:
            ratio = ratios[name]
            line += f"   {ratio['per_cpu_s']:.2f} x and {ratio['per_s']:.2f} x the plain version"
        print(line)


if __name__ == "__main__":
    main()
