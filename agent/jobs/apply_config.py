"""``apply-config``: other settings, laid over the config file, proven or rolled back.

Parameters: ``settings``, a table as in agent.toml, in place of whatever an earlier job has
laid over the file (``{}``: the file alone); ``confirm_within_s``, how long the agent may
take until the broker acknowledges, 30 to 3600, 300 if it is not given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.config import AgentSettings
from agent.errors import AgentError, ConfigError
from agent.jobs.operation import (
    Ending,
    Job,
    JobRefusedError,
    Outcome,
    Unfinished,
    failure,
    success,
)
from agent.layer import ConfigLayer
from agent.layer.merge import flat

CONFIRM_WITHIN_S: Final = 300.0
SETTLE_S: Final = 10.0
"""After the first acknowledgement: what crashes soon after it is not confirmed."""

LOOK_S: Final = 0.5


class ApplyConfigOperation:
    """Implements ``agent.jobs.operation.Operation``.

    ``check`` looks at what the settings name (DBC files, certificates) and raises an
    ``AgentError``; ``has_reached_broker`` is whether the broker has acknowledged anything to this
    process.
    """

    def __init__(
        self,
        layer: ConfigLayer,
        *,
        check: Callable[[AgentSettings], None],
        has_reached_broker: Callable[[], bool],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._layer = layer
        self._check = check
        self._has_reached_broker = has_reached_broker
        self._monotonic_s = monotonic_s

    def check(self, parameters: Mapping[str, Any]) -> None:
        """See the port."""
        unknown = sorted(parameters.keys() - {"settings", "confirm_within_s"})
        if unknown:
            raise JobRefusedError(f"unknown parameters: {', '.join(unknown)[:200]}")
        settings = parameters.get("settings")
        if not isinstance(settings, dict):
            raise JobRefusedError("settings is missing, or no object")
        _confirm_within_s(parameters)
        try:
            self._layer.preview(settings)
        except ConfigError as error:
            raise JobRefusedError(error.message) from None

    def start(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        settings = job.parameters["settings"]
        try:
            self._check(self._layer.preview(settings))
        except AgentError as error:
            return failure(error.message, settings="as before")
        job.remember(step="trial")
        self._layer.try_out(settings, job.job_id)
        job.tell(step="restarting with the new settings")
        return Unfinished.RESTART

    def resume(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        record = self._layer.record
        if record.failed_job == job.job_id:
            return failure(record.failure, settings="rolled back")
        if record.layer.job_id == job.job_id and record.trial is None:
            keys = ", ".join(key for key, _ in flat(record.layer.settings))
            return success(changed=keys or "nothing: the file alone counts")
        if not self._layer.on_trial:
            return self.start(job)  # cut off before the trial was kept
        return self._prove(job)

    def _prove(self, job: Job) -> Outcome | Unfinished:
        job.tell(step="waiting for the broker's acknowledgement")
        within_s = _confirm_within_s(job.parameters)
        deadline_s = self._monotonic_s() + within_s
        reached_s: float | None = None
        while True:
            ending, now_s = job.wait(LOOK_S), self._monotonic_s()
            if ending is Ending.STOPPING:
                return Unfinished.LATER
            if ending is Ending.CANCELED:
                self._layer.roll_back("the job was cancelled")
                return Unfinished.RESTART
            if reached_s is None and self._has_reached_broker():
                reached_s = now_s
            if reached_s is not None and now_s >= reached_s + SETTLE_S:
                self._layer.confirm()
                return self.resume(job)
            if reached_s is None and now_s >= deadline_s:
                self._layer.roll_back(f"the broker acknowledged nothing within {within_s:g} s")
                return Unfinished.RESTART


def _confirm_within_s(parameters: Mapping[str, Any]) -> float:
    within_s = parameters.get("confirm_within_s", CONFIRM_WITHIN_S)
    if isinstance(within_s, bool) or not isinstance(within_s, int | float):
        raise JobRefusedError("confirm_within_s is no number")
    if not 30 <= within_s <= 3_600:
        raise JobRefusedError("confirm_within_s must be 30 to 3600")
    return float(within_s)
