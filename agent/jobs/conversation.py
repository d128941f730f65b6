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
from collections.abc import Callable
from typing import Any, Final

from agent.jobs.answers import read_execution, read_state, words
from agent.jobs.at_hand import JobAtHand
from agent.jobs.journal import Entry, Step
from agent.jobs.operation import Outcome, Unfinished
from agent.jobs.request import Request, Send
from agent.publisher.bucket import TokenBucket
from contract.jobs import NEXT, JobStatus, JobTopics

GATHER_S: Final = 0.5
"""A change is told in two messages; one question is enough."""

TELL_EVERY_S: Final = 10.0
QUESTIONS: Final = (10.0, 0.5)
"""Questions and reports together: in a burst, and each second."""

_OVER: Final = frozenset({"ResourceNotFound", "TerminalStateReached", "InvalidStateTransition"})
"""Codes by which the service says that a job is no longer to be done."""

_MALFORMED: Final = frozenset({"InvalidRequest", "InvalidJson", "InvalidTopic"})

_log = logging.getLogger("agent.jobs")

Json = dict[str, Any]


class Conversation:
    """All methods are called by one thread; ``now_s`` is monotonic."""

    def __init__(
        self,
        *,
        topics: JobTopics,
        job: JobAtHand,
        send: Send,
        restart: Callable[[], None],
        new_token: Callable[[], str],
        now_s: float,
    ) -> None:
        self._topics = topics
        self._job = job
        self._restart = restart
        bucket = TokenBucket(rate=QUESTIONS[1], burst=QUESTIONS[0], now_s=now_s)
        self._get = Request(send=send, bucket=bucket, new_token=new_token)
        self._update = Request(send=send, bucket=bucket, new_token=new_token)
        self._complaint = ""
        self._told_s: float | None = None
        self._untold = False
        self.disconnected()

    # --- what happens ----------------------------------------------------------------

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
        self._job.told(details)
        self._untold = True
        self._update_soon(now_s)

    def returned(self, entry: Entry, result: Outcome | Unfinished, now_s: float) -> None:
        """The operation has."""
        self._job.returned(entry, result)
        if self._job.is_unwanted:
            self._over(now_s)
        else:
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
        return self._topics.get_job(self._job.entry.job_id if self._job.entry else NEXT)

    def _ask(self, now_s: float) -> None:
        if self._get.is_open:
            self._complain("the jobs service does not answer (docs/jobs.md: does the broker?)")
        self._ask_again = False
        request: Json = {"includeJobDocument": False} if self._job.entry else {}
        self._get.say(self._question(), request, now_s)

    def _notified(self, document: Json, now_s: float) -> None:
        """Another job is next than before."""
        execution = document.get("execution")
        job_id = execution.get("jobId") if isinstance(execution, dict) else None
        if self._job.entry is None:
            wants = job_id is not None
        else:  # is the one at work cancelled? The end of any other is told by its answer
            wants = job_id != self._job.entry.job_id and self._job.entry.step is Step.RUNNING
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
        if is_stale or (self._job.entry is None and not execution):
            return
        seen = read_execution(execution)
        if seen is None:
            self._complain("the jobs service's answer is no job execution")
            return
        status, self._version = seen.state
        entry = self._job.entry
        if entry is None:
            self._job.take(seen)
        elif status.is_terminal or not seen.is_of(entry.job_id, entry.execution_number):
            self._over(now_s)
        elif entry.step is Step.CLAIMING and status is JobStatus.IN_PROGRESS:
            self._job.claimed()  # by an earlier process, or an answer was lost
        self._update_soon(now_s)

    def _not_got(self, document: Json, now_s: float) -> None:
        is_stale = self._get.topic != self._question()
        if is_stale:
            self._get.close()
            self._get.due_s = now_s
        elif self._job.entry is not None and document.get("code") in _OVER:
            self._get.close()
            self._over(now_s)
        else:
            self._get.close(refused=True)
            self._complain(f"the jobs service refuses to tell: {words(document)}")

    def _over(self, now_s: float) -> None:
        """The cloud is done with the job at hand, whatever became of it here."""
        if self._job.entry is None or not self._job.drop():
            return
        self._version, self._plain, self._untold = None, False, False
        self._update.close()
        if not self._get.is_open:
            self._get.due_s = now_s

    # --- telling ---------------------------------------------------------------------

    def _update_soon(self, now_s: float) -> None:
        """Tell what there is to tell, as soon as may be."""
        if (
            self._job.entry is None
            or self._version is None
            or self._update.is_open
            or self._job.is_unwanted
        ):
            return
        if self._job.entry.step is not Step.RUNNING:
            self._update.due_s = now_s
        elif self._untold:
            soonest_s = now_s if self._told_s is None else self._told_s + TELL_EVERY_S
            self._update.due_s = max(now_s, soonest_s)

    def _tell(self, now_s: float) -> None:
        entry = self._job.entry
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
        details = entry.details if entry.step is Step.ENDED else self._job.progress
        if details and not self._plain:
            request["statusDetails"] = dict(details)
        if self._update.say(self._topics.update(entry.job_id), request, now_s):
            self._telling = entry.step
            if entry.step is Step.RUNNING:
                self._told_s, self._untold = now_s, False

    def _updated(self, document: Json, now_s: float) -> None:
        self._update.close()
        state, entry = read_state(document.get("executionState")), self._job.entry
        if entry is None or self._version is None:
            return
        self._version = state.version if state else self._version + 1
        self._plain = False
        if entry.step is self._telling is Step.CLAIMING:
            self._job.claimed()
        elif entry.step is self._telling is Step.ENDED:
            self._over(now_s)
        self._update_soon(now_s)

    def _not_updated(self, document: Json, now_s: float) -> None:
        code, state = document.get("code"), read_state(document.get("executionState"))
        entry = self._job.entry
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
                self._job.claimed()  # the answer to the claim was lost
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
