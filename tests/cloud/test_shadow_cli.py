"""``milepost-cloud shadow`` and the ports behind it, on one machine and on AWS (moto)."""

import json

import boto3
import pytest
from click.testing import CliRunner

from cloud.cli import cli
from cloud.cli.registry import opened_registry
from cloud.cli.shadow_view import flat
from cloud.errors import ConfigError, ShadowError
from cloud.stores.aws_shadows import aws_shadows
from cloud.stores.sqlite import SqliteStores


@pytest.fixture(params=["one machine", "aws"])
def shadows(request, tmp_path):
    if request.param == "aws":
        request.getfixturevalue("aws")
        boto3.client("iot").create_thing(thingName="van-1")
        yield aws_shadows()
        return
    stores = SqliteStores.open(tmp_path)
    yield stores.shadows
    stores.close()


def test_what_is_asked_for_and_reported_is_there_to_get(shadows):
    assert shadows.update("van-1", {"state": {"desired": {"a": {"b": 1, "c": 2}}}})["version"] == 1
    shadows.update("van-1", {"state": {"reported": {"a": {"b": 1, "c": 3}}}})
    document = shadows.get("van-1")
    assert document["version"] == 2
    assert document["state"]["desired"] == {"a": {"b": 1, "c": 2}}
    assert document["state"]["delta"] == {"a": {"c": 2}}


def test_null_removes_and_a_deleted_shadow_is_gone(shadows):
    shadows.update("van-1", {"state": {"desired": {"a": 1, "b": 2}}})
    shadows.update("van-1", {"state": {"desired": {"a": None}}})
    assert shadows.get("van-1")["state"]["desired"] == {"b": 2}
    shadows.delete("van-1")
    with pytest.raises(ShadowError) as refused:
        shadows.get("van-1")
    assert refused.value.code == 404


@pytest.mark.parametrize(
    ("request_", "code"),
    [({}, 400), ({"state": 5}, 400), ({"state": {"desired": {}}, "version": 5}, 409)],
)
def test_what_the_service_refuses_says_why(shadows, request_, code):
    shadows.update("van-1", {"state": {"desired": {"a": 1}}})
    with pytest.raises(ShadowError) as refused:
        shadows.update("van-1", request_)
    assert refused.value.code == code
    assert refused.value.reason


def test_without_a_region_it_says_what_to_set(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError) as error:
        aws_shadows()
    assert "AWS_REGION" in error.value.hint


# --- the command ------------------------------------------------------------------------


class Command:
    """The command on one data directory or on AWS, and the vehicle's side of it."""

    def __init__(self, shadows, *where):
        self.shadows = shadows
        self._where = where

    def __call__(self, *words, vehicle="van-1"):
        words = [*map(str, words), "--vehicle", vehicle, *map(str, self._where)]
        return CliRunner().invoke(cli, ["shadow", *words], catch_exceptions=True)

    def report(self, **reported):
        self.shadows.update("van-1", {"state": {"reported": reported}})


@pytest.fixture(params=["one machine", "aws"])
def command(request, tmp_path):
    if request.param == "aws":
        request.getfixturevalue("aws")
        boto3.client("iot").create_thing(thingName="van-1")
        yield Command(aws_shadows(), "--aws")
        return
    stores = SqliteStores.open(tmp_path)
    yield Command(stores.shadows, "--data", tmp_path)
    stores.close()


SETTINGS = {"sampling": {"normal": {"interval_s": 1}, "idle": {"interval_s": 10}}}


def test_set_asks_and_get_shows_what_became_of_it(command):
    done = command("set", "sampling.normal.interval_s=0.5", "delivery.batch_s=-1")
    assert done.exit_code == 0, done.output
    assert "version 1" in done.output
    command.report(
        **SETTINGS,
        delivery={"batch_s": 0},
        refused={"delivery": "delivery.batch_s = -1: should be at least 0"},
        desired_version=1,
    )
    lines = [line.split() for line in command("get").output.splitlines()]
    assert ["delivery.batch_s", "-1", "0", "refused"] in lines
    assert ["sampling.normal.interval_s", "0.5", "1", "waiting"] in lines
    assert ["sampling.idle.interval_s", "-", "10", "config", "file"] in lines
    assert "refused, delivery: delivery.batch_s = -1: should be at least 0" in command("get").output


def test_diff_shows_what_is_open_and_ends_with_1(command):
    command("set", "sampling.normal.interval_s=0.5")
    command.report(**SETTINGS)
    done = command("diff")
    assert done.exit_code == 1
    assert "sampling.idle" not in done.output
    command.report(sampling={"normal": {"interval_s": 0.5}})
    done = command("diff")
    assert (done.exit_code, done.output) == (0, "everything that was asked for is applied\n")


def test_null_asks_for_the_files_value_again(command):
    command("set", "sampling.normal.interval_s=0.5", "delivery.batch_s=1")
    command("set", "sampling.normal.interval_s=null")
    desired = json.loads(command("get", "--json").output)["state"]["desired"]
    assert flat(desired) == {"delivery.batch_s": 1}


def test_null_for_a_whole_branch_asks_for_the_files_values_of_all_its_keys(command):
    command("set", "sampling.normal.interval_s=0.5", "sampling.idle.interval_s=5")
    command.report(**SETTINGS)
    done = command("set", "sampling=null")
    assert "version" in done.output
    assert "reports no key" not in done.output
    assert flat(json.loads(command("get", "--json").output)["state"].get("desired", {})) == {}


def test_what_is_asked_for_already_is_not_asked_for_again(command):
    command("set", "delivery.batch_s=1")
    assert "already" in command("set", "delivery.batch_s=1").output
    assert "already" in command("set", "delivery.in_flight=null").output
    assert "already" not in command("set", "delivery.batch_s=true").output
    assert json.loads(command("get", "--json").output)["version"] == 2


def test_a_key_that_the_vehicle_does_not_report_is_named_with_a_near_one(command):
    command.report(**SETTINGS)
    done = command("set", "sampling.normal.intervall_s=0.5")
    assert "did you mean sampling.normal.interval_s?" in done.output


def test_another_version_is_a_conflict(command):
    command("set", "delivery.batch_s=1")
    done = command("set", "delivery.batch_s=2", "--if-version", 7)
    assert done.exit_code != 0
    assert isinstance(done.exception, ShadowError)
    assert done.exception.code == 409


def test_waiting_ends_when_the_vehicle_has_answered_or_with_an_error(command):
    command.report(**SETTINGS, delivery={"batch_s": 1}, desired_version=2)
    done = command("set", "delivery.batch_s=1", "--wait", 5)
    assert done.exit_code == 0, done.output
    assert "applied" in done.output
    command.report(refused={"delivery": "no"}, desired_version=9)
    assert command("set", "delivery.batch_s=2", "--wait", 5).exit_code == 1
    command.report(desired_version=1)
    done = command("set", "sampling.idle.interval_s=6", "--wait", 0.1)
    assert "has not answered" in str(done.exception)


@pytest.mark.parametrize("words", [["x"], ["=1"], ["a..b=1"], ["a=1", "a=2"], ["a=1", "a.b=2"]])
def test_what_is_no_assignment_is_refused(command, words):
    done = command("set", *words)
    assert done.exit_code == 2, done.output


def test_a_vehicle_without_a_certificate_is_a_mistyped_id(tmp_path):
    with opened_registry(tmp_path, create=True) as here:
        made = here.authority.issue("van-1", here.clock.utc())
        here.registry.add_vehicle("van-1", made.certificate_pem)
    command = Command(None, "--data", tmp_path)
    done = command("set", "delivery.batch_s=1", vehicle="vna-1")
    assert "van-1" in done.exception.hint
    assert command("set", "delivery.batch_s=1").exit_code == 0


def test_a_folder_without_a_cloud_is_named(tmp_path):
    done = Command(None, "--data", tmp_path)("get")
    assert "no data directory" in str(done.exception)
