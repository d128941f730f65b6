"""Runs one operation at a time, in a thread of its own.

From ``begin`` until its report the journal is the operation's to write; before and after
it is the conversation's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from agent.jobs.journal import Entry, Journal
from agent.jobs.operation import Ending, Operation, Outcome, Unfinished, failure

MOST_RESUMES: Final = 5
"""Starts of the agent in the midst of one job; then it is given up."""

_STOP_S: Final = 3.0

_log = logging.getLogger("agent.jobs")

Returned = Callable[[Entry, Outcome | Unfinished], None]
Told = Callable[[dict[str, str]], None]


class RunningJob:
    """Implements ``agent.jobs.operation.Job``."""

    def __init__(self, entry: Entry, journal: Journal, told: Told) -> None:
        self.entry = entry
        self._journal = journal
        self._told = told
        self._ends = threading.Event()
        self._ending: Ending | None = None

    @property
    def job_id(self) -> str:
        """See the port."""
        return self.entry.job_id

    @property
    def parameters(self) -> Mapping[str, Any]:
        """See the port."""
        return self.entry.parameters

    @property
    def state(self) -> Mapping[str, Any]:
        """See the port."""
        return self.entry.state

    def remember(self, **state: Any) -> None:
        """See the port."""
        entry = replace(self.entry, state=state)
        self._journal.save(entry)
        self.entry = entry

    def tell(self, **details: str) -> None:
        """See the port."""
        self._told(details)

    @property
    def ending(self) -> Ending | None:
        """See the port."""
        return self._ending

    def wait(self, duration_s: float) -> Ending | None:
        """See the port."""
        self._ends.wait(duration_s)
        return self._ending

    def end(self, ending: Ending) -> None:
        """Ask the operation to come to an end; the first reason counts. From any thread."""
        if self._ending is None:
            self._ending = ending
        self._ends.set()


class Worker:
    """``begin`` when none is at work; the callbacks come from the operation's thread."""

    def __init__(self, journal: Journal, *, returned: Returned, told: Told) -> None:
        self._journal = journal
        self._returned = returned
        self._told = told
        self._job: RunningJob | None = None
        self._thread: threading.Thread | None = None

    def begin(self, entry: Entry, operation: Operation) -> None:
        """Start the operation, or resume it where an earlier process has started it."""
        job = RunningJob(entry, self._journal, self._told)
        work = operation.resume if entry.resumes else operation.start
        self._job = job
        self._thread = threading.Thread(target=self._run, args=(job, work), name="job", daemon=True)
        self._thread.start()

    def end(self, ending: Ending) -> None:
        """Ask what is at work to come to an end; nothing if nothing is."""
        if self._job is not None:
            self._job.end(ending)

    def stop(self) -> None:
        """The agent stops: let the operation find a place to be resumed at."""
        self.end(Ending.STOPPING)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_S)

    def _run(self, job: RunningJob, work: Callable[[RunningJob], Outcome | Unfinished]) -> None:
        try:
            result = work(job)
        except Exception as error:  # noqa: BLE001  logged in full
            _log.exception("job %s failed", job.job_id)
            result = failure(str(error) or type(error).__name__)
        self._job = None
        self._returned(job.entry, result)
