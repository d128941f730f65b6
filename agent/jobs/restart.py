"""``restart``: the agent stops in order and is started again by the service manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.jobs.operation import Job, JobRefusedError, Outcome, Unfinished, success


class RestartOperation:
    """Implements ``agent.jobs.operation.Operation``; no parameters.

    Whatever ended the process that was to restart, a later one has begun: so a power cut
    in its midst is a restart too, and there is never a second one.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def check(self, parameters: Mapping[str, Any]) -> None:
        """See the port."""
        if parameters:
            raise JobRefusedError("restart takes no parameters")

    def start(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        job.remember(run_before=self._run_id)
        return Unfinished.RESTART

    def resume(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        return success(
            run=self._run_id, run_before=str(job.state.get("run_before", "not recorded"))
        )
