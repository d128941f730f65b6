"""The execution of a job on one vehicle: its states, and who may change them. Pure.

The table ``ALLOWED`` is the whole rule. Whatever is not in it is refused and changes
nothing; a terminal state stays for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from cloud.errors import JobsError
from contract.jobs import JobStatus

S = JobStatus
MINUTE_S: Final = 60


class By(StrEnum):
    """Who changes the state."""

    VEHICLE = "vehicle"
    OPERATOR = "operator"
    OPERATOR_BY_FORCE = "operator by force"
    TIMER = "timer"


_ENDS: Final = frozenset({S.SUCCEEDED, S.FAILED, S.REJECTED})
ALLOWED: Final[Mapping[tuple[JobStatus, By], frozenset[JobStatus]]] = {
    (S.QUEUED, By.VEHICLE): _ENDS | {S.IN_PROGRESS},
    (S.IN_PROGRESS, By.VEHICLE): _ENDS | {S.IN_PROGRESS},
    (S.QUEUED, By.OPERATOR): frozenset({S.CANCELED, S.REMOVED}),
    (S.QUEUED, By.OPERATOR_BY_FORCE): frozenset({S.CANCELED, S.REMOVED}),
    (S.IN_PROGRESS, By.OPERATOR_BY_FORCE): frozenset({S.CANCELED, S.REMOVED}),
    (S.IN_PROGRESS, By.TIMER): frozenset({S.TIMED_OUT}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One job on one vehicle. Moments are whole seconds since 1970."""

    job_id: str
    vehicle_id: str
    document: str
    """The job document, JSON."""
    queued_s: int
    updated_s: int
    status: JobStatus = S.QUEUED
    details: Mapping[str, str] = field(default_factory=dict)
    started_s: int | None = None
    version: int = 1
    """Raised by each change."""
    number: int = 1
    timeout_minutes: int | None = None
    """From the start to the end at most; of the job."""
    step_until_s: int | None = None
    """The vehicle's own timer."""

    @property
    def until_s(self) -> int | None:
        """When it times out, if it is in progress by then."""
        if self.status is not S.IN_PROGRESS:
            return None
        ends = [] if self.step_until_s is None else [self.step_until_s]
        if self.timeout_minutes is not None and self.started_s is not None:
            ends.append(self.started_s + self.timeout_minutes * MINUTE_S)
        return min(ends, default=None)

    def changed(
        self,
        status: JobStatus,
        by: By,
        now_s: int,
        *,
        details: Mapping[str, str] | None = None,
        step_timeout_minutes: int | None = None,
    ) -> Execution:
        """The execution in another state; ``details`` ``None`` leaves them as they are.

        ``step_timeout_minutes`` sets the vehicle's timer anew, -1 stops it, ``None`` leaves it.

        Raises:
            JobsError: InvalidStateTransition.
        """
        if status not in ALLOWED.get((self.status, by), frozenset()):
            raise JobsError(
                "InvalidStateTransition",
                f"a job execution that is {self.status} cannot become {status} by the {by}",
                state=self,
            )
        step_until_s = self.step_until_s
        if step_timeout_minutes is not None:
            minutes = step_timeout_minutes
            step_until_s = None if minutes < 0 else now_s + minutes * MINUTE_S
        starts = status is S.IN_PROGRESS and self.started_s is None
        return replace(
            self,
            status=status,
            details=self.details if details is None else dict(details),
            started_s=now_s if starts else self.started_s,
            updated_s=now_s,
            version=self.version + 1,
            step_until_s=None if status.is_terminal else step_until_s,
        )


def pending(executions: Iterable[Execution]) -> list[Execution]:
    """What is not at its end, from executions in the order of creation: started ones first."""
    return sorted(
        (one for one in executions if not one.status.is_terminal),
        key=lambda one: one.status is S.QUEUED,
    )


def next_of(executions: Iterable[Execution]) -> Execution | None:
    """The one that ``$next`` stands for."""
    return next(iter(pending(executions)), None)
