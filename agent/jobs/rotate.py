"""``rotate``: another key and certificate for the vehicle, now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from agent.errors import AgentError
from agent.jobs.operation import (
    Job,
    JobRefusedError,
    Outcome,
    Unfinished,
    failure,
    success,
)

LOOK_S: Final = 0.5


class End(Protocol):
    """How a rotation ended."""

    @property
    def succeeded(self) -> bool:
        """Whether another certificate is in use."""
        ...

    @property
    def reason(self) -> str:
        """Why it failed."""
        ...


class Rotates(Protocol):
    """What is needed of ``agent.identity.rotation.Rotation``."""

    @property
    def certificate_id(self) -> str:
        """Of the identity in use; empty while it is not known, or not the vehicle's own."""
        ...

    def request(self, reason: str) -> None:
        """Rotate now; nothing new happens if a rotation is under way.

        Raises:
            AgentError: this vehicle's identity cannot be rotated.
        """
        ...

    def observe(self, on_end: Callable[[Any], None]) -> Callable[[], None]:
        """Be told of each ``End``, on another thread; what is given ends that."""
        ...


class RotateOperation:
    """Implements ``agent.jobs.operation.Operation``; no parameters.

    Over a power cut the rotation goes on by itself (``goes_on`` is whether it has something to
    go on with); the job is done when another certificate than before is in use. ``kept`` is
    the certificate's id that the state directory holds, empty without one.
    """

    def __init__(
        self, rotation: Rotates, *, kept: Callable[[], str], goes_on: Callable[[], bool]
    ) -> None:
        self._rotation = rotation
        self._kept = kept
        self._goes_on = goes_on

    def check(self, parameters: Mapping[str, Any]) -> None:
        """See the port."""
        if parameters:
            raise JobRefusedError("rotate takes no parameters")

    def start(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        job.remember(certificate_before=self._kept())
        return self._wait(job, asks=True)

    def resume(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        is_as_before = self._kept() == job.state.get("certificate_before")
        return self._wait(job, asks=is_as_before and not self._goes_on())

    def _wait(self, job: Job, *, asks: bool) -> Outcome | Unfinished:
        before = job.state.get("certificate_before", "")
        ends: SimpleQueue[End] = SimpleQueue()
        forget = self._rotation.observe(ends.put)
        try:
            if asks:
                self._rotation.request(f"job {job.job_id}")
            job.tell(step="rotating")
            while True:
                now = self._rotation.certificate_id
                if now not in {"", before}:
                    return success(certificate=now, certificate_before=before)
                end = _next(ends)
                if end is not None and not end.succeeded:
                    return failure(end.reason, certificate="as before")
                if job.wait(LOOK_S) is not None:
                    return Unfinished.LATER  # also when cancelled: half a rotation is none
        except AgentError as error:
            return failure(error.message, certificate="as before")
        finally:
            forget()


def _next(ends: SimpleQueue[End]) -> End | None:
    try:
        return ends.get_nowait()
    except Empty:
        return None
