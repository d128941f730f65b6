"""The vehicle's side of jobs against the one-machine cloud's store, without a network."""

import random

import pytest

from agent.jobs.journal import Step
from agent.jobs.operation import Ending, Unfinished, success
from agent.jobs.worker import MOST_RESUMES
from contract.jobs import NEXT
from tests.fakes.jobs_pair import VAN, JobsPair, rejection


@pytest.fixture
def pair(tmp_path):
    pair = JobsPair(tmp_path)
    yield pair
    pair.database.close()


def test_a_job_that_waits_is_taken_at_the_connection_carried_out_and_told(pair):
    pair.create("job-1")
    pair.connect()
    assert pair.status("job-1") == "IN_PROGRESS"
    assert [one.job_id for one in pair.begun] == ["job-1"]
    pair.finish(success(run="b"))
    assert (pair.status("job-1"), pair.details("job-1")) == ("SUCCEEDED", {"run": "b"})
    assert pair.journal.load() is None
    assert pair.journal.last()["job_id"] == "job-1"


def test_without_a_job_one_question_is_asked_and_no_more(pair):
    pair.connect()
    pair.run(100_000)
    assert [topic for topic, _ in pair.said] == [VAN.get_job(NEXT)]


def test_a_job_that_comes_while_connected_is_taken(pair):
    pair.connect()
    pair.create("job-1")
    pair.run()
    assert [one.job_id for one in pair.begun] == ["job-1"]


def test_a_job_is_in_the_journal_before_the_cloud_hears_and_before_it_begins(pair):
    seen = []
    send, begin = pair.talk._update._send, pair.begin

    def noted_send(topic, payload):
        seen.append(("told", pair.journal.load().step))
        return send(topic, payload)

    def noted_begin(entry, operation):
        seen.append(("begun", pair.journal.load().step))
        begin(entry, operation)

    pair.talk._update._send, pair.begin = noted_send, noted_begin
    pair.create("job-1")
    pair.connect()
    pair.finish()
    assert seen == [("told", Step.CLAIMING), ("begun", Step.RUNNING), ("told", Step.ENDED)]


def test_jobs_are_done_one_at_a_time_in_their_order(pair):
    for n in range(4):
        pair.create(f"job-{n}")
    pair.connect()
    for n in range(4):
        assert [one.job_id for one in pair.begun] == [f"job-{i}" for i in range(n + 1)]
        pair.finish()
        pair.run(60)
    assert {pair.status(f"job-{n}") for n in range(4)} == {"SUCCEEDED"}


def test_a_notification_told_twice_or_for_nothing_begins_nothing_twice(pair):
    pair.connect()
    pair.create("job-1")
    for _ in range(3):
        pair.hear(VAN.notify_next, {"execution": {"jobId": "job-1"}})
    pair.run(60)
    assert len(pair.begun) == 1
    pair.finish()
    pair.hear(VAN.notify_next, {"execution": {"jobId": "job-1"}})
    pair.run(60)
    assert len(pair.begun) == 1


def test_a_job_cancelled_before_the_vehicle_came_is_not_begun(pair):
    pair.create("job-1")
    pair.cancel("job-1")
    pair.connect()
    assert pair.begun == []


def test_a_job_cancelled_between_question_and_claim_is_not_begun(pair):
    pair.create("job-1")
    pair.online = True
    pair.talk.connected(pair.now_s)
    pair.talk.step(pair.now_s)
    while pair._underway:
        one = pair._underway.popleft()
        pair.talk.received(one.topic, one.payload, pair.now_s)
    pair.cloud.cancel("job-1")
    pair.run()
    assert pair.begun == []
    assert pair.job.entry is None
    assert pair.journal.load() is None


def test_a_job_cancelled_at_work_is_asked_to_end_and_told_no_more(pair):
    pair.connect()
    pair.create("job-1")
    pair.run()
    pair.cancel("job-1")
    pair.run()
    assert pair.ended == [Ending.CANCELED]
    said = len(pair.said)
    pair.talk.told({"step": "late"}, pair.now_s)
    pair.run(60)
    assert len(pair.said) == said
    pair.create("job-2")
    pair.run(60)
    assert len(pair.begun) == 1, "one at a time"
    pair.finish()
    pair.run(60)
    assert pair.status("job-1") == "CANCELED"
    assert [one.job_id for one in pair.begun] == ["job-1", "job-2"]


def test_a_job_that_timed_out_while_offline_is_ended_and_the_next_is_taken(pair):
    pair.connect()
    pair.create("job-1")
    pair.run()
    pair.disconnect()
    pair.cancel("job-1")
    pair.create("job-2")
    pair.finish()
    pair.connect()
    pair.run(60)
    assert pair.status("job-1") == "CANCELED"
    assert [one.job_id for one in pair.begun] == ["job-1", "job-2"]


def test_progress_is_told_not_more_often_than_every_ten_seconds_the_latest_counting(pair):
    pair.connect()
    pair.create("job-1", "update")
    pair.run()
    for n in range(50):
        pair.talk.told({"percent": str(n)}, pair.now_s)
        pair.run(1.0)
    told = [one for one in pair.said_on(VAN.update("job-1")) if "statusDetails" in one]
    assert 4 <= len(told) <= 6
    pair.run(20)
    assert pair.details("job-1") == {"percent": "49"}


def test_an_end_that_comes_while_progress_is_underway_is_told_after_it(pair):
    pair.connect()
    pair.create("job-1")
    pair.run()
    pair.talk.told({"percent": "99"}, pair.now_s)
    pair.talk.step(pair.now_s)
    pair.finish(success(took_s="3"))
    assert (pair.status("job-1"), pair.details("job-1")) == ("SUCCEEDED", {"took_s": "3"})


@pytest.mark.parametrize(
    ("operation", "parameters", "reason"),
    [
        ("make-tea", {}, "knows restart, update"),
        ("rotate", {}, "allow"),
        ("update", {"refuse": "no such release"}, "no such release"),
        ("update", {"burst": 1}, "parameters"),
    ],
)
def test_what_the_vehicle_will_not_do_is_rejected_with_the_reason(
    pair, operation, parameters, reason
):
    pair.create("job-1", operation, parameters)
    pair.connect()
    assert pair.begun == []
    assert pair.status("job-1") == "REJECTED"
    assert reason in pair.details("job-1")["reason"]
    assert pair.journal.load() is None


@pytest.mark.parametrize(
    "document",
    [None, 5, [], "", "{", {}, {"schema_version": 9, "operation": "restart"}, "[" * 50_000],
    ids=lambda one: str(one)[:30],
)
def test_a_hostile_document_is_rejected_with_the_reason(pair, document):
    pair.connect()
    pair.create("job-1")
    question = VAN.get_job(NEXT)
    pair.deaf = True
    pair.run()
    pair.deaf = False
    token = pair.said_on(question)[-1]["clientToken"]
    execution = {
        "jobId": "job-1",
        "executionNumber": 1,
        "versionNumber": 1,
        "status": "QUEUED",
        "jobDocument": document,
    }
    pair.hear(f"{question}/accepted", {"clientToken": token, "execution": execution})
    assert pair.status("job-1") == "REJECTED"
    assert pair.details("job-1")["reason"].startswith("the job document: ")


@pytest.mark.parametrize(
    "execution",
    [
        5,
        {"jobId": "a/b", "executionNumber": 1, "versionNumber": 1, "status": "QUEUED"},
        {"jobId": "../../etc", "executionNumber": 1, "versionNumber": 1, "status": "QUEUED"},
        {"jobId": "job-1", "executionNumber": "1", "versionNumber": 1, "status": "QUEUED"},
        {"jobId": "job-1", "executionNumber": 1, "versionNumber": None, "status": "QUEUED"},
        {"jobId": "job-1", "executionNumber": 1, "versionNumber": 1, "status": "DONE"},
        {"jobId": "job-1", "executionNumber": 1, "versionNumber": 1},
    ],
    ids=str,
)
def test_an_answer_that_is_no_execution_begins_nothing(pair, execution):
    pair.deaf = True
    pair.connect()
    question = VAN.get_job(NEXT)
    token = pair.said_on(question)[-1]["clientToken"]
    pair.hear(f"{question}/accepted", {"clientToken": token, "execution": execution})
    assert pair.job.entry is None
    assert pair.journal.load() is None


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"clientToken": []}'], ids=range(5)
)
def test_any_other_message_is_ignored(pair, payload):
    pair.connect()
    for topic in (VAN.notify_next, f"{VAN.get_job(NEXT)}/accepted", "elsewhere"):
        pair.hear(topic, payload)
    assert pair.job.entry is None


def test_what_is_begun_and_has_no_journal_fails_cleanly_and_is_not_begun_again(pair):
    pair.create("job-1")
    pair.connect()
    (pair.folder / "jobs" / "current.json").write_bytes(b"damaged")
    pair.restart()
    pair.connect()
    assert len(pair.begun) == 1
    assert pair.status("job-1") == "FAILED"
    assert "no record" in pair.details("job-1")["reason"]


def test_a_later_process_resumes_what_was_begun_before_it_is_connected(pair):
    pair.create("job-1")
    pair.connect()
    pair.restart()
    assert [one.resumes for one in pair.resumed] == [1]
    pair.finish(success(resumed="yes"))
    pair.connect()
    assert pair.details("job-1") == {"resumed": "yes"}


def test_an_operation_that_always_takes_the_agent_with_it_is_given_up(pair):
    pair.create("job-1")
    pair.connect()
    for _ in range(MOST_RESUMES + 1):
        pair.restart()
    assert len(pair.resumed) == MOST_RESUMES
    pair.connect()
    assert pair.status("job-1") == "FAILED"
    assert "started" in pair.details("job-1")["reason"]


def test_a_restart_is_asked_for_once_and_the_next_process_tells_of_it(pair):
    pair.create("job-1")
    pair.connect()
    pair.finish(Unfinished.RESTART)
    assert pair.restarts == 1
    assert pair.status("job-1") == "IN_PROGRESS"
    pair.restart()
    pair.finish(success())
    pair.connect()
    assert (pair.restarts, pair.status("job-1")) == (1, "SUCCEEDED")


def test_an_end_that_could_not_be_told_is_told_by_a_later_process(pair):
    pair.create("job-1")
    pair.connect()
    pair.disconnect()
    pair.fail("no room")
    pair.restart()
    assert pair.resumed == []
    pair.connect()
    assert (pair.status("job-1"), pair.details("job-1")) == ("FAILED", {"reason": "no room"})


@pytest.mark.parametrize("at", ["claim", "end"])
def test_a_lost_answer_leads_to_the_same(pair, at):
    pair.create("job-1")
    if at == "end":
        pair.connect()
    pair.lossy = True
    if at == "end":
        pair.finish()
    else:
        pair.lossy = False
        lose_answers_to(pair, VAN.update("job-1"))
        pair.connect()
        assert pair.begun == []
    pair.run(5)
    pair.lossy = False
    pair._send = pair.talk._get._send = pair.talk._update._send = JobsPair._send.__get__(pair)
    pair.run(120)
    assert len(pair.begun) == 1
    if at == "claim":
        pair.finish()
    assert pair.status("job-1") == "SUCCEEDED"
    assert pair.journal.load() is None


def lose_answers_to(pair, topic):
    send = pair.talk._update._send

    def lossy(where, payload):
        pair.lossy = where == topic
        return send(where, payload)

    pair.talk._update._send = lossy


@pytest.mark.parametrize("code", ["InternalError", "RequestThrottled", "Unheard", None])
def test_a_service_that_cannot_answer_now_is_asked_ever_more_rarely(pair, code):
    pair.create("job-1")
    pair.broken = rejection(code)
    pair.connect()
    pair.run(24 * 3_600)
    assert len(pair.said) <= 40
    pair.broken = None
    pair.run(3_600)
    assert len(pair.begun) == 1


def test_a_silent_service_is_asked_ever_more_rarely(pair):
    pair.deaf = True
    pair.connect()
    pair.run(24 * 3_600)
    assert len(pair.said) <= 40
    pair.deaf = False
    pair.create("job-1")
    pair.run(3_700)
    assert len(pair.begun) == 1


@pytest.mark.parametrize("code", ["InvalidRequest", "InvalidJson"])
def test_an_end_that_the_service_cannot_read_is_told_plainly_and_then_left(pair, code):
    pair.create("job-1")
    pair.connect()
    pair.broken = rejection(code)
    pair.finish(success(a="b"))
    pair.run(60)
    ends = [one for one in pair.said_on(VAN.update("job-1")) if one["status"] == "SUCCEEDED"]
    assert ["statusDetails" in one for one in ends] == [True, False]
    assert pair.job.entry is None


def test_a_job_deleted_in_the_cloud_is_forgotten(pair):
    pair.create("job-1")
    pair.connect()
    pair.disconnect()
    pair.finish()
    pair.broken = rejection("ResourceNotFound")
    pair.connect()
    assert pair.job.entry is None
    pair.broken = None
    pair.run(120)
    assert pair.journal.load() is None


def test_a_state_directory_that_cannot_be_written_fails_the_job_before_it_begins(pair):
    (pair.folder / "jobs").write_text("in the way")
    pair.create("job-1")
    pair.connect()
    assert pair.begun == []
    assert pair.status("job-1") == "FAILED"
    assert "journal" in pair.details("job-1")["reason"]


def test_a_clock_that_steps_changes_nothing(pair):
    pair.create("job-1")
    pair.connect()
    pair.clock.step_utc(-10 * 365 * 86_400)
    pair.finish()
    assert pair.status("job-1") == "SUCCEEDED"


class Mishaps:
    """Connections, processes, answers and the operator's mind change at random moments."""

    def __init__(self, pair, seed):
        self.pair, self.chance, self.made = pair, random.Random(seed), 0

    def act(self):
        getattr(self, self.chance.choice(["create", "cancel", "connect", "cut", "end", "work"]))()

    def create(self):
        if self.made < 12:
            self.pair.create(f"job-{self.made}")
            self.made += 1

    def cancel(self):
        if self.made:
            job_id = f"job-{self.chance.randrange(self.made)}"
            if self.pair.cloud.describe(job_id).state.value == "IN_PROGRESS":
                self.pair.cancel(job_id, force=self.chance.random() < 0.5)

    def connect(self):
        self.pair.lossy = self.chance.random() < 0.2
        self.pair.disconnect()
        self.pair.connect()

    def cut(self):
        self.pair.disconnect()

    def end(self):
        self.pair.restart()

    def work(self):
        self.pair.lossy = self.chance.random() < 0.2
        if self.pair.job.is_at_work:
            self.pair.finish(success(n="1"))
        self.pair.run(self.chance.choice([1, 40, 400]))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_fails_when_each_job_is_begun_once_and_ends(tmp_path, seed):
    pair = JobsPair(tmp_path)
    mishaps = Mishaps(pair, seed)
    for _ in range(150):
        mishaps.act()
    pair.lossy = False
    for _ in range(40):
        pair.disconnect()
        pair.connect()
        pair.run(120)
        if pair.job.is_at_work:
            pair.finish(success(n="1"))
    for n in range(mishaps.made):
        job_id = f"job-{n}"
        status = pair.status(job_id)
        starts = sum(one.job_id == job_id for one in pair.begun)
        assert status in {"SUCCEEDED", "CANCELED", "FAILED"}
        assert starts <= 1
        if status != "CANCELED":
            assert starts == 1
        if status == "FAILED":
            assert "started" in pair.details(job_id)["reason"]
    assert pair.journal.load() is None
    pair.database.close()
