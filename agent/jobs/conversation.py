"""What is asked of the jobs service and told to it. No thread, no clock of its own.

One job at a time, in these steps, each in the journal before the cloud hears of it::

    $next/get -> CLAIMING -> update IN_PROGRESS -> accepted -> RUNNING -> the operation
              -> ENDED -> update SUCCEEDED, FAILED or REJECTED -> accepted -> $next/get

- A job is the cloud's to give: nothing is begun before the cloud has accepted that it
  begins, with the version of the job that was seen (``expectedVersion``). So a job that
  was cancelled meanwhile, or is told of twice, is not begun.
- Notifications are only a reason to ask: what is late, lost or told twice causes one
  question more.
- What ended is told until the cloud has answered, over any number of starts. A cloud that
  has decided otherwise meanwhile (cancelled, timed out, deleted) is right.
- The vehicle's clock plays no part.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from agent.errors import StateError
from agent.jobs.answers import Seen, read_execution, read_state, words
from agent.jobs.journal import Entry, Journal, Step
from agent.jobs.operation import Ending, Operation, Outcome, Unfinished
from agent.jobs.request import Request, Send
from agent.jobs.table import Table
from agent.jobs.worker import MOST_RESUMES
from agent.publisher.bucket import TokenBucket
from contract.jobs import NEXT, JobStatus, JobTopics
from contract.jobs import details as told_details

GATHER_S: Final = 0.5
"""A change is told in two messages; one question is enough."""

TELL_EVERY_S: Final = 10.0
QUESTIONS: Final = (5.0, 0.2)
"""Questions and reports together: in a burst, and each second."""

_OVER: Final = frozenset({"ResourceNotFound", "TerminalStateReached", "InvalidStateTransition"})
"""Codes by which the service says that a job is no longer to be done."""

_MALFORMED: Final = frozenset({"InvalidRequest", "InvalidJson", "InvalidTopic"})

_UNKNOWN: Final = "this version of the agent has no operation {}"
_TOO_OFTEN: Final = "the agent was started {} times in the midst of it"
_NO_RECORD: Final = "it was begun, and the vehicle has no record of it any more"

_log = logging.getLogger("agent.jobs")

Json = dict[str, Any]


class Hand(Protocol):
    """Carries operations out; ``agent.jobs.worker.Worker``."""

    def begin(self, entry: Entry, operation: Operation) -> None:
        """Start or resume."""
        ...

    def end(self, ending: Ending) -> None:
        """Ask what is at work to come to an end."""
        ...


class Conversation:
    """All methods are called by one thread; ``now_s`` is monotonic."""

    def __init__(
        self,
        *,
        topics: JobTopics,
        journal: Journal,
        table: Table,
        hand: Hand,
        send: Send,
        restart: Callable[[], None],
        new_token: Callable[[], str],
        now_s: float,
    ) -> None:
        self._topics = topics
        self._journal = journal
        self._table = table
        self._hand = hand
        self._restart = restart
        bucket = TokenBucket(rate=QUESTIONS[1], burst=QUESTIONS[0], now_s=now_s)
        self._get = Request(send=send, bucket=bucket, new_token=new_token)
        self._update = Request(send=send, bucket=bucket, new_token=new_token)
        self._complaint = ""
        self.entry: Entry | None = None
        """The job at hand."""
        self.progress: Mapping[str, str] = {}
        """What its operation told last."""
        self._at_work = False
        self._unwanted = False
        """The cloud no longer wants the job whose operation is at work."""
        self._told_s: float | None = None
        self._untold = False
        self.disconnected()

    # --- what happens ----------------------------------------------------------------

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

    def connected(self, now_s: float) -> None:
        """Ask, from the start."""
        self.disconnected()
        self._get.due_s = now_s

    def disconnected(self) -> None:
        """Nothing asked will be answered."""
        self._get.forget()
        self._update.forget()
        self._ask_again = False
        self._version: int | None = None
        """Of the job at hand, as the service has it; ``None`` while not known."""
        self._telling: Step | None = None
        """The step that an open update tells of."""
        self._plain = False
        """The service did not like what the last update had beside the status."""

    def told(self, details: dict[str, str], now_s: float) -> None:
        """The operation says how far it is."""
        self.progress = told_details(details)
        self._untold = True
        self._update_soon(now_s)

    def finished(self, entry: Entry, result: Outcome | Unfinished, now_s: float) -> None:
        """The operation has returned."""
        self._at_work = False
        self.entry = entry
        if self._unwanted:
            self._over(now_s)
        elif isinstance(result, Outcome):
            status = JobStatus.SUCCEEDED if result.succeeded else JobStatus.FAILED
            self._ended(entry, status, result.details)
            self._update_soon(now_s)
        if result is Unfinished.RESTART:
            _log.info("job %s: the agent restarts", entry.job_id)
            self._restart()

    def received(self, topic: str, payload: bytes, now_s: float) -> None:
        """A message came on one of the jobs' topics; one that is malformed is ignored."""
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self._complain(f"a message on {topic} is no object: {payload[:80]!r}")
            return
        accepted, rejected = self._topics.accepted, self._topics.rejected
        if topic == self._topics.notify_next:
            self._notified(document, now_s)
        elif self._get.is_answered_by(document):
            if topic == accepted(self._get.topic):
                self._got(document, now_s)
            elif topic == rejected(self._get.topic):
                self._not_got(document, now_s)
        elif self._update.is_answered_by(document):
            if topic == accepted(self._update.topic):
                self._updated(document, now_s)
            elif topic == rejected(self._update.topic):
                self._not_updated(document, now_s)

    def step(self, now_s: float) -> float | None:
        """Send what is due; seconds until the next step, ``None`` when only a message leads on."""
        if self._get.due_s is not None and now_s >= self._get.due_s:
            self._ask(now_s)
        if self._update.due_s is not None and now_s >= self._update.due_s:
            self._tell(now_s)
        due = [one.due_s for one in (self._get, self._update) if one.due_s is not None]
        return max(0.0, min(due) - now_s) if due else None

    # --- asking ----------------------------------------------------------------------

    def _question(self) -> str:
        return self._topics.get_job(self.entry.job_id if self.entry else NEXT)

    def _ask(self, now_s: float) -> None:
        if self._get.is_open:
            self._complain("the jobs service does not answer (docs/jobs.md: does the broker?)")
        self._ask_again = False
        request: Json = {"includeJobDocument": False} if self.entry else {}
        self._get.say(self._question(), request, now_s)

    def _notified(self, document: Json, now_s: float) -> None:
        """Another job is next than before."""
        execution = document.get("execution")
        job_id = execution.get("jobId") if isinstance(execution, dict) else None
        if self.entry is None:
            wants = job_id is not None
        else:  # is the one at work cancelled? The end of any other is told by its answer
            wants = job_id != self.entry.job_id and self.entry.step is Step.RUNNING
        if wants and self._get.is_open:
            self._ask_again = True
        elif wants:
            self._get.due_s = now_s + GATHER_S

    def _got(self, document: Json, now_s: float) -> None:
        is_stale = self._get.topic != self._question()
        self._get.close()
        self._complaint = ""
        execution = document.get("execution")
        if is_stale or (self._ask_again and not execution):
            self._get.due_s = now_s
        if is_stale or (self.entry is None and not execution):
            return
        seen = read_execution(execution)
        if seen is None:
            self._complain("the jobs service's answer is no job execution")
            return
        status, self._version = seen.state
        entry = self.entry
        if entry is None:
            self._take(seen)
        elif status.is_terminal or not seen.is_of(entry.job_id, entry.execution_number):
            self._over(now_s)
        elif entry.step is Step.CLAIMING and status is JobStatus.IN_PROGRESS:
            self._claimed()  # by an earlier process, or an answer was lost
        self._update_soon(now_s)

    def _not_got(self, document: Json, now_s: float) -> None:
        is_stale = self._get.topic != self._question()
        if is_stale:
            self._get.close()
            self._get.due_s = now_s
        elif self.entry is not None and document.get("code") in _OVER:
            self._get.close()
            self._over(now_s)
        else:
            self._get.close(refused=True)
            self._complain(f"the jobs service refuses to tell: {words(document)}")

    # --- a job's way -----------------------------------------------------------------

    def _take(self, seen: Seen) -> None:
        judged = self._table.judge(seen.document)
        entry = Entry(seen.job_id, seen.number, judged.operation, judged.parameters)
        if seen.state.status is not JobStatus.QUEUED:
            self._ended(entry, JobStatus.FAILED, _because(_NO_RECORD))
        elif judged.refusal is not None:
            self._ended(entry, JobStatus.REJECTED, _because(judged.refusal))
        else:
            self._keep(entry)

    def _claimed(self) -> None:
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

    def _work(self, entry: Entry, operation: Operation) -> None:
        self.progress, self._untold = {}, False
        self._at_work, self._unwanted = True, False
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

    def _over(self, now_s: float) -> None:
        """The cloud is done with the job at hand, whatever became of it here."""
        if self.entry is None:
            return
        if self._at_work:
            if not self._unwanted:
                _log.warning("job %s is no longer wanted", self.entry.job_id)
            self._unwanted = True
            self._hand.end(Ending.CANCELED)
            return
        self._journal.remove(self.entry)
        self.entry, self._version, self.progress = None, None, {}
        self._unwanted = self._plain = False
        self._update.close()
        if not self._get.is_open:
            self._get.due_s = now_s

    # --- telling ---------------------------------------------------------------------

    def _update_soon(self, now_s: float) -> None:
        """Tell what there is to tell, as soon as may be."""
        if self.entry is None or self._version is None or self._update.is_open or self._unwanted:
            return
        if self.entry.step is not Step.RUNNING:
            self._update.due_s = now_s
        elif self._untold:
            soonest_s = now_s if self._told_s is None else self._told_s + TELL_EVERY_S
            self._update.due_s = max(now_s, soonest_s)

    def _tell(self, now_s: float) -> None:
        entry = self.entry
        if entry is None or self._version is None:
            self._update.close()
            return
        if self._update.is_open:
            self._complain("the jobs service does not answer what it is told; it is told again")
        request: Json = {
            "status": entry.status.value,
            "expectedVersion": self._version,
            "executionNumber": entry.execution_number,
            "includeJobExecutionState": True,
        }
        details = entry.details if entry.step is Step.ENDED else self.progress
        if details and not self._plain:
            request["statusDetails"] = dict(details)
        if self._update.say(self._topics.update(entry.job_id), request, now_s):
            self._telling = entry.step
            if entry.step is Step.RUNNING:
                self._told_s, self._untold = now_s, False

    def _updated(self, document: Json, now_s: float) -> None:
        self._update.close()
        state, entry = read_state(document.get("executionState")), self.entry
        if entry is None or self._version is None:
            return
        self._version = state.version if state else self._version + 1
        self._plain = False
        if entry.step is self._telling is Step.CLAIMING:
            self._claimed()
        elif entry.step is self._telling is Step.ENDED:
            self._over(now_s)
        self._update_soon(now_s)

    def _not_updated(self, document: Json, now_s: float) -> None:
        code, state = document.get("code"), read_state(document.get("executionState"))
        entry = self.entry
        self._update.close(refused=True)
        if entry is None:
            return
        if code in _OVER or (state is not None and state.status.is_terminal):
            if state is None or state.status is not entry.status:
                _log.warning("job %s: the cloud says: %s", entry.job_id, words(document))
            self._over(now_s)
        elif code == "VersionMismatch" and state is not None:
            self._version = state.version
            if entry.step is Step.CLAIMING and state.status is JobStatus.IN_PROGRESS:
                self._claimed()  # the answer to the claim was lost
            self._untold = True
            self._update_soon(now_s)
        elif code in _MALFORMED and not self._plain:
            _log.error("job %s: what was told is refused: %s", entry.job_id, words(document))
            self._plain = self._untold = True
            self._update_soon(now_s)
        elif code in _MALFORMED:
            self._over(now_s)  # it cannot be told, and must not be in the way of others
        else:
            self._complain(f"the jobs service cannot take it now: {words(document)}")

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            _log.warning("%s", what)
        self._complaint = what


def _because(reason: str) -> dict[str, str]:
    return {"reason": reason}
