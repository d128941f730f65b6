"""Jobs of the one-machine cloud, the operator's side; the vehicles' is ``sqlite_job_executions``.

Invariants:

1. A change leaves what vehicles must be told in the same transaction
   (:mod:`cloud.stores.announcements`).
2. A job is never deleted, so its id is never used again.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Final

from cloud.clock import Clock
from cloud.errors import JobsError
from cloud.jobs import By, Execution
from cloud.jobs.document import checked_document
from cloud.jobs.ports import ExecutionReport, JobReport, JobState, NewJob
from cloud.stores.announcements import announce
from cloud.stores.database import Database
from cloud.stores.jobs_tables import OF_JOB, execution_of
from cloud.stores.sqlite_job_executions import change, no_job
from contract.jobs import JobStatus

LISTED: Final = 200


class SqliteJobs:
    """``Jobs`` on the two tables."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, job: NewJob) -> None:
        """See ``cloud.jobs.ports.Jobs``."""
        text = checked_document(job)
        now_s = self._now_s()
        with self._database.write() as connection:
            try:
                connection.execute(
                    "INSERT INTO jobs (job_id, document, description, timeout_minutes, created_s)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (job.job_id, text, job.description, job.timeout_minutes, now_s),
                )
            except sqlite3.IntegrityError:
                raise JobsError(
                    "ResourceAlreadyExists",
                    f"there is a job {job.job_id} already",
                    hint=f"See it: milepost-cloud jobs describe {job.job_id}",
                ) from None
            for vehicle_id in dict.fromkeys(job.vehicle_ids):
                queued = Execution(
                    job_id=job.job_id,
                    vehicle_id=vehicle_id,
                    document=text,
                    queued_s=now_s,
                    updated_s=now_s,
                    timeout_minutes=job.timeout_minutes,
                )
                announce(connection, change(connection, queued, now_s))

    def latest(self, vehicle_id: str | None = None) -> list[JobReport]:
        """See ``cloud.jobs.ports.Jobs``."""
        rows = self._database.read(
            "SELECT job_id FROM jobs WHERE ? IS NULL OR id IN"
            " (SELECT job FROM job_executions WHERE vehicle_id = ?) ORDER BY id DESC LIMIT ?",
            (vehicle_id, vehicle_id, LISTED),
        )
        reports = [self.describe(job_id) for (job_id,) in rows]
        if vehicle_id is None:
            return reports
        return [
            one._replace(executions=[e for e in one.executions if e.vehicle_id == vehicle_id])
            for one in reports
        ]

    def describe(self, job_id: str) -> JobReport:
        """See ``cloud.jobs.ports.Jobs``."""
        rows = self._database.read(
            "SELECT document, description, created_s, canceled FROM jobs WHERE job_id = ?",
            (job_id,),
        )
        if not rows:
            raise no_job(job_id)
        ((text, description, created_s, canceled),) = rows
        executions = [execution_of(row) for row in self._database.read(OF_JOB, (job_id,))]
        document = json.loads(text)
        state = JobState.COMPLETED
        if canceled:
            state = JobState.CANCELED
        elif any(not one.status.is_terminal for one in executions):
            state = JobState.IN_PROGRESS
        return JobReport(
            job_id=job_id,
            operation=document["operation"],
            parameters=document["parameters"],
            description=description,
            state=state,
            created_at=_moment(created_s),
            executions=[_report(one) for one in executions],
        )

    def cancel(self, job_id: str, *, force: bool = False) -> JobReport:
        """See ``cloud.jobs.ports.Jobs``."""
        before = self.describe(job_id)
        if before.state is JobState.COMPLETED:
            raise JobsError("InvalidRequest", f"job {job_id} has ended on every vehicle")
        by = By.OPERATOR_BY_FORCE if force else By.OPERATOR
        now_s = self._now_s()
        with self._database.write() as connection:
            connection.execute("UPDATE jobs SET canceled = 1 WHERE job_id = ?", (job_id,))
            for row in connection.execute(OF_JOB, (job_id,)).fetchall():
                execution = execution_of(row)
                if execution.status is JobStatus.QUEUED or (
                    force and execution.status is JobStatus.IN_PROGRESS
                ):
                    after = execution.changed(JobStatus.CANCELED, by, now_s)
                    announce(connection, change(connection, after, now_s))
        return self.describe(job_id)

    def _now_s(self) -> int:
        return int(self._clock.utc().timestamp())


def _report(one: Execution) -> ExecutionReport:
    return ExecutionReport(
        vehicle_id=one.vehicle_id,
        status=one.status,
        details=one.details,
        queued_at=_moment(one.queued_s),
        started_at=None if one.started_s is None else _moment(one.started_s),
        updated_at=_moment(one.updated_s),
        version=one.version,
    )


def _moment(value_s: int) -> datetime:
    return datetime.fromtimestamp(value_s, UTC)
