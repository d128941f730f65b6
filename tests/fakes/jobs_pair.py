"""A vehicle's conversation about jobs and the one-machine cloud's store, without a network."""

import itertools
import json
from collections import deque

from agent.jobs.at_hand import JobAtHand
from agent.jobs.conversation import Conversation
from agent.jobs.journal import Journal
from agent.jobs.operation import JobRefusedError, failure, success
from agent.jobs.table import Table
from cloud.errors import JobsError
from cloud.jobs.answers import error_document
from cloud.jobs.ports import NewJob
from cloud.serve.jobs_service import JobsService
from cloud.stores.announcements import Announcement, take_announcements
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_job_executions import SqliteJobExecutions
from cloud.stores.sqlite_jobs import SqliteJobs
from contract.jobs import JobDocument, JobTopics
from tests.fakes.clock import FakeClock

VAN = JobTopics("van-1")


class Named:
    """An operation that is only looked at; the test plays its part."""

    def check(self, parameters):
        if "refuse" in parameters:
            raise JobRefusedError(parameters["refuse"])
        if "burst" in parameters:
            raise KeyError("burst")


class JobsPair:
    """Time goes by only in ``run``; everything said is in ``said``."""

    def __init__(self, folder, allowed=("restart", "update")):
        self.folder, self.allowed = folder, allowed
        self.now_s = 1000.0
        self.clock = FakeClock()
        (folder / "cloud").mkdir(exist_ok=True)
        self.database = Database(folder / "cloud" / "milepost.db", MIGRATIONS, create=True)
        self.cloud = SqliteJobs(self.database, self.clock)
        self.service = JobsService(SqliteJobExecutions(self.database, self.clock), self.clock)
        self.said, self.begun, self.resumed, self.ended = [], [], [], []
        self.restarts = 0
        self.broken = None
        """An error document in place of the service's answer."""
        self.lossy = False
        self.deaf = False
        self._tokens = (f"token-{n}" for n in itertools.count())
        self._underway = deque()
        self.restart()

    # --- the vehicle ---------------------------------------------------------------

    def restart(self):
        """The agent's process ends and another begins on the same state directory."""
        self.online = False
        self._underway.clear()
        self.journal = Journal(self.folder)
        operations = {name: Named() for name in ("restart", "update", "rotate")}
        table = Table(operations, self.allowed)
        self.job = JobAtHand(journal=self.journal, table=table, hand=self)
        self.talk = Conversation(
            topics=VAN,
            job=self.job,
            send=self._send,
            restart=self._count_restart,
            new_token=lambda: next(self._tokens),
            now_s=self.now_s,
        )
        self.job.begin()

    def connect(self):
        self.online = True
        take_announcements(self.database)
        self.talk.connected(self.now_s)
        self.run()

    def disconnect(self):
        self.online = False
        self._underway.clear()
        self.talk.disconnected()

    def begin(self, entry, operation):
        """See ``Hand``."""
        (self.resumed if entry.resumes else self.begun).append(entry)
        self._at_work = entry

    def end(self, ending):
        """See ``Hand``."""
        self.ended.append(ending)

    def finish(self, result=None):
        """The operation at work returns."""
        self.talk.returned(self._at_work, result or success(), self.now_s)
        self.run()

    def fail(self, reason):
        self.finish(failure(reason))

    def _count_restart(self):
        self.restarts += 1

    # --- the operator --------------------------------------------------------------

    def create(self, job_id, operation="restart", parameters=None):
        self.cloud.create(NewJob(JobDocument(operation, parameters or {}), ["van-1"], job_id))
        self.announce()

    def cancel(self, job_id, *, force=True):
        self.cloud.cancel(job_id, force=force)
        self.announce()

    def announce(self, more=()):
        for one in [*take_announcements(self.database), *more]:
            if self.online and one.topic == VAN.notify_next:
                self._underway.append(one)

    def status(self, job_id):
        (execution,) = self.cloud.describe(job_id).executions
        return execution.status.value

    def details(self, job_id):
        (execution,) = self.cloud.describe(job_id).executions
        return dict(execution.details)

    # --- between them --------------------------------------------------------------

    def hear(self, topic, document):
        """A message that the service never sent."""
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.talk.received(topic, payload, self.now_s)
        self.run()

    def said_on(self, topic):
        return [document for where, document in self.said if where == topic]

    def run(self, duration_s=3.0):
        """Let everything be said and heard, and so much time go by."""
        end_s = self.now_s + duration_s
        while True:
            while self._underway:
                one = self._underway.popleft()
                self.talk.received(one.topic, one.payload, self.now_s)
            wait_s = self.talk.step(self.now_s) if self.online else None
            if self._underway:
                continue
            if wait_s is None or self.now_s + wait_s > end_s:
                break
            self._pass(max(wait_s, 0.001))
        self._pass(max(0.0, end_s - self.now_s))

    def _pass(self, duration_s):
        self.now_s += duration_s
        self.clock.advance(duration_s)

    def _send(self, topic, payload):
        if not self.online:
            return False
        self.said.append((topic, json.loads(payload)))
        if self.deaf:
            return True
        if self.broken is not None:
            token = json.loads(payload)["clientToken"]
            document = {**self.broken, "clientToken": token}
            self._answer(f"{topic}/rejected", json.dumps(document).encode())
            return True
        answers = self.service.answer("van-1", topic, payload)
        if self.lossy:
            return True
        self._underway.extend(one for one in answers if one.topic != VAN.notify)
        return True

    def _answer(self, topic, payload):
        self._underway.append(Announcement(topic, payload))


def rejection(code):
    """What the service sends for an error."""
    return error_document(JobsError(code, "no"), 0)
