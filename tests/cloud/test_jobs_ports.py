"""The operator's jobs, one suite for one machine and for AWS; then what only AWS has."""

import json
from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner

from cloud.cli import cli
from cloud.errors import ConfigError, JobsError, StoreError
from cloud.jobs.ports import JobState, NewJob
from cloud.stores.aws_jobs import AwsJobs
from cloud.stores.sqlite import SqliteStores
from contract.jobs import JobDocument, JobStatus

RESTART = JobDocument("restart", {"reason": "because"})


@pytest.fixture
def on_aws(aws):
    iot = boto3.client("iot")
    for vehicle_id in ("van-1", "van-2"):
        iot.create_thing(thingName=vehicle_id)
    return AwsJobs(iot)


@pytest.fixture
def on_one_machine(tmp_path):
    stores = SqliteStores.open(tmp_path / "data")
    yield stores.jobs
    stores.close()


@pytest.fixture(params=["one_machine", "aws"])
def jobs(request):
    return request.getfixturevalue(f"on_{request.param}")


def new(job_id="job-1", vehicles=("van-1",), **more):
    return NewJob(RESTART, vehicles, job_id, **more)


def test_a_job_is_queued_for_each_of_its_vehicles_once(jobs):
    jobs.create(new(vehicles=("van-2", "van-1", "van-2"), description="why not"))
    job = jobs.describe("job-1")
    assert (job.operation, dict(job.parameters)) == ("restart", {"reason": "because"})
    assert job.description == "why not"
    assert job.state is JobState.IN_PROGRESS
    assert [(one.vehicle_id, one.status) for one in job.executions] == [
        ("van-1", JobStatus.QUEUED),
        ("van-2", JobStatus.QUEUED),
    ]


def test_the_latest_jobs_are_listed_and_those_of_one_vehicle_alone(jobs):
    jobs.create(new("job-1"))
    jobs.create(new("job-2", ("van-1", "van-2")))
    assert {one.job_id for one in jobs.latest()} == {"job-1", "job-2"}
    (found,) = jobs.latest("van-2")
    assert found.job_id == "job-2"
    assert [one.vehicle_id for one in found.executions] == ["van-2"]


def test_a_job_that_nobody_has_begun_is_cancelled(jobs):
    jobs.create(new())
    assert jobs.cancel("job-1").state is JobState.CANCELED


@pytest.mark.parametrize("ask", [lambda jobs: jobs.describe("no"), lambda jobs: jobs.cancel("no")])
def test_a_job_that_there_is_not_is_not_found(jobs, ask):
    with pytest.raises(JobsError) as refused:
        ask(jobs)
    assert refused.value.code == "ResourceNotFound"


@pytest.mark.parametrize(
    "job",
    [
        new("no/id"),
        new(vehicles=()),
        new(timeout_minutes=0),
        NewJob(JobDocument("restart", {"large": "x" * 40_000}), ("van-1",), "job-1"),
    ],
)
def test_what_no_service_would_take_is_refused_before_it_is_asked(jobs, job):
    with pytest.raises(JobsError) as refused:
        jobs.create(job)
    assert refused.value.code == "InvalidRequest"
    assert jobs.latest() == []


def test_a_vehicle_that_aws_does_not_know_is_named(on_aws):
    with pytest.raises(JobsError, match="van-9") as refused:
        on_aws.create(new(vehicles=("van-1", "van-9")))
    assert refused.value.code == "ResourceNotFound"


def test_more_vehicles_than_one_job_of_aws_takes_are_refused(on_aws):
    with pytest.raises(JobsError, match="101 vehicles"):
        on_aws.create(new(vehicles=[f"van-{number}" for number in range(101)]))


@pytest.fixture
def scripted(aws):
    """AWS IoT's answers by a script, for what moto does not play."""
    iot = boto3.client("iot")
    with Stubber(iot) as script:
        yield script, AwsJobs(iot)
        script.assert_no_pending_responses()


def test_a_timeout_reaches_aws(scripted):
    script, jobs = scripted
    arn = "arn:aws:iot:eu-central-1:123456789012:thing/van-1"
    script.add_response("describe_thing", {"thingArn": arn}, {"thingName": "van-1"})
    script.add_response(
        "create_job",
        {},
        {
            "jobId": "job-1",
            "targets": [arn],
            "document": json.dumps(RESTART.to_json(), separators=(",", ":")),
            "targetSelection": "SNAPSHOT",
            "timeoutConfig": {"inProgressTimeoutInMinutes": 5},
        },
    )
    jobs.create(new(timeout_minutes=5))


def test_a_job_that_has_ended_tells_what_its_vehicle_said_and_cannot_be_cancelled(scripted):
    script, jobs = scripted
    at = datetime(2026, 1, 2, tzinfo=UTC)
    arn = "arn:aws:iot:eu-central-1:123456789012:thing/van-1"
    summary = {"status": "FAILED", "queuedAt": at, "startedAt": at, "lastUpdatedAt": at}

    def report():
        told = {"jobId": "job-1", "status": "COMPLETED", "createdAt": at}
        script.add_response("describe_job", {"job": told}, {"jobId": "job-1"})
        script.add_response("get_job_document", {"document": "[]"}, {"jobId": "job-1"})
        script.add_response(
            "list_job_executions_for_job",
            {"executionSummaries": [{"thingArn": arn, "jobExecutionSummary": summary}]},
            {"jobId": "job-1"},
        )

    report()
    script.add_response(
        "describe_job_execution",
        {"execution": {"statusDetails": {"detailsMap": {"reason": "no room"}}}},
        {"jobId": "job-1", "thingName": "van-1"},
    )
    job = jobs.describe("job-1")
    assert job.state is JobState.COMPLETED
    assert dict(job.executions[0].details) == {"reason": "no room"}
    assert job.operation == "", "a job that is not Milepost's is listed all the same"
    report()
    with pytest.raises(JobsError, match="has ended"):
        jobs.cancel("job-1")


def test_the_same_id_again_is_refused_and_says_where_to_look(scripted):
    script, jobs = scripted
    arn = "arn:aws:iot:eu-central-1:123456789012:thing/van-1"
    script.add_response("describe_thing", {"thingArn": arn})
    script.add_client_error("create_job", "ResourceAlreadyExistsException", "Job exists")
    with pytest.raises(JobsError, match="job-1: Job exists") as refused:
        jobs.create(new())
    assert refused.value.code == "ResourceAlreadyExists"
    assert "jobs describe --aws job-1" in refused.value.hint


def test_a_service_that_is_busy_is_worth_another_try(scripted):
    script, jobs = scripted
    script.add_client_error("describe_job", "ThrottlingException", "Rate exceeded")
    with pytest.raises(StoreError, match="Rate exceeded"):
        jobs.describe("job-1")


def test_the_command_line_reaches_aws(aws, on_aws, monkeypatch):
    def run(*words):
        done = CliRunner().invoke(cli, ["jobs", *words], catch_exceptions=False)
        return done.exit_code, done.output

    code, out = run("create", "restart", "van-1", "--job-id", "job-1", "--aws")
    assert (code, "jobs describe --aws job-1" in out) == (0, True)
    assert "van-1 QUEUED" in run("list", "--region", "eu-central-1")[1]
    assert run("list", "--region", "us-east-1") == (0, "there are no jobs\n")
    with pytest.raises(ConfigError, match="nobody"):
        run("list", "--profile", "nobody")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigError, match="no region"):
        run("list", "--aws")
