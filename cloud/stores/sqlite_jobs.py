"""Jobs of the one-machine cloud.

Invariants:

1. A request is read, carried out and stored in one transaction, whichever process asks: two
   that expect the same version never both succeed.
2. A change by an operator leaves what vehicles must be told in the same transaction
   (:mod:`cloud.stores.announcements`).
3. A job is never deleted, so its id is never used again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cloud.clock import Clock
from cloud.errors import JobsError
from cloud.jobs import By, Execution, next_of
from cloud.jobs.answers import (
    execution_document,
    notify_document,
    pending_document,
    update_document,
)
from cloud.jobs.document import checked_document
from cloud.jobs.ports import ExecutionReport, JobReport, JobState, NewJob
from cloud.jobs.requests import Request, parse_request
from cloud.stores.announcements import Announcement, announce
from cloud.stores.database import Database
from cloud.stores.jobs_tables import DUE, OF_JOB, ONE, PENDING, execution_of, pending_of, put
from contract.jobs import (
    NEXT,
    JobAction,
    JobRequest,
    JobStatus,
    JobTopics,
)

LISTED: Final = 200


class SqliteJobs:
    """``Jobs`` on two tables, and what the broker answers to vehicles."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- the operator's side ---------------------------------------------------------

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
                announce(connection, self._changed(connection, [queued]))

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
            raise _no_job(job_id)
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
                    announce(connection, self._changed(connection, [after]))
        return self.describe(job_id)

    # --- the vehicle's side ----------------------------------------------------------

    def answer(self, vehicle_id: str, request: JobRequest, payload: bytes) -> list[Announcement]:
        """What a vehicle's request leads to, the answer first.

        Raises:
            JobsError: the request is refused.
            StoreError: it could not be stored.
        """
        asked = parse_request(payload, is_update=request.action is JobAction.UPDATE)
        try:
            match request.action:
                case JobAction.GET_PENDING:
                    return self._get_pending(vehicle_id, asked)
                case JobAction.DESCRIBE:
                    return self._describe(vehicle_id, request.job_id, asked)
                case JobAction.START_NEXT:
                    return self._start_next(vehicle_id, asked)
                case JobAction.UPDATE:
                    return self._update(vehicle_id, request.job_id, asked)
        except JobsError as error:
            error.client_token = asked.client_token
            raise

    def expire(self) -> list[Announcement]:
        """End what takes too long; what vehicles are to be told of it.

        Raises:
            StoreError: the file cannot be read or written; nothing has changed.
        """
        now_s = self._now_s()
        if not self._database.read(
            "SELECT 1 FROM job_executions WHERE until_s <= ? LIMIT 1", (now_s,)
        ):
            return []
        with self._database.write() as connection:
            due = [execution_of(row) for row in connection.execute(DUE, (now_s,)).fetchall()]
            return [
                one
                for execution in due
                for one in self._changed(
                    connection, [execution.changed(JobStatus.TIMED_OUT, By.TIMER, now_s)]
                )
            ]

    def _get_pending(self, vehicle_id: str, asked: Request) -> list[Announcement]:
        executions = self._executions(PENDING, vehicle_id)
        document = pending_document(executions, self._now_s(), asked.client_token)
        return [_accepted(JobTopics(vehicle_id).get, document)]

    def _describe(self, vehicle_id: str, job_id: str, asked: Request) -> list[Announcement]:
        if job_id == NEXT:
            execution = next_of(self._executions(PENDING, vehicle_id))
        else:
            execution = _only(self._executions(ONE, vehicle_id, job_id), job_id, asked)
            if execution.status.is_terminal:
                raise JobsError(
                    "TerminalStateReached",
                    f"job {job_id} is {execution.status}",
                    state=execution,
                )
        document = execution_document(
            execution,
            self._now_s(),
            asked.client_token,
            with_document=asked.wants_document is not False,
        )
        return [_accepted(JobTopics(vehicle_id).get_job(job_id), document)]

    def _start_next(self, vehicle_id: str, asked: Request) -> list[Announcement]:
        now_s = self._now_s()
        told: list[Announcement] = []
        with self._database.write() as connection:
            rows = connection.execute(PENDING, (vehicle_id,)).fetchall()
            execution = next_of(map(execution_of, rows))
            if execution is not None and execution.status is JobStatus.QUEUED:
                execution = execution.changed(
                    JobStatus.IN_PROGRESS,
                    By.VEHICLE,
                    now_s,
                    details=asked.details,
                    step_timeout_minutes=asked.step_timeout_minutes,
                )
                told = self._changed(connection, [execution])
        document = execution_document(execution, now_s, asked.client_token)
        return [_accepted(JobTopics(vehicle_id).start_next, document), *told]

    def _update(self, vehicle_id: str, job_id: str, asked: Request) -> list[Announcement]:
        now_s = self._now_s()
        if asked.status is None:
            raise ValueError(asked)  # `parse_request` lets no update without one pass
        with self._database.write() as connection:
            rows = connection.execute(ONE, (vehicle_id, job_id)).fetchall()
            before = _only(list(map(execution_of, rows)), job_id, asked)
            after = before.changed(
                asked.status,
                By.VEHICLE,
                now_s,
                details=asked.details,
                step_timeout_minutes=asked.step_timeout_minutes,
            )
            if asked.expected_version not in {None, before.version}:
                raise JobsError(
                    "VersionMismatch",
                    f"job {job_id} has version {before.version}, not {asked.expected_version}",
                    state=before,
                )
            told = self._changed(connection, [after])
        document = update_document(
            after,
            now_s,
            asked.client_token,
            with_state=asked.wants_state,
            with_document=bool(asked.wants_document),
        )
        return [_accepted(JobTopics(vehicle_id).update(job_id), document), *told]

    # --- both ------------------------------------------------------------------------

    def _changed(
        self, connection: sqlite3.Connection, changed: Sequence[Execution]
    ) -> list[Announcement]:
        """Store executions of one vehicle; what it is to be told, where the list has changed."""
        vehicle_id = changed[0].vehicle_id
        before = pending_of(connection, vehicle_id)
        put(connection, changed)
        after = pending_of(connection, vehicle_id)
        topics, now_s = JobTopics(vehicle_id), self._now_s()
        told = []
        if _outline(before) != _outline(after):
            told.append(Announcement(topics.notify, _encode(notify_document(after, now_s))))
        first_before, first = next_of(before), next_of(after)
        if (first and first.job_id) != (first_before and first_before.job_id):
            document = execution_document(first, now_s, None)
            told.append(Announcement(topics.notify_next, _encode(document)))
        return told

    def _executions(self, sql: str, *parameters: str) -> list[Execution]:
        return [execution_of(row) for row in self._database.read(sql, parameters)]

    def _now_s(self) -> int:
        return int(self._clock.utc().timestamp())


def _only(found: Sequence[Execution], job_id: str, asked: Request) -> Execution:
    if not found or asked.execution_number not in {None, found[0].number}:
        raise _no_job(job_id)
    return found[0]


def _no_job(job_id: str) -> JobsError:
    return JobsError(
        "ResourceNotFound",
        f"there is no job {job_id}",
        hint="List them: milepost-cloud jobs list",
    )


def _outline(executions: Iterable[Execution]) -> list[tuple[str, JobStatus]]:
    return [(one.job_id, one.status) for one in executions]


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


def _accepted(request: str, document: dict[str, Any]) -> Announcement:
    return Announcement(JobTopics.accepted(request), _encode(document))


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
