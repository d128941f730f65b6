"""``milepost-cloud gaps`` as an operator types it."""

import json

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner

from cloud.accounting.ledger import Arrival, Change, RunEnd, Told
from cloud.cli import cli
from cloud.cli.gaps import duration
from cloud.stores.sqlite import SqliteStores
from contract import DropTotal
from tests.fakes import kinesis

NOW_MS = kinesis.RECEIVED_MS
RUN, NEXT = "aaaaaaaa", "bbbbbbbb"


def at(n):
    return NOW_MS + 1000 * n


def record(ledger, *, vanished=0):
    """Two runs: of the first some were thinned, of the second some wait."""

    def arrivals(*sequences, late_s=0):
        return [Arrival(n, at(n), at(n) + 1000 * late_s, is_event=False) for n in sequences]

    drops = [
        DropTotal(run_id=RUN, reason="thinned", total_messages=2, first_sequence=3, last_sequence=5)
    ]
    ledger.record(
        [
            Change("van-1", RUN, NOW_MS, arrivals(1, 2, 4, late_s=90), end=RunEnd(5, 1.0, NEXT)),
            Change(
                "van-1",
                NEXT,
                at(100),
                arrivals(101, 104),
                told=[Told(at(104), at(104), "online", 104, 102 - vanished)],
                drops=drops,
            ),
        ]
    )


@pytest.fixture
def data(tmp_path):
    stores = SqliteStores.open(tmp_path)
    yield tmp_path, stores.ledger
    stores.close()


def run(*words):
    done = CliRunner().invoke(cli, ["gaps", *map(str, words)])
    return done.exit_code, done.output, done.exception


def test_all_is_explained_in_plain_words_with_exit_code_0(data):
    folder, ledger = data
    record(ledger)
    code, output, _ = run("--vehicle", "van-1", "--data", folder)
    assert code == 0, output
    assert "van-1: 2 runs, 5 received, 104 missing (all explained)" in output
    assert "run aaaaaaaa  crashed" in output
    assert "missing    2: 2 thinned" in output
    assert "3, between 2025-01-15T14:32:22.000Z and 2025-01-15T14:32:24.000Z, 2 s: 1 thi" in output
    assert "more than 60s after their own time; the latest by 1 min 30 s" in output
    assert "its last 1 s may be lost without a trace" in output
    assert "102 waiting on the vehicle" in output


def test_what_is_unexplained_is_said_with_hints_and_exit_code_1(data):
    folder, ledger = data
    record(ledger, vanished=3)
    code, output, _ = run("--vehicle", "van-1", "--data", folder)
    assert code == 1
    assert "3 UNEXPLAINED" in output
    assert "dead-letters" in output
    assert "docs/accounting.md" in output


def test_json_has_every_gap_and_only_the_runs_asked_for(data):
    folder, ledger = data
    record(ledger, vanished=3)
    words = ("--vehicle", "van-1", "--data", folder, "--json")
    code, output, _ = run(*words, "--run", RUN, "--late-after", "5m")
    document = json.loads(output)
    assert (code, document["late"], document["late_after_s"]) == (0, 0, 300)
    (one,) = document["runs"]
    assert (one["run_id"], one["state"], one["causes"]) == (RUN, "crashed", {"thinned": 2})
    assert [(gap["first"], gap["last"]) for gap in one["gaps"]] == [(3, 3), (5, 5)]
    code, output, _ = run(*words, "--since", "2025-01-15T14:32:30Z")
    assert [one["run_id"] for one in json.loads(output)["runs"]] == [RUN, NEXT]
    code, output, _ = run(*words, "--since", "2025-01-15T14:34:00Z")
    assert (code, [one["run_id"] for one in json.loads(output)["runs"]]) == (1, [NEXT])
    code, output, _ = run(*words, "--since", "24h")
    assert (code, json.loads(output)["runs"]) == (0, [])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--vehicle", "van-9"], "nothing has arrived of a vehicle 'van-9'"),
        (["--vehicle", "van-1", "--run", "cccccccc"], "van-1 has no run 'cccccccc'"),
        (["--vehicle", "van-1", "--since", "yesterday"], "neither like 90m"),
        (["--vehicle", "van-1", "--since", "99999999999d"], "neither like 90m"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(data, words, says):
    folder, ledger = data
    record(ledger)
    code, output, error = run(*words, "--data", folder)
    assert code != 0
    assert says in output + str(error)


def test_the_same_figures_come_from_aws(on_aws, monkeypatch):
    """CloudFormation's answers are botocore's stub, which checks them; the table is moto's."""
    record(on_aws.stores.ledger, vanished=1)
    make = boto3.session.Session.client

    def client(session, service, **options):
        made = make(session, service, **options)
        if service == "cloudformation":
            stubber = Stubber(made)
            stack = {
                "StackName": "milepost",
                "CreationTime": on_aws.clock.utc(),
                "StackStatus": "CREATE_COMPLETE",
                "Outputs": [{"OutputKey": "RunsTableName", "OutputValue": "runs"}],
            }
            for answer in answers.pop():
                if answer == "none":
                    stubber.add_client_error("describe_stacks", "ValidationError", "no stack")
                else:
                    if answer == "old":
                        del stack["Outputs"]
                    stubber.add_response(
                        "describe_stacks", {"Stacks": [stack]}, {"StackName": "milepost"}
                    )
            stubber.activate()
        return made

    monkeypatch.setattr(boto3.session.Session, "client", client)
    answers = [["none"], ["old"], ["good"]]
    words = ("--vehicle", "van-1", "--stack", "milepost")
    code, output, _ = run(*words)
    assert code == 1
    assert "5 received, 104 missing (1 UNEXPLAINED)" in output
    _, _, error = run(*words)
    assert "has no output RunsTableName" in str(error)
    _, _, error = run(*words)
    assert "cannot look up the stack 'milepost'" in str(error)


@pytest.mark.parametrize(
    ("length_s", "text"),
    [(0.25, "0.25 s"), (61, "1 min 1 s"), (7_300, "2 h 1 min"), (200_000, "2 d 7 h")],
)
def test_durations_are_told_in_two_units(length_s, text):
    assert duration(length_s) == text
