"""Jobs of the one-machine cloud: the operator's port, and what vehicles are answered."""

import json

import pytest

from cloud.errors import JobsError
from cloud.jobs.ports import JobState, NewJob
from cloud.stores.announcements import take_announcements
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_job_executions import SqliteJobExecutions
from cloud.stores.sqlite_jobs import SqliteJobs
from contract.jobs import JobDocument, JobStatus, JobTopics
from tests.fakes.clock import FakeClock

VAN = JobTopics("van-1")


class Scene:
    """A store, a clock, and what vehicles have been told."""

    def __init__(self, folder):
        self.folder, self.clock = folder, FakeClock()
        self.open()

    def open(self):
        self.database = Database(self.folder / "milepost.db", MIGRATIONS, create=True)
        self.jobs = SqliteJobs(self.database, self.clock)
        self.executions = SqliteJobExecutions(self.database, self.clock)

    def create(self, job_id, *vehicles, operation="restart", **more):
        document = JobDocument(operation, more.pop("parameters", {}))
        self.jobs.create(NewJob(document, vehicles or ["van-1"], job_id, **more))

    def told(self):
        """By operators' changes."""
        return [(one.topic, json.loads(one.payload)) for one in take_announcements(self.database)]

    def ask(self, topic, vehicle="van-1", **document):
        request = JobTopics(vehicle).parse(topic)
        answer, *more = self.executions.answer(vehicle, request, json.dumps(document).encode())
        assert answer.topic == f"{topic}/accepted"
        self.also = [(one.topic, json.loads(one.payload)) for one in more]
        return json.loads(answer.payload)

    def refused(self, topic, **document):
        with pytest.raises(JobsError) as refused:
            self.ask(topic, **document)
        return refused.value

    def execution(self, job_id):
        (one,) = self.jobs.describe(job_id).executions
        return one


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    scene.database.close()


def test_a_new_job_is_announced_and_described(scene):
    scene.create("job-1", parameters={"a": [1, None]}, description="why not")
    (notify, jobs), (notify_next, next_) = scene.told()
    assert (notify, notify_next) == (VAN.notify, VAN.notify_next)
    assert [one["jobId"] for one in jobs["jobs"]["QUEUED"]] == ["job-1"]
    assert next_["execution"]["jobDocument"] == {
        "schema_version": 1,
        "operation": "restart",
        "parameters": {"a": [1, None]},
    }
    report = scene.jobs.describe("job-1")
    assert (report.operation, report.description, report.state) == (
        "restart",
        "why not",
        JobState.IN_PROGRESS,
    )
    assert [one.status for one in report.executions] == [JobStatus.QUEUED]
    assert not scene.told()


def test_a_second_job_changes_the_list_but_not_what_is_next(scene):
    scene.create("job-1")
    scene.told()
    scene.create("job-2")
    assert [topic for topic, _ in scene.told()] == [VAN.notify]


def test_the_whole_way_of_a_job_by_its_topics(scene):
    scene.create("job-1")
    assert scene.ask(VAN.get)["queuedJobs"][0]["versionNumber"] == 1
    asked = scene.ask(VAN.get_job("$next"), clientToken="t")
    assert (asked["clientToken"], asked["execution"]["status"]) == ("t", "QUEUED")
    accepted = scene.ask(
        VAN.update("job-1"),
        status="IN_PROGRESS",
        expectedVersion=1,
        statusDetails={"step": "a"},
        includeJobExecutionState=True,
        includeJobDocument=True,
    )
    assert accepted["executionState"] == {
        "status": "IN_PROGRESS",
        "statusDetails": {"step": "a"},
        "versionNumber": 2,
    }
    assert accepted["jobDocument"]["operation"] == "restart"
    assert [topic for topic, _ in scene.also] == [VAN.notify]
    scene.ask(VAN.update("job-1"), status="IN_PROGRESS", statusDetails={"step": "b"})
    assert scene.also == []
    scene.clock.advance(5)
    scene.ask(VAN.update("job-1"), status="SUCCEEDED", executionNumber=1)
    (_, jobs), (topic, nothing) = scene.also
    assert (jobs["jobs"], topic, nothing.get("execution")) == ({}, VAN.notify_next, None)
    one = scene.execution("job-1")
    assert (one.status, one.details) == (JobStatus.SUCCEEDED, {"step": "b"})
    assert (one.updated_at - one.started_at).total_seconds() == 5
    assert scene.jobs.describe("job-1").state is JobState.COMPLETED
    assert "execution" not in scene.ask(VAN.get_job("$next"))


def test_start_next_begins_the_oldest_and_comes_back_to_the_one_begun(scene):
    scene.create("job-1")
    scene.create("job-2")
    begun = scene.ask(VAN.start_next, statusDetails={"a": "1"}, stepTimeoutInMinutes=3)
    assert begun["execution"]["jobId"] == "job-1"
    assert begun["execution"]["status"] == "IN_PROGRESS"
    assert begun["execution"]["approximateSecondsBeforeTimedOut"] == 180
    again = scene.ask(VAN.start_next, statusDetails={"a": "2"})
    assert again["execution"]["statusDetails"] == {"a": "1"}
    assert again["execution"]["versionNumber"] == 2
    assert scene.also == []


def test_two_jobs_in_turn_and_the_next_is_announced(scene):
    scene.create("job-1")
    scene.create("job-2")
    scene.ask(VAN.start_next)
    scene.ask(VAN.update("job-1"), status="FAILED")
    topic, document = scene.also[-1]
    assert (topic, document["execution"]["jobId"]) == (VAN.notify_next, "job-2")


def test_refusals_have_the_codes_of_aws_and_change_nothing(scene):
    scene.create("job-1")
    scene.ask(VAN.start_next)
    wrong = scene.refused(VAN.update("job-1"), status="SUCCEEDED", expectedVersion=1)
    assert (wrong.code, wrong.state.version) == ("VersionMismatch", 2)
    assert scene.refused(VAN.update("job-9"), status="FAILED").code == "ResourceNotFound"
    assert scene.refused(VAN.get_job("job-9")).code == "ResourceNotFound"
    other = scene.refused(VAN.update("job-1"), status="FAILED", executionNumber=2)
    assert other.code == "ResourceNotFound"
    assert scene.refused(VAN.update("job-1"), status="DONE").code == "InvalidRequest"
    assert scene.execution("job-1").version == 2
    scene.ask(VAN.update("job-1"), status="SUCCEEDED")
    late = scene.refused(VAN.update("job-1"), status="FAILED", clientToken="t")
    assert (late.code, late.state.status) == ("InvalidStateTransition", JobStatus.SUCCEEDED)
    assert late.client_token == "t"
    assert scene.refused(VAN.get_job("job-1")).code == "TerminalStateReached"


def test_a_vehicle_sees_nothing_of_anothers_jobs(scene):
    scene.create("job-1", "van-2")
    assert scene.refused(VAN.get_job("job-1")).code == "ResourceNotFound"
    assert "execution" not in scene.ask(VAN.start_next)
    assert [topic for topic, _ in scene.told()] == [
        "$aws/things/van-2/jobs/notify",
        "$aws/things/van-2/jobs/notify-next",
    ]


def test_one_job_for_several_vehicles_ends_when_the_last_one_has(scene):
    scene.create("job-1", "van-1", "van-2", "van-1")
    assert len(scene.jobs.describe("job-1").executions) == 2
    scene.ask(VAN.update("job-1"), status="REJECTED", statusDetails={"reason": "no"})
    assert scene.jobs.describe("job-1").state is JobState.IN_PROGRESS
    scene.ask(JobTopics("van-2").update("job-1"), vehicle="van-2", status="SUCCEEDED")
    assert scene.jobs.describe("job-1").state is JobState.COMPLETED


def test_a_queued_job_can_be_cancelled_and_one_begun_only_by_force(scene):
    scene.create("job-1", "van-1", "van-2")
    scene.ask(VAN.start_next)
    scene.told()
    report = scene.jobs.cancel("job-1")
    assert [one.status.value for one in report.executions] == ["IN_PROGRESS", "CANCELED"]
    assert report.state is JobState.CANCELED
    assert {topic for topic, _ in scene.told()} == {
        "$aws/things/van-2/jobs/notify",
        "$aws/things/van-2/jobs/notify-next",
    }
    report = scene.jobs.cancel("job-1", force=True)
    assert [one.status.value for one in report.executions] == ["CANCELED", "CANCELED"]
    assert {topic for topic, _ in scene.told()} == {VAN.notify, VAN.notify_next}
    late = scene.refused(VAN.update("job-1"), status="SUCCEEDED")
    assert (late.code, late.state.status) == ("InvalidStateTransition", JobStatus.CANCELED)


def test_what_has_ended_cannot_be_cancelled(scene):
    scene.create("job-1")
    scene.ask(VAN.update("job-1"), status="SUCCEEDED")
    with pytest.raises(JobsError, match="ended"):
        scene.jobs.cancel("job-1")
    with pytest.raises(JobsError, match="no job"):
        scene.jobs.cancel("job-9")


def test_a_job_that_takes_too_long_times_out_and_the_vehicle_is_told(scene):
    scene.create("job-1", timeout_minutes=10)
    scene.create("job-2")
    scene.clock.advance(3_600)
    assert scene.executions.expire() == []  # a job that waits does not time out
    scene.ask(VAN.start_next, stepTimeoutInMinutes=20)
    scene.clock.advance(599)
    assert scene.executions.expire() == []
    scene.clock.advance(1)
    told = scene.executions.expire()
    assert [one.topic for one in told] == [VAN.notify, VAN.notify_next]
    assert json.loads(told[1].payload)["execution"]["jobId"] == "job-2"
    assert scene.execution("job-1").status is JobStatus.TIMED_OUT
    assert scene.refused(VAN.update("job-1"), status="SUCCEEDED").code == "InvalidStateTransition"
    assert scene.executions.expire() == []


def test_everything_is_there_after_a_restart_of_the_cloud(scene):
    scene.create("job-1", timeout_minutes=10)
    scene.ask(VAN.start_next, statusDetails={"step": "a"})
    before = scene.jobs.describe("job-1")
    scene.database.close()
    scene.open()
    assert scene.jobs.describe("job-1") == before
    scene.clock.advance(600)
    assert len(scene.executions.expire()) == 2


def test_a_notification_lists_fifteen_at_most(scene):
    for n in range(20):
        scene.create(f"job-{n}")
    _, document = scene.told()[-1]
    assert [one["jobId"] for one in document["jobs"]["QUEUED"]] == [f"job-{n}" for n in range(15)]
    assert len(scene.ask(VAN.get)["queuedJobs"]) == 20


def test_the_latest_jobs_come_first_and_can_be_those_of_one_vehicle(scene):
    scene.create("job-1", "van-1", "van-2")
    scene.create("job-2", "van-2")
    assert [one.job_id for one in scene.jobs.latest()] == ["job-2", "job-1"]
    (one,) = scene.jobs.latest("van-1")
    assert [execution.vehicle_id for execution in one.executions] == ["van-1"]
    assert scene.jobs.latest("van-3") == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"job_id": "a b"}, "job id"),
        ({"job_id": ""}, "job id"),
        ({"vehicle_ids": []}, "vehicle"),
        ({"timeout_minutes": 0}, "timeout"),
        ({"document": JobDocument("Restart!")}, "operation"),
        ({"document": JobDocument("restart", {"a": "b" * 40_000})}, "bytes"),
        ({"job_id": "job-1"}, "already"),
    ],
    ids=str,
)
def test_what_can_be_no_job_is_refused_and_leaves_nothing(scene, change, word):
    scene.create("job-1")
    good = NewJob(JobDocument("restart"), ["van-1"], "job-2")
    with pytest.raises(JobsError, match=word):
        scene.jobs.create(good._replace(**change))
    assert [one.job_id for one in scene.jobs.latest()] == ["job-1"]
    assert len(scene.ask(VAN.get)["queuedJobs"]) == 1
