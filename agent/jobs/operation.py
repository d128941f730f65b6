"""What an operation of a job is, and what it is given. The comments here are the contract.

An operation runs in a thread of its own, one at a time, and may take its time there. It
may be cut off at any moment: by a power cut, a crash, or a stop of the agent. Whatever it
needs to go on it gives to ``Job.remember`` *before* it does what cannot be repeated; at
the agent's next start ``resume`` is called with that. An operation is looked up by name
(``contract.jobs.OperationName``) in the table that ``agent.compose`` makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol


class JobRefusedError(Exception):
    """An operation will not be begun, e.g. a parameter is missing; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended; ``details`` are told to the operator.

    At most 10 pairs of 1,024 characters are told (``contract.jobs.details``).
    """

    succeeded: bool
    details: Mapping[str, str] = field(default_factory=dict)


def success(**details: str) -> Outcome:
    """It is done."""
    return Outcome(succeeded=True, details=details)


def failure(reason: str, **details: str) -> Outcome:
    """It is not done, and things are as before or as ``reason`` says."""
    return Outcome(succeeded=False, details={"reason": reason, **details})


class Unfinished(Enum):
    """The operation goes on in the agent's next process, by ``resume``."""

    RESTART = "restart"
    """Stop in order now, and be started again by the service manager."""

    LATER = "later"
    """The agent is being stopped by others, or will be: an update installs itself."""


class Ending(Enum):
    """Why an operation should come to an end before its time."""

    CANCELED = "canceled"
    """The operator no longer wants it, or it took too long; what it returns is told nobody.
    Undo what is half done, or finish it, and return."""

    STOPPING = "stopping"
    """The agent stops. Return ``Unfinished.LATER`` within 2 s to be resumed."""


class Job(Protocol):
    """What an operation knows of its job, and how it speaks; only for its own thread."""

    @property
    def job_id(self) -> str:
        """The cloud's name of the job; safe as a file name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """As ``Operation.check`` has seen them."""
        ...

    @property
    def state(self) -> Mapping[str, Any]:
        """What was remembered last; empty before the first time."""
        ...

    def remember(self, **state: Any) -> None:
        """Keep these JSON values in place of the last, over a power cut; durable on return.

        Raises:
            StateError: it could not be written: do not go on with what cannot be repeated.
        """
        ...

    def tell(self, **details: str) -> None:
        """Tell the operator how far it is, e.g. ``step="download", percent="40"``.

        Not more often than every 10 s is it sent; the latest counts.
        """
        ...

    @property
    def ending(self) -> Ending | None:
        """Whether to come to an end, and why."""
        ...

    def wait(self, duration_s: float) -> Ending | None:
        """Wait so long, or until ``ending`` is set; what it is."""
        ...


class Operation(Protocol):
    """One kind of job."""

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Judge the parameters, which may be anything that JSON can hold; quick, no effects.

        Raises:
            JobRefusedError: it will not be begun; the job is REJECTED with the reason.
        """
        ...

    def start(self, job: Job) -> Outcome | Unfinished:
        """Carry it out. An exception is a failed job, with the exception's text."""
        ...

    def resume(self, job: Job) -> Outcome | Unfinished:
        """Go on in a later process, at whatever ``remember`` kept last.

        Called once for each start of the agent until it is finished; after
        ``agent.jobs.worker.MOST_RESUMES`` starts it is given up as failed.
        """
        ...
