"""The jobs service's answers, read. Pure; what is malformed is ``None``."""

from __future__ import annotations

from typing import Any, NamedTuple

from contract.jobs import JOB_ID, JobStatus


class State(NamedTuple):
    """A ``JobExecutionState``: how the service has a job."""

    status: JobStatus
    version: int


class Seen(NamedTuple):
    """What of a ``JobExecution`` counts."""

    job_id: str
    number: int
    state: State
    document: object

    def is_of(self, job_id: str, number: int) -> bool:
        """Whether it is this execution of this job."""
        return (self.job_id, self.number) == (job_id, number)


def read_state(state: object) -> State | None:
    """From ``executionState``, or from an execution."""
    if not isinstance(state, dict) or type(state.get("versionNumber")) is not int:
        return None
    try:
        return State(JobStatus(state.get("status", "")), state["versionNumber"])
    except ValueError:
        return None


def read_execution(execution: object) -> Seen | None:
    """From ``execution``."""
    state = read_state(execution)
    if not isinstance(execution, dict) or state is None:
        return None
    job_id, number = execution.get("jobId"), execution.get("executionNumber")
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id) or type(number) is not int:
        return None
    return Seen(job_id, number, state, execution.get("jobDocument"))


def words(document: dict[str, Any]) -> str:
    """What a rejection says, for a person."""
    return f"{document.get('code')}: {document.get('message')}"[:400]
