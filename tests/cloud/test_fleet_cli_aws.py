"""``milepost-cloud fleet ... --aws``: the same commands, on AWS as moto plays it."""

import json

import pytest
from botocore.stub import Stubber
from click.testing import CliRunner

from cloud.cli import cli
from cloud.errors import ConfigError, FleetError
from cloud.stores import aws_fleet
from cloud.stores.aws_stack import stack_outputs
from tests.fakes.registries import CLAIM_POLICY, REGISTER, TABLE, VEHICLE_POLICIES, OnAws, board

OUTPUTS = {
    "RegistrationsTableName": TABLE,
    "VehiclesTableName": REGISTER,
    "VehiclePolicyName": VEHICLE_POLICIES[0],
    "ClaimPolicyName": CLAIM_POLICY,
}


@pytest.fixture
def place(aws, monkeypatch):
    def outputs(_session, stack, *needed):
        assert stack == "milepost"
        return {name: OUTPUTS[name] for name in needed}

    monkeypatch.setattr(aws_fleet, "stack_outputs", outputs)
    return OnAws()


def run(*words, code=0):
    done = CliRunner().invoke(cli, ["fleet", *map(str, words), "--aws"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_a_claim_is_made_with_its_files_listed_and_revoked(place, tmp_path):
    run("claim", "create", "workshop", "--out", tmp_path / "claim")
    assert {path.name for path in (tmp_path / "claim").iterdir()} == {
        *("ca.pem", "certificate.pem", "key.pem")
    }
    assert (tmp_path / "claim" / "key.pem").stat().st_mode & 0o777 == 0o600
    (listed,) = json.loads(run("claim", "list", "--json"))
    assert (listed["name"], listed["status"]) == ("workshop", "ACTIVE")
    run("claim", "revoke", "workshop", "--yes")
    (listed,) = json.loads(run("claim", "list", "--json"))
    assert listed["status"] == "REVOKED"


def test_a_claim_of_some_days_is_refused_before_a_key_is_made(place, tmp_path):
    with pytest.raises(FleetError, match="30 days") as refused:
        run("claim", "create", "workshop", "--days", "30", "--out", tmp_path / "claim")
    assert "2049" in refused.value.hint
    assert not (tmp_path / "claim").exists()


def test_a_board_is_allowed_registers_is_blocked_and_revoked(place):
    run("allow", "add", "S1", "van-1", "--type", "electric_van")
    assert board(place).register_board() == "van-1"
    assert "van-1" in run("allow", "list")
    (van,) = json.loads(run("list", "--json"))
    assert (van["vehicle_id"], van["serial_number"], van["blocked"]) == ("van-1", "S1", False)
    run("block", "van-1")
    assert json.loads(run("describe", "van-1", "--json"))["blocked"] is True
    run("unblock", "van-1")
    run("revoke", "van-1", "--yes")
    described = json.loads(run("describe", "van-1", "--json"))
    assert [one["status"] for one in described["certificates"]] == ["REVOKED"]


def test_the_names_come_from_the_stacks_outputs(aws):
    import boto3  # noqa: PLC0415  beside its use

    session = boto3.session.Session()
    client = session.client("cloudformation")
    session.client = lambda *_args, **_options: client
    at = "2026-01-01T00:00:00Z"
    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
    described = {
        "StackName": "milepost",
        "CreationTime": at,
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": outputs,
    }
    with Stubber(client) as script:
        for _ in range(2):
            script.add_response("describe_stacks", {"Stacks": [described]})
        assert stack_outputs(session, "milepost", *OUTPUTS) == OUTPUTS
        with pytest.raises(ConfigError, match="no output RunsTableName"):
            stack_outputs(session, "milepost", "RunsTableName")
        script.add_client_error("describe_stacks", "ValidationError", "does not exist")
        with pytest.raises(ConfigError, match="does not exist"):
            stack_outputs(session, "nobody")
