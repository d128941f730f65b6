"""Jobs for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud.jobs.ports import ExecutionReport, JobReport


def as_json(job: JobReport) -> dict[str, Any]:
    """Everything that is known of a job."""
    return {
        "job_id": job.job_id,
        "operation": job.operation,
        "parameters": dict(job.parameters),
        "description": job.description,
        "state": job.state.value,
        "created_at": _time(job.created_at),
        "executions": [
            {
                "vehicle_id": one.vehicle_id,
                "status": one.status.value,
                "details": dict(one.details),
                "queued_at": _time(one.queued_at),
                "started_at": _time(one.started_at),
                "updated_at": _time(one.updated_at),
                "version": one.version,
            }
            for one in job.executions
        ],
    }


def job_rows(jobs: Sequence[JobReport]) -> list[dict[str, Any]]:
    """One line a job."""
    return [
        {
            "job": job.job_id,
            "operation": job.operation,
            "created": _time(job.created_at),
            "state": job.state.value,
            "vehicles": counted(job.executions),
        }
        for job in jobs
    ]


def execution_rows(job: JobReport) -> list[dict[str, Any]]:
    """One line a vehicle."""
    return [
        {
            "vehicle": one.vehicle_id,
            "status": one.status.value,
            "updated": _time(one.updated_at),
            "details": told(one),
        }
        for one in job.executions
    ]


def counted(executions: Sequence[ExecutionReport]) -> str:
    """``2 SUCCEEDED, 1 FAILED``, or the name where there is one vehicle alone."""
    if len(executions) == 1:
        return f"{executions[0].vehicle_id} {executions[0].status.value}"
    from contract.jobs import JobStatus  # noqa: PLC0415  slow

    counts = {status: sum(one.status is status for one in executions) for status in JobStatus}
    return ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)


def told(execution: ExecutionReport) -> str:
    """What the vehicle said, in one line."""
    return "; ".join(f"{key}: {value}" for key, value in execution.details.items()) or "-"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
