"""The schema of one machine's ``milepost.db``.

- ``history``: every sample and event once, by identity; samples and events of a run share
  one sequence. ``deliveries`` counts how often the vehicle delivered it; ``received_ms``
  is the first time, ``last_received_ms`` the last.
- ``run_heads``, ``run_blocks``: the ledger, see :mod:`cloud.accounting`.
- ``positions``, ``statuses``, ``traffic``: one row per vehicle.
- ``conditions``, ``alerts``, ``notifications``: the alert life cycle.
- ``dead_letters``: what broke the contract, once each (``digest``).
- ``shadows``: one row per vehicle, with the version of one that was deleted;
  ``announcements``: what the broker has still to tell, see :mod:`cloud.stores.announcements`.
- ``jobs``, ``job_executions``: see :mod:`cloud.stores.jobs_tables`.
- ``things``, ``certificates``, ``allow_list``: see :mod:`cloud.stores.registry_schema`.
- ``metric_buckets``: counts per logarithmic bucket (see :mod:`cloud.stores.histogram`).

Moments are milliseconds since 1970, UTC. Migrations are append-only.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cloud.stores.database import Migration
from cloud.stores.jobs_tables import create_job_tables
from cloud.stores.registry_schema import add_registry
from cloud.stores.sqlite_ledger import add_ledger

_TABLES: Final = (
    """
    CREATE TABLE history (
        vehicle_id       TEXT    NOT NULL,
        run_id           TEXT    NOT NULL,
        sequence         INTEGER NOT NULL,
        kind             TEXT    NOT NULL CHECK (kind IN ('sample', 'event')),
        timestamp_ms     INTEGER NOT NULL,
        received_ms      INTEGER NOT NULL,
        last_received_ms INTEGER NOT NULL,
        deliveries       INTEGER NOT NULL DEFAULT 1,
        lat              REAL,
        lon              REAL,
        vehicle_type     TEXT,
        geohash_zone     TEXT,
        event_type       TEXT,
        payload          TEXT    NOT NULL,
        PRIMARY KEY (vehicle_id, run_id, sequence)
    ) STRICT
    """,
    "CREATE INDEX history_by_time ON history (vehicle_id, timestamp_ms)",
    """
    CREATE TABLE positions (
        vehicle_id   TEXT PRIMARY KEY,
        timestamp_ms INTEGER NOT NULL,
        stored_ms    INTEGER NOT NULL,
        position     TEXT    NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE statuses (
        vehicle_id TEXT PRIMARY KEY,
        stored_ms  INTEGER NOT NULL,
        item       TEXT    NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE traffic (
        vehicle_id     TEXT PRIMARY KEY,
        messages       INTEGER NOT NULL,
        bytes_received INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE conditions (
        vehicle_id   TEXT    NOT NULL,
        kind         TEXT    NOT NULL,
        raised       INTEGER NOT NULL,
        evaluated_ms INTEGER NOT NULL,
        alert_id     TEXT,
        streak       INTEGER NOT NULL,
        unnotified   INTEGER NOT NULL,
        PRIMARY KEY (vehicle_id, kind)
    ) STRICT
    """,
    """
    CREATE TABLE alerts (
        vehicle_id  TEXT    NOT NULL,
        alert_id    TEXT    NOT NULL,
        kind        TEXT    NOT NULL,
        opened_ms   INTEGER NOT NULL,
        resolved_ms INTEGER,
        detail      TEXT    NOT NULL,
        PRIMARY KEY (vehicle_id, alert_id)
    ) STRICT
    """,
    "CREATE INDEX alerts_by_time ON alerts (opened_ms)",
    """
    CREATE TABLE notifications (
        alert_id   TEXT    NOT NULL,
        state      TEXT    NOT NULL CHECK (state IN ('opened', 'resolved')),
        vehicle_id TEXT    NOT NULL,
        sent_ms    INTEGER NOT NULL,
        text       TEXT    NOT NULL,
        PRIMARY KEY (alert_id, state)
    ) STRICT
    """,
    """
    CREATE TABLE dead_letters (
        digest      TEXT PRIMARY KEY,
        received_ms INTEGER NOT NULL,
        topic       TEXT,
        field       TEXT NOT NULL,
        reason      TEXT NOT NULL,
        payload     BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE metric_buckets (
        name   TEXT    NOT NULL,
        bucket INTEGER NOT NULL,
        count  INTEGER NOT NULL,
        PRIMARY KEY (name, bucket)
    ) STRICT, WITHOUT ROWID
    """,
)

_SHADOW_TABLES: Final = (
    """
    CREATE TABLE shadows (
        vehicle_id TEXT    PRIMARY KEY,
        version    INTEGER NOT NULL,
        changed_s  INTEGER NOT NULL,
        deleted    INTEGER NOT NULL,
        state      TEXT    NOT NULL,
        metadata   TEXT    NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE announcements (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        topic   TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT
    """,
)


def create_tables(connection: sqlite3.Connection) -> None:
    """Version 1."""
    for statement in _TABLES:
        connection.execute(statement)


def create_shadow_tables(connection: sqlite3.Connection) -> None:
    """Version 2."""
    for statement in _SHADOW_TABLES:
        connection.execute(statement)


MIGRATIONS: Final[tuple[Migration, ...]] = (
    create_tables,
    create_shadow_tables,
    add_ledger,
    create_job_tables,
    add_registry,
)
