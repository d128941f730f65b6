"""The tables of jobs: their schema, the queries, and rows as executions.

- ``jobs``: every job that was ever made, in the order of its ``id``.
- ``job_executions``: a job on one vehicle. ``until_s`` is when it times out, NULL where it
  does not; moments are whole seconds since 1970.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from cloud.jobs import Execution
from contract.jobs import JobStatus

_TABLES: Final = (
    """
    CREATE TABLE jobs (
        id              INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id          TEXT    NOT NULL UNIQUE,
        document        TEXT    NOT NULL,
        description     TEXT    NOT NULL,
        timeout_minutes INTEGER,
        created_s       INTEGER NOT NULL,
        canceled        INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    """
    CREATE TABLE job_executions (
        vehicle_id   TEXT    NOT NULL,
        job          INTEGER NOT NULL REFERENCES jobs (id),
        status       TEXT    NOT NULL,
        details      TEXT    NOT NULL,
        queued_s     INTEGER NOT NULL,
        started_s    INTEGER,
        updated_s    INTEGER NOT NULL,
        version      INTEGER NOT NULL,
        number       INTEGER NOT NULL,
        step_until_s INTEGER,
        until_s      INTEGER,
        PRIMARY KEY (vehicle_id, job)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX job_executions_by_job ON job_executions (job)",
    """
    CREATE INDEX job_executions_pending ON job_executions (vehicle_id, job)
        WHERE status IN ('QUEUED', 'IN_PROGRESS')
    """,
    "CREATE INDEX job_executions_by_end ON job_executions (until_s) WHERE until_s IS NOT NULL",
)
_SELECT: Final = """
    SELECT jobs.job_id, e.vehicle_id, jobs.document, e.status, e.details, e.queued_s, e.started_s,
           e.updated_s, e.version, e.number, e.step_until_s, jobs.timeout_minutes
    FROM job_executions e JOIN jobs ON jobs.id = e.job
"""
PENDING: Final = f"""
    {_SELECT} WHERE e.vehicle_id = ? AND e.status IN ('QUEUED', 'IN_PROGRESS') ORDER BY e.job
"""
"""What a vehicle has before it, in the order of the jobs; takes ``vehicle_id``."""
ONE: Final = f"{_SELECT} WHERE e.vehicle_id = ? AND jobs.job_id = ?"
"""Takes ``vehicle_id`` and ``job_id``."""
OF_JOB: Final = f"{_SELECT} WHERE jobs.job_id = ? ORDER BY e.vehicle_id"
"""Takes ``job_id``."""
DUE: Final = f"{_SELECT} WHERE e.until_s <= ? ORDER BY e.job"
"""What times out by a moment; takes that."""
_PUT: Final = """
    INSERT OR REPLACE INTO job_executions (vehicle_id, job, status, details, queued_s, started_s,
        updated_s, version, number, step_until_s, until_s)
    VALUES (?, (SELECT id FROM jobs WHERE job_id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def create_job_tables(connection: sqlite3.Connection) -> None:
    """A migration of ``cloud.stores.schema``."""
    for statement in _TABLES:
        connection.execute(statement)


def pending_of(connection: sqlite3.Connection, vehicle_id: str) -> list[Execution]:
    """The executions of a vehicle that have not ended, within a transaction."""
    return [execution_of(row) for row in connection.execute(PENDING, (vehicle_id,)).fetchall()]


def put(connection: sqlite3.Connection, execution: Execution) -> None:
    """Store an execution as it is now."""
    connection.execute(_PUT, _row(execution))


def execution_of(row: tuple[Any, ...]) -> Execution:
    """A row of any of the queries."""
    (job_id, vehicle_id, document, status, details, queued_s, started_s) = row[:7]
    updated_s, version, number, step_until_s, timeout_minutes = row[7:]
    return Execution(
        job_id=job_id,
        vehicle_id=vehicle_id,
        document=document,
        queued_s=queued_s,
        updated_s=updated_s,
        status=JobStatus(status),
        details=json.loads(details),
        started_s=started_s,
        version=version,
        number=number,
        timeout_minutes=timeout_minutes,
        step_until_s=step_until_s,
    )


def _row(one: Execution) -> tuple[Any, ...]:
    return (
        *(one.vehicle_id, one.job_id, one.status.value, json.dumps(dict(one.details))),
        *(one.queued_s, one.started_s, one.updated_s, one.version, one.number),
        *(one.step_until_s, one.until_s),
    )
