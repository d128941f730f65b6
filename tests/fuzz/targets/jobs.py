"""Whatever comes on the jobs' topics, at most one operation is at work and only what was claimed.

An input is one message a line; its first byte chooses the topic, or that the operation returns.
``apply-config`` judges its parameters for real. What is told of a job always fits the service,
and the journal holds what the next process needs.
"""

import itertools
import json
import logging
import tempfile
from pathlib import Path

from agent.jobs.apply_config import ApplyConfigOperation
from agent.jobs.at_hand import JobAtHand
from agent.jobs.conversation import Conversation
from agent.jobs.journal import Journal, Step
from agent.jobs.operation import success
from agent.jobs.restart import RestartOperation
from agent.jobs.table import Table
from agent.layer import ConfigLayer
from cloud.jobs.requests import parse_request
from contract.jobs import NEXT, JobTopics

TOPICS = JobTopics("van-1")
HEARD = [
    TOPICS.notify_next,
    f"{TOPICS.get_job(NEXT)}/accepted",
    f"{TOPICS.get_job('job-1')}/accepted",
    f"{TOPICS.get_job('job-1')}/rejected",
    f"{TOPICS.update('job-1')}/accepted",
    f"{TOPICS.update('job-1')}/rejected",
    "",
]
"""The last one stands for the operation's return."""

FOLDER = tempfile.TemporaryDirectory(prefix="milepost-fuzz-")
HERE = Path(FOLDER.name)
(HERE / "agent.toml").write_text(
    '[vehicle]\nid = "van-1"\n[state]\ndir = "."\n'
    '[broker]\nhost = "h"\nca_file = "a"\ncertificate_file = "b"\nkey_file = "c"\n'
)
LAYER = ConfigLayer(HERE / "agent.toml")
LOG = logging.getLogger("agent.jobs")


def message(topic: int, document: object) -> bytes:
    return bytes([ord("0") + topic]) + json.dumps(document).encode()


def execution(operation: str, **parameters: object) -> dict[str, object]:
    return {
        "clientToken": "t0",
        "execution": {
            "jobId": "job-1",
            "executionNumber": 1,
            "versionNumber": 1,
            "status": "QUEUED",
            "jobDocument": {
                "schema_version": 1,
                "operation": operation,
                "parameters": parameters,
            },
        },
    }


STATE = {"status": "IN_PROGRESS", "versionNumber": 2}
CLAIMED = message(4, {"clientToken": "t1", "executionState": STATE})
SETTINGS = {"sampling": {"normal": {"interval_s": 5}}, "broker": {"host": "b"}, "can": None}
SEEDS = [
    message(1, execution("restart")) + b"\n" + CLAIMED + b"\n6\n" + message(4, {}),
    message(1, execution("apply-config", settings=SETTINGS)) + b"\n" + CLAIMED,
    message(1, execution("make-tea")),
    message(1, execution("restart"))
    + b"\n"
    + message(5, {"clientToken": "t1", "code": "VersionMismatch", "executionState": STATE}),
    message(1, execution("restart"))
    + b"\n"
    + CLAIMED
    + b"\n"
    + message(0, {"execution": {"jobId": "job-2"}})
    + b"\n"
    + message(3, {"clientToken": "t2", "code": "TerminalStateReached"}),
    message(1, {"clientToken": "t0"}),
]
TOKENS = [
    *(b'"clientToken": "t0"', b'"clientToken": "t1"', b'"status":', b'"versionNumber":'),
    *(b'"jobDocument":', b'"operation":', b'"parameters":', b'"settings":', b"null", b"1e999"),
]


class Hand:
    """Carries nothing out; counts what is at work."""

    def __init__(self) -> None:
        self.entry = None

    def begin(self, entry: object, _operation: object) -> None:
        assert self.entry is None, "two at once"
        self.entry = entry

    def end(self, _ending: object) -> None:
        """The fuzzer says when it returns."""


def take(data: bytes) -> None:
    LOG.disabled = True
    try:
        judge(data)
    finally:
        LOG.disabled = False


def judge(data: bytes) -> None:
    journal = Journal(HERE)
    (HERE / "jobs" / "current.json").unlink(missing_ok=True)
    hand, sent = Hand(), []
    tokens = (f"t{number}" for number in itertools.count())
    operations = {
        "restart": RestartOperation("run"),
        "apply-config": ApplyConfigOperation(
            LAYER,
            check=lambda _: None,
            has_reached_broker=lambda: True,
            monotonic_s=lambda: 0.0,
        ),
    }

    def send(topic: str, payload: bytes) -> bool:
        sent.append((topic, payload))
        return True

    job = JobAtHand(journal=journal, table=Table(operations, operations), hand=hand)
    talk = Conversation(
        topics=TOPICS,
        job=job,
        send=send,
        restart=lambda: None,
        new_token=lambda: next(tokens),
        now_s=0.0,
    )
    job.begin()
    talk.connected(0.0)
    talk.step(0.0)
    for number, line in enumerate(data.split(b"\n")[:20], 1):
        topic = HEARD[line[0] % len(HEARD)] if line else ""
        if topic:
            talk.received(topic, line[1:], 60.0 * number)
        elif hand.entry is not None:
            entry, hand.entry = hand.entry, None
            talk.returned(entry, success(), 60.0 * number)
        talk.step(60.0 * number)
        kept = journal.load()
        if hand.entry is not None:
            assert kept is not None
            assert kept.step is Step.RUNNING, "at work, and the journal does not say so"
        assert (kept is None) == (job.entry is None)
    for topic, payload in sent:
        parse_request(payload, is_update=topic.endswith("/update"))
    assert len(sent) <= 60
