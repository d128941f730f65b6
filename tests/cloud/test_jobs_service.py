"""Jobs over MQTT: real clients at the one-machine broker."""

import json

import pytest

from cloud.clock import SystemClock
from cloud.jobs.ports import NewJob
from cloud.serve.jobs_service import JobsService
from cloud.serve.shadow_service import ShadowService
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_job_executions import SqliteJobExecutions
from cloud.stores.sqlite_jobs import SqliteJobs
from cloud.stores.sqlite_shadows import SqliteShadows
from contract.jobs import JobDocument, JobTopics
from tests.fakes.one_machine import RunningBroker, wait_until

VAN = JobTopics("van-1")
FILTERS = [
    VAN.notify,
    VAN.notify_next,
    f"{VAN.start_next}/accepted",
    f"{VAN.prefix}+/get/accepted",
    f"{VAN.prefix}+/update/accepted",
    f"{VAN.prefix}+/update/rejected",
]


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "milepost.db", MIGRATIONS, create=True)
    yield database
    database.close()


@pytest.fixture
def jobs(database):
    return SqliteJobs(database, SystemClock())


@pytest.fixture
def broker(tmp_path, database):
    clock = SystemClock()
    services = [
        ShadowService(SqliteShadows(database, clock), clock),
        JobsService(SqliteJobExecutions(database, clock), clock),
    ]
    with RunningBroker(tmp_path, services=services) as running:
        yield running


def connected(broker, vehicle_id):
    vehicle = broker.vehicle(vehicle_id)
    assert vehicle.connect()
    return vehicle


def heard(vehicle, topic, count=1):
    messages = wait_until(
        lambda: len(found := [m for m in vehicle.received if m.topic == topic]) >= count and found,
        f"{count} on {topic}",
    )
    return json.loads(messages[count - 1].payload)


def test_a_job_reaches_a_connected_vehicle_which_carries_it_out(broker, jobs):
    with connected(broker, "van-1") as van:
        for one in FILTERS:
            assert van.subscribe(one) == [1]
        jobs.create(NewJob(JobDocument("restart"), ["van-1"], "job-1"))
        assert heard(van, VAN.notify_next)["execution"]["jobId"] == "job-1"
        van.publish_acked(VAN.get_job("$next"), b'{"clientToken": "a"}')
        assert heard(van, f"{VAN.get_job('$next')}/accepted")["clientToken"] == "a"
        van.publish_acked(VAN.start_next, b"")
        assert heard(van, f"{VAN.start_next}/accepted")["execution"]["status"] == "IN_PROGRESS"
        van.publish_acked(VAN.update("job-1"), b'{"status": "SUCCEEDED"}')
        heard(van, f"{VAN.update('job-1')}/accepted")
        assert "execution" not in heard(van, VAN.notify_next, 2)
        van.publish_acked(VAN.update("job-1"), b'{"status": "FAILED"}')
        refusal = heard(van, f"{VAN.update('job-1')}/rejected")
        assert refusal["code"] == "InvalidStateTransition"
        assert refusal["executionState"]["status"] == "SUCCEEDED"
        van.publish_acked(VAN.update("job-1"), b"\xff")
        assert heard(van, f"{VAN.update('job-1')}/rejected", 2)["code"] == "InvalidJson"


@pytest.mark.parametrize(
    "topic_filter",
    ["$aws/things/van-2/jobs/notify-next", "$aws/things/van-1/jobs/#", "$aws/things/+/jobs/notify"],
)
def test_a_vehicle_cannot_listen_beyond_its_own_jobs(broker, topic_filter):
    with connected(broker, "van-1") as van:
        assert van.subscribe(topic_filter) == [128]


@pytest.mark.parametrize(
    "topic", ["van-2/jobs/get", "van-2/jobs/job-1/update", "van-1/jobs/notify"]
)
def test_a_vehicle_cannot_speak_for_another_or_for_the_service(broker, jobs, topic):
    jobs.create(NewJob(JobDocument("restart"), ["van-2"], "job-1"))
    with connected(broker, "van-1") as van:
        van.publish(f"$aws/things/{topic}", b'{"status": "SUCCEEDED"}')
        assert van.disconnected.wait(20)
    (execution,) = jobs.describe("job-1").executions
    assert execution.status.value == "QUEUED"
