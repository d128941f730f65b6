"""The jobs' port: one implementation for AWS and one for a single machine.

One contract test suite runs on both. Both raise :class:`cloud.errors.StoreError` when the call
may succeed later. One machine's is safe to call from several threads and processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from contract.jobs import JobDocument, JobStatus


class NewJob(NamedTuple):
    """A job to be made: one operation for one or more vehicles."""

    document: JobDocument
    vehicle_ids: Sequence[str]
    job_id: str
    """1 to 64 letters, digits, ``-`` and ``_``; the same id again is refused."""
    description: str = ""
    timeout_minutes: int | None = None
    """From the moment that a vehicle begins; 1 to 10,080."""


class JobState(StrEnum):
    """A job as a whole."""

    IN_PROGRESS = "IN_PROGRESS"
    """At least one vehicle has not ended it."""
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


class ExecutionReport(NamedTuple):
    """A job on one vehicle, as the operator sees it."""

    vehicle_id: str
    status: JobStatus
    details: Mapping[str, str]
    """What the vehicle told; of AWS only where one job is described."""
    queued_at: datetime
    started_at: datetime | None
    updated_at: datetime
    version: int


class JobReport(NamedTuple):
    """A job, and what became of it on each vehicle."""

    job_id: str
    operation: str
    parameters: Mapping[str, Any]
    description: str
    state: JobState
    created_at: datetime
    executions: Sequence[ExecutionReport]


class Jobs(Protocol):
    """Jobs as the operator sees them; the vehicle's side is the service's.

    All raise :class:`cloud.errors.JobsError` for what the service refuses.
    """

    def create(self, job: NewJob) -> None:
        """Queue it for its vehicles; those that are connected are told.

        Raises:
            JobsError: ResourceAlreadyExists, InvalidRequest, ResourceNotFound (a vehicle).
        """
        ...

    def latest(self, vehicle_id: str | None = None) -> list[JobReport]:
        """The latest 200 jobs, the newest first; of one vehicle alone where it is given."""
        ...

    def describe(self, job_id: str) -> JobReport:
        """One job.

        Raises:
            JobsError: ResourceNotFound.
        """
        ...

    def cancel(self, job_id: str, *, force: bool = False) -> JobReport:
        """Cancel it where it has not begun, with ``force`` also where it has; what it is then.

        Raises:
            JobsError: ResourceNotFound, InvalidRequest (it has ended).
        """
        ...
