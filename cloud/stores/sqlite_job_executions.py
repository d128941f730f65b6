"""The executions of jobs in the one-machine cloud: what vehicles ask, and what they are told.

Invariants:

1. A request is read, carried out and stored in one transaction, whichever process asks: two
   that expect the same version never both succeed.
2. Whoever changes executions does it by ``change``, and passes on what that returns.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from cloud.clock import Clock
from cloud.errors import JobsError
from cloud.jobs import By, Execution, next_of
from cloud.jobs.answers import (
    execution_document,
    notify_document,
    pending_document,
    update_document,
)
from cloud.jobs.requests import Request, parse_request
from cloud.stores.announcements import Announcement
from cloud.stores.database import Database
from cloud.stores.jobs_tables import DUE, ONE, PENDING, execution_of, pending_of, put
from contract.jobs import NEXT, JobAction, JobRequest, JobStatus, JobTopics


class SqliteJobExecutions:
    """What the broker answers to vehicles."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

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
                for one in change(
                    connection, execution.changed(JobStatus.TIMED_OUT, By.TIMER, now_s), now_s
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
                told = change(connection, execution, now_s)
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
            told = change(connection, after, now_s)
        document = update_document(
            after,
            now_s,
            asked.client_token,
            with_state=asked.wants_state,
            with_document=bool(asked.wants_document),
        )
        return [_accepted(JobTopics(vehicle_id).update(job_id), document), *told]

    def _executions(self, sql: str, *parameters: str) -> list[Execution]:
        return [execution_of(row) for row in self._database.read(sql, parameters)]

    def _now_s(self) -> int:
        return int(self._clock.utc().timestamp())


def change(connection: sqlite3.Connection, changed: Execution, now_s: int) -> list[Announcement]:
    """Store an execution; what its vehicle is to be told, where the list has changed."""
    vehicle_id = changed.vehicle_id
    before = pending_of(connection, vehicle_id)
    put(connection, changed)
    after = pending_of(connection, vehicle_id)
    topics = JobTopics(vehicle_id)
    told = []
    if _outline(before) != _outline(after):
        told.append(Announcement(topics.notify, _encode(notify_document(after, now_s))))
    first_before, first = next_of(before), next_of(after)
    if (first and first.job_id) != (first_before and first_before.job_id):
        document = execution_document(first, now_s, None)
        told.append(Announcement(topics.notify_next, _encode(document)))
    return told


def no_job(job_id: str) -> JobsError:
    """For an id that no job has, or none of this vehicle."""
    return JobsError(
        "ResourceNotFound",
        f"there is no job {job_id}",
        hint="List them: milepost-cloud jobs list",
    )


def _only(found: Sequence[Execution], job_id: str, asked: Request) -> Execution:
    if not found or asked.execution_number not in {None, found[0].number}:
        raise no_job(job_id)
    return found[0]


def _outline(executions: Iterable[Execution]) -> list[tuple[str, JobStatus]]:
    return [(one.job_id, one.status) for one in executions]


def _accepted(request: str, document: dict[str, Any]) -> Announcement:
    return Announcement(JobTopics.accepted(request), _encode(document))


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
