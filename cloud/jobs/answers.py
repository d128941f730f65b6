"""What the jobs service says: answers, notifications, errors; shapes of AWS IoT Jobs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from cloud.errors import JobsError
from cloud.jobs.execution import Execution, pending
from contract.jobs import JobStatus

MAX_NOTIFIED: Final = 15
"""Pending jobs in one notification."""

Json = dict[str, Any]


def pending_document(executions: Iterable[Execution], now_s: int, token: str | None) -> Json:
    """The answer to GetPendingJobExecutions."""
    waiting = pending(executions)

    def listed(status: JobStatus) -> list[Json]:
        return [summary(one) for one in waiting if one.status is status]

    return _answer(
        {
            "inProgressJobs": listed(JobStatus.IN_PROGRESS),
            "queuedJobs": listed(JobStatus.QUEUED),
        },
        now_s,
        token,
    )


def execution_document(
    execution: Execution | None, now_s: int, token: str | None, *, with_document: bool = True
) -> Json:
    """The answer to StartNext and Describe, and ``notify-next``; ``None``: nothing is pending."""
    if execution is None:
        return _answer({}, now_s, token)
    return _answer({"execution": whole(execution, now_s, with_document)}, now_s, token)


def update_document(
    execution: Execution, now_s: int, token: str | None, *, with_state: bool, with_document: bool
) -> Json:
    """The answer to UpdateJobExecution."""
    document: Json = {}
    if with_state:
        document["executionState"] = state(execution)
    if with_document:
        document["jobDocument"] = json.loads(execution.document)
    return _answer(document, now_s, token)


def notify_document(executions: Iterable[Execution], now_s: int) -> Json:
    """What goes to ``notify``."""
    jobs: dict[str, list[Json]] = {}
    for one in pending(executions)[:MAX_NOTIFIED]:
        jobs.setdefault(one.status.value, []).append(summary(one))
    return _answer({"jobs": jobs}, now_s, None)


def error_document(error: JobsError, now_s: int) -> Json:
    """What goes to ``…/rejected``."""
    document: Json = {"code": error.code, "message": error.reason}
    if error.state is not None:
        document["executionState"] = state(error.state)
    return _answer(document, now_s, error.client_token)


def summary(execution: Execution) -> Json:
    """A JobExecutionSummary."""
    document: Json = {
        "jobId": execution.job_id,
        "queuedAt": execution.queued_s,
        "lastUpdatedAt": execution.updated_s,
        "executionNumber": execution.number,
        "versionNumber": execution.version,
    }
    if execution.started_s is not None:
        document["startedAt"] = execution.started_s
    return document


def whole(execution: Execution, now_s: int, with_document: bool) -> Json:  # noqa: FBT001  as the request has it
    """A JobExecution."""
    document: Json = {
        **summary(execution),
        "thingName": execution.vehicle_id,
        "status": execution.status.value,
        "statusDetails": dict(execution.details),
    }
    until_s = execution.until_s
    if until_s is not None:
        document["approximateSecondsBeforeTimedOut"] = max(0, until_s - now_s)
    if with_document:
        document["jobDocument"] = json.loads(execution.document)
    return document


def state(execution: Execution) -> Json:
    """A JobExecutionState."""
    return {
        "status": execution.status.value,
        "statusDetails": dict(execution.details),
        "versionNumber": execution.version,
    }


def _answer(document: Json, now_s: int, token: str | None) -> Json:
    document = {**document, "timestamp": now_s}
    if token is not None:
        document["clientToken"] = token
    return document
