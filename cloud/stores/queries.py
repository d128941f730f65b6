"""What ``report``, the API and the map read, in the shapes they show.

Reading never waits for the handlers and never makes them wait. ``report`` scans the whole
history; everything else reads few rows and may be called every second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cloud.accounting.figures import summary
from cloud.accounting.reconcile import reconcile
from cloud.clock import from_milliseconds, milliseconds
from cloud.errors import ConfigError
from cloud.ports import AlertKind, VehicleRegister
from cloud.stores.database import Database
from cloud.stores.files import FileArchive
from cloud.stores.histogram import percentile
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import ARCHIVE_NAME, DATABASE_NAME
from cloud.stores.sqlite_ledger import SqliteLedgerStore
from contract.fields import format_timestamp

Json = dict[str, Any]

_RUNS: Final = """
    SELECT vehicle_id, run_id, MIN(sequence), MAX(sequence), COUNT(*), SUM(kind = 'sample'),
           SUM(deliveries), SUM(kind = 'sample' AND deliveries > 1)
    FROM history GROUP BY vehicle_id, run_id
"""
_LATENCY_BUCKETS: Final = (
    "SELECT bucket, count FROM metric_buckets WHERE name = 'position_latency_ms'"
)
_VEHICLE_IDS: Final = """
    SELECT vehicle_id FROM positions UNION SELECT vehicle_id FROM statuses
    UNION SELECT vehicle_id FROM traffic
"""


class Queries:
    """The read side of one machine's stores."""

    def __init__(
        self, database: Database, archive: FileArchive, register: VehicleRegister | None = None
    ) -> None:
        self._database = database
        self._archive = archive
        self._register = register
        self.ledger = SqliteLedgerStore(database)

    @classmethod
    def open(cls, data_dir: Path, register: VehicleRegister | None = None) -> Queries:
        """Open what ``serve`` wrote, whether it still runs or not.

        Raises:
            ConfigError: there is no database in ``data_dir``, or it cannot be read.
        """
        path = data_dir / DATABASE_NAME
        if not path.is_file():
            raise ConfigError(
                f"no data in {data_dir} ({DATABASE_NAME} is missing)",
                hint="Give the directory that `milepost-cloud serve --data` uses.",
            )
        return cls(
            Database(path, MIGRATIONS, create=False), FileArchive(data_dir / ARCHIVE_NAME), register
        )

    def close(self) -> None:
        """Close the database; idempotent."""
        self._database.close()

    def report(self) -> Json:
        """The account of everything that arrived, as ``milepost-cloud report --json`` prints it.

        ``missing`` counts, per run, the sequences from 1 to the highest stored that are not
        stored, samples and events together. ``account`` is from the ledger, which counts for
        itself, and knows of more that is missing, and why.
        """
        with self._database.snapshot() as connection:
            runs = connection.execute(_RUNS).fetchall()
            traffic = dict(connection.execute("SELECT vehicle_id, bytes_received FROM traffic"))
            statuses = {
                vehicle_id: json.loads(item)
                for vehicle_id, item in connection.execute("SELECT vehicle_id, item FROM statuses")
            }
            buckets = dict(connection.execute(_LATENCY_BUCKETS))
            dead_letters = connection.execute("SELECT COUNT(*) FROM dead_letters").fetchone()[0]
            alerts = _alerts(connection.execute(f"{_ALERTS} ORDER BY opened_ms, alert_id"))
        names = sorted({run[0] for run in runs} | set(traffic) | set(statuses))
        vehicles = {name: _vehicle_account(name, traffic, statuses) for name in names}
        for vehicle_id, run_id, lowest, highest, stored, samples, deliveries, duplicated in runs:
            account = vehicles[vehicle_id]
            account["samples_stored"] += samples
            account["events_stored"] += stored - samples
            account["samples_duplicated"] += duplicated
            account["deliveries"] += deliveries
            account["missing"][run_id] = highest - stored
            account["runs"][run_id] = {
                "min_sequence": lowest,
                "max_sequence": highest,
                "stored": stored,
            }
        for vehicle_id, vehicle in vehicles.items():
            vehicle["account"] = self.account(vehicle_id)
        return {
            "vehicles": list(vehicles.values()),
            "latency_ms": _latency(buckets),
            "alerts": alerts,
            "archive_rows": self._archive.rows(),
            "dead_letters": dead_letters,
        }

    def vehicles(self) -> list[Json]:
        """Every vehicle as it is now, for the map and ``GET /api/vehicles``.

        Each: ``vehicle_id``, ``name``, ``vehicle_type``, ``state``, ``mode``,
        ``backlog_messages``, ``software_version``, ``status_timestamp``, ``position`` (flat:
        ``lat``, ``lon``, ``timestamp``, ``speed_kmh``, ``battery_percent``, …, or null) and
        ``open_alerts``. What is unknown is null.
        """
        with self._database.snapshot() as connection:
            ids = [row[0] for row in connection.execute(f"{_VEHICLE_IDS} ORDER BY 1")]
            statuses = dict(connection.execute("SELECT vehicle_id, item FROM statuses"))
            positions = dict(connection.execute("SELECT vehicle_id, position FROM positions"))
            alerts = _alerts(
                connection.execute(f"{_ALERTS} WHERE resolved_ms IS NULL ORDER BY opened_ms")
            )
        shown = []
        for vehicle_id in ids:
            known = None if self._register is None else self._register.find(vehicle_id)
            status = json.loads(statuses.get(vehicle_id, "{}"))
            position = positions.get(vehicle_id)
            shown.append(
                {
                    "vehicle_id": vehicle_id,
                    "name": None if known is None else known.display_name,
                    "vehicle_type": None if known is None else known.vehicle_type,
                    "state": status.get("state"),
                    "mode": status.get("mode"),
                    "backlog_messages": status.get("backlog_messages"),
                    "software_version": status.get("software_version"),
                    "status_timestamp": status.get("timestamp"),
                    "position": None if position is None else json.loads(position),
                    "open_alerts": [one for one in alerts if one["vehicle_id"] == vehicle_id],
                }
            )
        return shown

    def trail(
        self, vehicle_id: str, *, since: datetime, every_s: float = 1.0
    ) -> list[tuple[int, float, float]]:
        """Where a vehicle was since then: ``(timestamp_ms, lat, lon)`` in order of time.

        Late samples are in their place; at most one for each ``every_s``.
        """
        return self._database.read(
            "SELECT MIN(timestamp_ms), lat, lon FROM history WHERE vehicle_id = ?"
            " AND timestamp_ms >= ? AND kind = 'sample' AND lat IS NOT NULL"
            " GROUP BY timestamp_ms / ? ORDER BY 1",
            (vehicle_id, milliseconds(since), max(1, round(every_s * 1000))),
        )

    def alerts(self, *, open_only: bool = False, limit: int = 1_000) -> list[Json]:
        """Alerts, newest first, for ``GET /api/alerts``."""
        where = " WHERE resolved_ms IS NULL" if open_only else ""
        return _alerts(
            self._database.read(f"{_ALERTS}{where} ORDER BY opened_ms DESC LIMIT ?", (limit,))
        )

    def statuses(self) -> list[Json]:
        """The status table's items, by vehicle."""
        rows = self._database.read("SELECT item FROM statuses ORDER BY vehicle_id")
        return [json.loads(item) for (item,) in rows]

    def latency_ms(self) -> Json:
        """``p50``, ``p95``, ``p99`` from sample to stored position, ms, and their ``count``.

        Null where nothing was measured. Cheap: a row per bucket, whatever the history.
        """
        return _latency(dict(self._database.read(_LATENCY_BUCKETS)))

    def history(self, vehicle_id: str) -> Iterator[Json]:
        """What is stored of a vehicle, by run and sequence.

        Each: ``kind``, ``run_id``, ``sequence``, ``timestamp``, ``received_at`` (the first
        time), ``deliveries``, and ``message``: all that was sent, as the contract has it.
        """
        place = ("", 0)
        while True:
            rows = self._database.read(
                "SELECT kind, run_id, sequence, timestamp_ms, received_ms, deliveries, payload"
                " FROM history"
                " WHERE vehicle_id = ? AND (run_id, sequence) > (?, ?)"
                " ORDER BY run_id, sequence LIMIT 5000",
                (vehicle_id, *place),
            )
            if not rows:
                return
            for kind, run_id, sequence, timestamp_ms, received_ms, deliveries, payload in rows:
                yield {
                    "kind": kind,
                    "run_id": run_id,
                    "sequence": sequence,
                    "timestamp": format_timestamp(from_milliseconds(timestamp_ms)),
                    "received_at": format_timestamp(from_milliseconds(received_ms)),
                    "deliveries": deliveries,
                    "message": json.loads(payload),
                }
            place = (rows[-1][1], rows[-1][2])

    def account(self, vehicle_id: str) -> Json:
        """A vehicle's figures: received, missing and why, late, duplicates; from few rows."""
        heads = self.ledger.heads(vehicle_id)
        return summary(reconcile(heads, lambda run: self.ledger.ranges(vehicle_id, run)))

    def dead_letters(self, limit: int = 1_000) -> list[Json]:
        """Dead letters, newest first.

        Each: ``received_at``, ``topic``, ``field``, ``reason``, ``payload`` (bytes).
        """
        rows = self._database.read(
            "SELECT received_ms, topic, field, reason, payload FROM dead_letters"
            " ORDER BY received_ms DESC, rowid DESC LIMIT ?",
            (limit,),
        )
        return [
            {
                "received_at": format_timestamp(from_milliseconds(received_ms)),
                "topic": topic,
                "field": field,
                "reason": reason,
                "payload": payload,
            }
            for received_ms, topic, field, reason, payload in rows
        ]


_ALERTS: Final = "SELECT alert_id, vehicle_id, kind, opened_ms, resolved_ms, detail FROM alerts"


def _alerts(rows: Any) -> list[Json]:
    return [
        {
            "alert_id": alert_id,
            "vehicle_id": vehicle_id,
            "kind": AlertKind(kind).value,
            "opened_at": format_timestamp(from_milliseconds(opened_ms)),
            "resolved_at": None
            if resolved_ms is None
            else format_timestamp(from_milliseconds(resolved_ms)),
            "detail": detail,
        }
        for alert_id, vehicle_id, kind, opened_ms, resolved_ms, detail in rows
    ]


def _latency(buckets: dict[int, int]) -> Json:
    return {
        **{f"p{percent}": percentile(buckets, percent) for percent in (50, 95, 99)},
        "count": sum(buckets.values()),
    }


def _vehicle_account(vehicle_id: str, traffic: Json, statuses: Json) -> Json:
    status = statuses.get(vehicle_id, {})
    return {
        "vehicle_id": vehicle_id,
        "samples_stored": 0,
        "events_stored": 0,
        "samples_duplicated": 0,
        "deliveries": 0,
        "missing": {},
        "runs": {},
        "bytes_received": traffic.get(vehicle_id, 0),
        "state": status.get("state"),
        "mode": status.get("mode"),
        "backlog_messages": status.get("backlog_messages"),
    }
