"""All stores of one machine, in one data directory.

::

    milepost.db     SQLite: history, positions, statuses, alerts, dead letters, metrics
    archive/        Parquet files

Several processes may open the same directory: ``serve`` writes while ``report`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud.areas import NO_AREAS, Areas
from cloud.clock import Clock, SystemClock, milliseconds
from cloud.errors import ConfigError
from cloud.fleet_file import Fleet
from cloud.ports import VehicleRegister
from cloud.stores import Stores
from cloud.stores.database import Database
from cloud.stores.files import FileArchive
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_history import SqliteHotStore
from cloud.stores.sqlite_job_executions import SqliteJobExecutions
from cloud.stores.sqlite_jobs import SqliteJobs
from cloud.stores.sqlite_ledger import SqliteLedgerStore
from cloud.stores.sqlite_registry import SqliteRegistry
from cloud.stores.sqlite_shadows import SqliteShadows
from cloud.stores.sqlite_state import (
    SqliteAlertStore,
    SqliteDeadLetterStore,
    SqliteMetrics,
    SqliteNotifier,
    SqlitePositionStore,
)

DATABASE_NAME: Final = "milepost.db"
ARCHIVE_NAME: Final = "archive"


@dataclass(frozen=True, kw_only=True)
class SqliteStores(Stores):
    """The ports, and what only one machine has: statuses, received bytes, shadows and jobs."""

    shadows: SqliteShadows
    jobs: SqliteJobs
    job_executions: SqliteJobExecutions
    database: Database
    data_dir: Path

    @classmethod
    def open(
        cls,
        data_dir: Path,
        areas: Areas = NO_AREAS,
        register: VehicleRegister | None = None,
        clock: Clock | None = None,
    ) -> SqliteStores:
        """Open or create the stores below ``data_dir``.

        Raises:
            ConfigError: the directory or the database cannot be opened.
        """
        clock = SystemClock() if clock is None else clock
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make {data_dir}: {error}", hint="Give another directory with --data."
            ) from error
        database = Database(data_dir / DATABASE_NAME, MIGRATIONS, create=True)
        return cls(
            register=Fleet() if register is None else register,
            hot=SqliteHotStore(database),
            ledger=SqliteLedgerStore(database),
            positions=SqlitePositionStore(database, clock),
            alerts=SqliteAlertStore(database),
            notifier=SqliteNotifier(database, clock),
            archive=FileArchive(data_dir / ARCHIVE_NAME),
            dead_letters=SqliteDeadLetterStore(database),
            metrics=SqliteMetrics(database),
            areas=areas,
            registry=SqliteRegistry(database, clock),
            clock=clock,
            shadows=SqliteShadows(database, clock),
            jobs=SqliteJobs(database, clock),
            job_executions=SqliteJobExecutions(database, clock),
            database=database,
            data_dir=data_dir,
        )

    def put_status(self, vehicle_id: str, item: Mapping[str, Any]) -> None:
        """Replace the vehicle's item of the status table, as the rule's action does.

        Raises:
            StoreError: it could not be stored.
        """
        text = json.dumps(item, separators=(",", ":"))
        with self.database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO statuses (vehicle_id, stored_ms, item) VALUES (?, ?, ?)",
                (vehicle_id, milliseconds(self.clock.utc()), text),
            )

    def count_received(self, received: Mapping[str, tuple[int, int]]) -> None:
        """Add ``{vehicle_id: (messages, bytes)}`` to what the broker took from each vehicle.

        Raises:
            StoreError: it could not be stored; nothing was added.
        """
        if received:
            with self.database.write() as connection:
                connection.executemany(
                    "INSERT INTO traffic (vehicle_id, messages, bytes_received) VALUES (?, ?, ?)"
                    " ON CONFLICT (vehicle_id) DO UPDATE SET messages = messages"
                    " + excluded.messages, bytes_received = bytes_received"
                    " + excluded.bytes_received",
                    [(vehicle_id, *counts) for vehicle_id, counts in received.items()],
                )

    def close(self) -> None:
        """Close the database; idempotent. No handler may be at work."""
        self.database.close()
