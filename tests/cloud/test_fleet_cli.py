"""``milepost-cloud fleet`` on one machine."""

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from cloud.cli import cli
from cloud.cli.registry import opened_registry
from cloud.errors import ConfigError, FleetError
from cloud.pki import certificate_id_of
from cloud.provisioning.allow_list import MAX_FAULTS_SHOWN, parse_csv
from cloud.provisioning.ports import AllowedVehicle
from tests.fakes.one_machine import milepost_cloud

COMMANDS = [
    ("claim",),
    ("claim", "create"),
    ("claim", "list"),
    ("claim", "revoke"),
    ("allow",),
    ("allow", "add"),
    ("allow", "import"),
    ("allow", "list"),
    ("allow", "remove"),
    ("list",),
    ("describe",),
    ("block",),
    ("unblock",),
    ("revoke",),
    ("rotate",),
]


class Fleet:
    """The command on a data directory."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"

    def __call__(self, *words, **options):
        arguments = [*map(str, words), "--data", str(self.data)]
        return CliRunner().invoke(cli, ["fleet", *arguments], **options)

    def good(self, *words, **options):
        done = self(*words, **options)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    def json(self, *words):
        return json.loads(self.good(*words, "--json"))

    def vehicle(self, vehicle_id):
        with opened_registry(self.data, create=True) as here:
            made = here.authority.issue(vehicle_id, here.clock.utc(), 30)
            return here.registry.add_vehicle(vehicle_id, made.certificate_pem)


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command):
    done = CliRunner().invoke(cli, ["fleet", *command, "--help"])
    assert done.exit_code == 0
    assert "Examples:" in done.output


def test_a_claim_certificate_goes_into_a_folder_with_its_key_for_the_owner_alone(fleet):
    out = fleet.folder / "claim"
    told = fleet.good("claim", "create", "spring", "--days", 7, "--out", out)
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate((out / "certificate.pem").read_bytes())
    assert certificate_id_of(certificate) in told
    assert f"{certificate.not_valid_after_utc:%Y-%m-%d}" in told
    (listed,) = fleet.json("claim", "list")
    assert listed["certificate_id"] == certificate_id_of(certificate)
    assert (listed["name"], listed["status"]) == ("spring", "ACTIVE")


def test_a_claims_key_that_is_there_is_replaced_only_by_force(fleet):
    out = fleet.folder / "claim"
    fleet.good("claim", "create", "--out", out)
    key = (out / "key.pem").read_bytes()
    refused = fleet("claim", "create", "--out", out)
    assert isinstance(refused.exception, ConfigError)
    assert (out / "key.pem").read_bytes() == key
    assert len(fleet.json("claim", "list")) == 1
    fleet.good("claim", "create", "--out", out, "--force")
    assert (out / "key.pem").read_bytes() != key


def test_claims_are_revoked_by_name_or_by_id(fleet):
    for name in ("spring", "spring", "autumn"):
        fleet.good("claim", "create", name, "--out", fleet.folder / "x", "--force")
    assert len(fleet.json("claim", "revoke", "spring", "--yes")) == 2
    (left,) = [one for one in fleet.json("claim", "list") if one["status"] == "ACTIVE"]
    fleet.good("claim", "revoke", left["certificate_id"], "--yes")
    assert {one["status"] for one in fleet.json("claim", "list")} == {"REVOKED"}
    assert isinstance(fleet("claim", "revoke", "winter", "--yes").exception, FleetError)


@pytest.mark.parametrize("words", [("claim", "revoke", "claim"), ("revoke", "van-1")])
def test_what_cannot_be_undone_is_not_done_unasked(fleet, words):
    fleet.good("claim", "create", "--out", fleet.folder / "claim")
    fleet.vehicle("van-1")
    done = fleet(*words)
    assert isinstance(done.exception, ConfigError)
    assert "--yes" in done.exception.hint
    assert fleet.json("claim", "list")[0]["status"] == "ACTIVE"
    assert fleet.json("list")[0]["state"] == "active"


def test_a_board_is_allowed_listed_and_removed(fleet):
    fleet.good("allow", "add", "10000000a1b2c3d4", "van-1", "--type", "electric_van")
    (line,) = fleet.json("allow", "list")
    assert line["vehicle_id"] == "van-1"
    assert (line["vehicle_type"], line["state"]) == ("electric_van", "waiting")
    assert "10000000a1b2c3d4" in fleet.good("allow", "list")
    fleet.good("allow", "remove", "10000000a1b2c3d4")
    assert "empty" in fleet.good("allow", "list")
    assert isinstance(fleet("allow", "remove", "10000000a1b2c3d4").exception, FleetError)


@pytest.mark.parametrize("words", [("S1", "van-2"), ("S2", "van-1"), ("S1", "van-1")])
def test_a_serial_number_and_a_vehicle_stand_on_the_list_once(fleet, words):
    fleet.good("allow", "add", "S1", "van-1")
    done = fleet("allow", "add", *words)
    assert isinstance(done.exception, FleetError)
    assert "fleet allow remove S1" in done.exception.hint
    assert len(fleet.json("allow", "list")) == 1


@pytest.mark.parametrize(
    "words", [("a b", "van-1"), ("", "van-1"), ("S1", "van/1"), ("S1", "v" * 65), ("S1", "")]
)
def test_what_cannot_be_a_serial_number_or_a_vehicle_is_refused(fleet, words):
    assert isinstance(fleet("allow", "add", *words).exception, ConfigError)
    assert not fleet.data.exists()


def import_file(fleet, text):
    path = fleet.folder / "boards.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return fleet("allow", "import", path)


@pytest.mark.parametrize(
    "text",
    [
        "serial_number,vehicle_id,vehicle_type\nS1,van-1,van\nS2,van-2,bus\n",
        "\ufeffvehicle_type;vehicle_id;serial_number\r\nvan;van-1;S1\r\n\r\nbus;van-2;S2\r\n",
        'Serial_Number,Vehicle_Id,vehicle_type,depot\n"S1",van-1, van,"Berlin, M."\nS2,van-2,bus',
    ],
)
def test_a_csv_file_is_imported_as_spreadsheets_write_it(fleet, text):
    done = import_file(fleet, text)
    assert done.exit_code == 0, done.exception
    assert "added: 2" in done.output
    rows = [(one["serial_number"], one["vehicle_type"]) for one in fleet.json("allow", "list")]
    assert rows == [("S1", "van"), ("S2", "bus")]


def test_a_column_that_is_not_known_is_told(fleet):
    done = import_file(fleet, "serial_number,vehicle_id,depot\nS1,van-1,Berlin\n")
    assert "depot" in done.stderr


def test_the_same_file_can_be_imported_again_when_it_has_grown(fleet):
    assert import_file(fleet, "serial_number,vehicle_id\nS1,van-1\n").exit_code == 0
    done = import_file(fleet, "serial_number,vehicle_id\nS1,van-1\nS2,van-2\n")
    assert "added: 1, on the list already: 1" in done.output


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("S9,van/9", "'van/9' cannot be a vehicle_id"),
        ("a b,van-9", "'a b' cannot be a serial number"),
        ("S9", "'' cannot be a vehicle_id"),
        ("S1,van-9", "serial number S1 is van-1 already, by line 2"),
        ("S9,van-1", "van-1 is the board with serial number S1 already, by line 2"),
        ("S1,van-1", "by line 2"),
        ("S0,van-9", "S0 is van-0 already, by the allow list"),
        ("S9,van-0", "van-0 is the board with serial number S0 already, by the allow list"),
    ],
)
def test_a_line_that_cannot_be_taken_is_told_and_nothing_is_added(fleet, line, reason):
    fleet.good("allow", "add", "S0", "van-0")
    done = import_file(fleet, f"serial_number,vehicle_id\nS1,van-1\n{line}\nS2,van-2\n")
    assert isinstance(done.exception, ConfigError)
    assert f"boards.csv, line 3: {reason}" in str(done.exception) or (
        "line 3" in str(done.exception) and reason in str(done.exception)
    )
    assert "Nothing was added" in done.exception.hint
    assert len(fleet.json("allow", "list")) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no column serial_number and no column vehicle_id"),
        (b"serial_number\nS1\n", "no column vehicle_id"),
        (b"serial_number,vehicle_id,vehicle_id\nS1,a,b\n", "two columns"),
        (b'serial_number,vehicle_id\n"S1,van-1\n', "no CSV"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_what_is_no_such_file_is_refused(fleet, content, reason):
    done = import_file(fleet, content)
    assert isinstance(done.exception, ConfigError)
    assert reason in str(done.exception)


def test_many_faults_are_told_up_to_a_screenful(fleet):
    lines = "\n".join(f"S{number},van/{number}" for number in range(100))
    done = import_file(fleet, f"serial_number,vehicle_id\n{lines}\n")
    assert str(done.exception).count("line ") == MAX_FAULTS_SHOWN
    assert "and 80 more" in str(done.exception)


def test_a_file_that_is_not_there_is_named(fleet):
    done = fleet("allow", "import", "no-such.csv")
    assert isinstance(done.exception, ConfigError)
    assert "no-such.csv" in str(done.exception)


def test_lines_can_come_on_standard_input(fleet):
    fleet.good("allow", "import", "-", input="serial_number,vehicle_id\nS1,van-1\n")
    assert len(fleet.json("allow", "list")) == 1


PRESENT = [AllowedVehicle("S1", "van-1")]


@given(st.text(max_size=300) | st.text(alphabet='serial_number,vehicle_id\n";S1van-', max_size=200))
def test_any_text_is_a_list_without_doubles_or_an_error(text):
    for heading in ("", "serial_number,vehicle_id\n"):
        try:
            asked = parse_csv(heading + text, PRESENT, "boards.csv")
        except ConfigError:
            continue
        serials = [one.serial_number for one in [*PRESENT, *asked.new]]
        vehicles = [one.vehicle_id for one in [*PRESENT, *asked.new]]
        assert len(set(serials)) == len(serials)
        assert len(set(vehicles)) == len(vehicles)


def test_vehicles_are_listed_with_what_their_certificates_allow(fleet):
    held = fleet.vehicle("van-1")
    fleet.vehicle("van-2")
    fleet.good("block", "van-2")
    listed = {one["vehicle_id"]: one["state"] for one in fleet.json("list")}
    assert listed == {"van-1": "active", "van-2": "blocked"}
    shown = fleet.good("list")
    assert held.certificate_id[:12] in shown
    assert [one["vehicle_id"] for one in fleet.json("list", "--expires-within", 31)] == [
        "van-1",
        "van-2",
    ]
    assert fleet.json("list", "--expires-within", 29) == []


def test_a_vehicle_is_described_blocked_unblocked_and_revoked(fleet):
    held = fleet.vehicle("van-1")
    assert held.certificate_id[:12] in fleet.good("describe", "van-1")
    assert fleet.json("block", "van-1") == {"vehicle_id": "van-1", "state": "blocked"}
    assert fleet.json("describe", "van-1")["state"] == "blocked"
    fleet.good("unblock", "van-1")
    assert fleet.json("describe", "van-1")["state"] == "active"
    assert fleet.json("revoke", "van-1", "--yes")[0]["status"] == "REVOKED"
    assert fleet.json("describe", "van-1")["state"] == "revoked"


def test_a_board_that_was_never_seen_can_be_blocked_and_unblocked(fleet):
    fleet.good("allow", "add", "S1", "van-1")
    fleet.good("block", "van-1")
    assert fleet.json("allow", "list")[0]["state"] == "blocked"
    fleet.good("unblock", "van-1")
    assert fleet.json("allow", "list")[0]["state"] == "waiting"


def test_a_board_that_has_not_registered_yet_is_told_of(fleet):
    fleet.good("allow", "add", "S1", "van-1")
    assert "have not registered yet: 1" in fleet.good("list")
    assert "board S1 has not registered yet" in fleet.good("describe", "van-1")
    assert fleet.json("describe", "van-1")["state"] == "waiting"
    fleet.good("block", "van-1")
    assert "board S1 is blocked" in fleet.good("describe", "van-1")


def test_a_board_of_a_vehicle_that_was_revoked_may_not_register_again(fleet):
    fleet.good("allow", "add", "S1", "van-1")
    fleet.vehicle("van-1")
    fleet.good("revoke", "van-1", "--yes")
    assert fleet.json("allow", "list")[0]["state"] == "blocked"


@pytest.mark.parametrize(
    "words", [("describe",), ("block",), ("unblock",), ("revoke", "--yes"), ("revoke",)]
)
def test_a_vehicle_that_there_is_not_is_an_error_with_a_hint(fleet, words):
    fleet.vehicle("van-1")
    done = fleet(words[0], "van-9", *words[1:])
    assert isinstance(done.exception, FleetError)
    assert "fleet list" in done.exception.hint


def test_rotate_makes_a_job_for_each_vehicle(fleet):
    fleet.vehicle("van-1")
    told = fleet.good("rotate", "van-1")
    assert "jobs describe" in told
    (job,) = json.loads(
        CliRunner().invoke(cli, ["jobs", "list", "--data", str(fleet.data), "--json"]).output
    )
    assert job["operation"] == "rotate"


def test_a_directory_without_data_is_an_error_and_stays_so(fleet):
    for words in (("list",), ("allow", "list"), ("claim", "list"), ("block", "van-1")):
        assert isinstance(fleet(*words).exception, ConfigError)
    assert not fleet.data.exists()


def test_errors_are_told_without_a_traceback(tmp_path):
    done = milepost_cloud("fleet", "describe", "van-1", "--data", tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_shell_completes_the_names_of_vehicles(fleet):
    for vehicle_id in ("van-1", "van-2", "bus-1"):
        fleet.vehicle(vehicle_id)
    words = f"milepost-cloud fleet describe --data {fleet.data} va"
    done = CliRunner().invoke(
        cli,
        prog_name="milepost-cloud",
        env={
            "_MILEPOST_CLOUD_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert sorted(line.partition(",")[2] for line in done.output.split()) == ["van-1", "van-2"]


def test_completion_makes_no_files(fleet):
    before = set(Path.cwd().iterdir())
    CliRunner().invoke(
        cli,
        prog_name="milepost-cloud",
        env={
            "_MILEPOST_CLOUD_COMPLETE": "bash_complete",
            "COMP_WORDS": f"milepost-cloud fleet describe --data {fleet.data} v",
            "COMP_CWORD": "5",
        },
    )
    assert not fleet.data.exists()
    assert set(Path.cwd().iterdir()) == before
    assert os.environ.get("COMP_WORDS") is None
