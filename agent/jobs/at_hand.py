"""The job at hand: its way through the journal and its operation. No word to the cloud here.

Whatever the cloud is to hear stands in ``entry`` and ``progress``; ``conversation`` tells it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol

from agent.errors import StateError
from agent.jobs.answers import Seen
from agent.jobs.journal import Entry, Journal, Step
from agent.jobs.operation import Ending, Operation, Outcome, Unfinished
from agent.jobs.table import Table
from agent.jobs.worker import MOST_RESUMES
from contract.jobs import JobStatus
from contract.jobs import details as told_details

_UNKNOWN: Final = "this version of the agent has no operation {}"
_TOO_OFTEN: Final = "the agent was started {} times in the midst of it"
_NO_RECORD: Final = "it was begun, and the vehicle has no record of it any more"

_log = logging.getLogger("agent.jobs")


class Hand(Protocol):
    """Carries operations out; ``agent.jobs.worker.Worker``."""

    def begin(self, entry: Entry, operation: Operation) -> None:
        """Start or resume."""
        ...

    def end(self, ending: Ending) -> None:
        """Ask what is at work to come to an end."""
        ...


class JobAtHand:
    """One job or none; used by one thread."""

    def __init__(self, *, journal: Journal, table: Table, hand: Hand) -> None:
        self._journal = journal
        self._table = table
        self._hand = hand
        self.entry: Entry | None = None
        """As it is in the journal; in memory alone where that cannot be written."""
        self.progress: Mapping[str, str] = {}
        """What its operation told last."""
        self.is_at_work = False
        self.is_unwanted = False
        """The cloud is done with it, and its operation is still to return."""

    def begin(self) -> None:
        """Once, at the start: go on with the job that an earlier process was at."""
        entry = self.entry = self._journal.load()
        if entry is None or entry.step is not Step.RUNNING:
            return
        operation = self._table.find(entry.operation)
        if entry.resumes >= MOST_RESUMES:
            self._ended(entry, JobStatus.FAILED, _because(_TOO_OFTEN.format(entry.resumes + 1)))
        elif operation is None:
            self._ended(entry, JobStatus.FAILED, _because(_UNKNOWN.format(entry.operation)))
        else:
            entry = replace(entry, resumes=entry.resumes + 1)
            if self._keep(entry):
                _log.info("job %s: going on with %s", entry.job_id, entry.operation)
                self._work(entry, operation)

    def take(self, seen: Seen) -> None:
        """The cloud has this one next."""
        judged = self._table.judge(seen.document)
        entry = Entry(seen.job_id, seen.number, judged.operation, judged.parameters)
        if seen.state.status is not JobStatus.QUEUED:
            self._ended(entry, JobStatus.FAILED, _because(_NO_RECORD))
        elif judged.refusal is not None:
            self._ended(entry, JobStatus.REJECTED, _because(judged.refusal))
        else:
            self._keep(entry)

    def claimed(self) -> None:
        """The cloud has accepted that it begins."""
        if self.entry is None:
            return
        entry = replace(self.entry, step=Step.RUNNING)
        operation = self._table.find(entry.operation)
        if operation is None:  # claimed by another version of the agent
            self._ended(entry, JobStatus.FAILED, _because(_UNKNOWN.format(entry.operation)))
        elif self._keep(entry):
            _log.info("job %s: %s begins", entry.job_id, entry.operation)
            self._work(entry, operation)

    def told(self, details: Mapping[str, str]) -> None:
        """Its operation says how far it is."""
        self.progress = told_details(details)

    def returned(self, entry: Entry, result: Outcome | Unfinished) -> None:
        """Its operation has."""
        self.is_at_work = False
        self.entry = entry
        if isinstance(result, Outcome) and not self.is_unwanted:
            status = JobStatus.SUCCEEDED if result.succeeded else JobStatus.FAILED
            self._ended(entry, status, result.details)

    def drop(self) -> bool:
        """The cloud is done with it; False while its operation is still to return."""
        if self.entry is None:
            return True
        if self.is_at_work:
            if not self.is_unwanted:
                _log.warning("job %s is no longer wanted", self.entry.job_id)
            self.is_unwanted = True
            self._hand.end(Ending.CANCELED)
            return False
        self._journal.remove(self.entry)
        self.entry, self.progress, self.is_unwanted = None, {}, False
        return True

    def _work(self, entry: Entry, operation: Operation) -> None:
        self.progress, self.is_at_work, self.is_unwanted = {}, True, False
        self._hand.begin(entry, operation)

    def _ended(self, entry: Entry, status: JobStatus, details: Mapping[str, str]) -> None:
        entry = entry.ended(status, told_details(details))
        is_good = status is JobStatus.SUCCEEDED
        _log.log(
            logging.INFO if is_good else logging.WARNING,
            "job %s (%s): %s %s",
            *(entry.job_id, entry.operation, status.value, json.dumps(entry.details)),
        )
        self._keep(entry)

    def _keep(self, entry: Entry) -> bool:
        """Keep it in the journal; where that fails the job ends with that, in memory alone."""
        self.entry = entry
        try:
            self._journal.save(entry)
        except StateError as error:
            _log.warning("%s", error)
            if entry.step is not Step.ENDED:
                details = told_details(_because(error.message))
                self.entry = entry.ended(JobStatus.FAILED, details)
            return False
        return True


def _because(reason: str) -> dict[str, str]:
    return {"reason": reason}
