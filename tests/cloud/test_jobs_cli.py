"""``milepost-cloud jobs`` on one machine."""

import json

import pytest
from click.testing import CliRunner

from cloud.cli import cli
from cloud.cli.jobs import OPERATIONS
from cloud.errors import ConfigError, JobsError
from cloud.stores.sqlite import SqliteStores
from contract.jobs import JobAction, JobRequest, OperationName
from tests.fakes.one_machine import issued_identity


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    SqliteStores.open(folder).close()
    return folder


@pytest.fixture
def answer(data):
    """A vehicle's update."""

    def answer(job_id, vehicle="van-1", **document):
        stores = SqliteStores.open(data)
        try:
            request = JobRequest(JobAction.UPDATE, job_id)
            stores.job_executions.answer(vehicle, request, json.dumps(document).encode())
        finally:
            stores.close()

    return answer


def run(data, *words, code=0):
    done = CliRunner().invoke(cli, ["jobs", *words, "--data", str(data)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_a_job_is_made_listed_and_described(data, answer):
    out = run(data, "create", "restart", "van-1", "van-2", "--job-id", "job-1", "--timeout", "5")
    assert "job-1: queued for van-1, van-2" in out
    assert "milepost-cloud jobs describe job-1" in out
    answer("job-1", status="IN_PROGRESS", statusDetails={"step": "drain", "left": "3"})
    assert "1 QUEUED, 1 IN_PROGRESS" in run(data, "list")
    assert "van-1 IN_PROGRESS" in run(data, "list", "--vehicle", "van-1")
    out = run(data, "describe", "job-1")
    assert "step: drain; left: 3" in out
    (job,) = json.loads(run(data, "list", "--json"))
    assert job == json.loads(run(data, "describe", "job-1", "--json"))
    assert job["executions"][0]["details"] == {"step": "drain", "left": "3"}


def test_a_name_is_made_up_of_the_operation(data):
    job = json.loads(run(data, "create", "rotate", "van-1", "--json"))
    assert job["job_id"].startswith("rotate-")
    assert job["executions"][0]["status"] == "QUEUED"


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("REJECTED", 1)])
def test_waiting_ends_with_the_vehicles_and_says_how(data, answer, status, code):
    run(data, "create", "restart", "van-1", "--job-id", "job-1")
    answer("job-1", status=status, statusDetails={"reason": "so be it"})
    out = run(data, "describe", "job-1", "--wait", "30", code=code)
    assert f"{status}  reason: so be it" in out


def test_waiting_in_vain_is_an_error_that_says_that_the_job_goes_on(data):
    with pytest.raises(JobsError, match="not done") as refused:
        run(data, "create", "restart", "van-1", "--wait", "0.1")
    assert "It goes on" in refused.value.hint


def test_a_cancelled_job_says_where_it_has_begun(data, answer):
    run(data, "create", "restart", "van-1", "van-2", "--job-id", "job-1")
    answer("job-1", status="IN_PROGRESS")
    out = run(data, "cancel", "job-1")
    assert "1 IN_PROGRESS, 1 CANCELED" in out
    assert "van-1: has begun; --force" in out
    assert "2 CANCELED" in run(data, "cancel", "job-1", "--force")
    with pytest.raises(JobsError, match="no job"):
        run(data, "cancel", "job-2")


def test_parameters_come_as_json_or_from_a_file_and_settings_as_toml(data, tmp_path):
    def parameters(operation, text):
        out = run(data, "create", operation, "van-1", "--parameters", text, "--json")
        return json.loads(out)["parameters"]

    assert parameters("update", '{"a": 1}') == {"a": 1}
    (tmp_path / "a.json").write_text('{"a": 2}')
    assert parameters("update", f"@{tmp_path / 'a.json'}") == {"a": 2}
    (tmp_path / "a.toml").write_text('[log]\nlevel = "debug"\n')
    assert parameters("apply-config", f"@{tmp_path / 'a.toml'}") == {
        "settings": {"log": {"level": "debug"}}
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "@/nowhere.json", '{"a": ' * 10_000])
def test_parameters_that_are_none_are_wrong_usage(data, text):
    out = run(data, "create", "update", "van-1", "--parameters", text, code=2)
    assert "--parameters" in out


def test_an_operation_or_a_vehicle_that_there_is_not_makes_no_job(data):
    assert "restart" in run(data, "create", "make-tea", "van-1", code=2)
    issued_identity(data, "van-1", data / "identity")
    with pytest.raises(ConfigError, match="van-9") as refused:
        run(data, "create", "restart", "van-9")
    assert "van-1" in refused.value.hint
    assert run(data, "list") == "there are no jobs\n"


def test_a_folder_that_is_no_clouds_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no data directory"):
        run(tmp_path, "list")


def test_every_operation_of_the_contract_can_be_asked_for():
    assert set(OPERATIONS) == {one.value for one in OperationName}
