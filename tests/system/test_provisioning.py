"""From a bare board to a vehicle: the agent's `provision` against the whole one-machine cloud.

The board is killed (SIGKILL) at each step in turn; MILEPOST_FULL=1 kills it before every
single change of the file system, too. It must end with one identity that connects, and
with no other certificate active.
"""

import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from agent.identity import IdentityStore
from agent.provision.failures import Cause
from tests.conftest import ROOT
from tests.fakes.killed_provisioning import POINTS
from tests.fakes.one_machine import Vehicle, milepost_cloud, running_cloud, wait_until

pytestmark = pytest.mark.timeout(600)
NUMBERS = itertools.count(1000)
EVERY = 60 if os.environ.get("MILEPOST_FULL") == "1" else 0
"""More changes than there are: the first number that kills nothing is the last."""


class Fleet:
    """A running cloud, a claim certificate of it, and its registry."""

    def __init__(self, folder, cloud):
        self.folder, self.cloud = folder, cloud
        self.data = cloud.data_dir
        self.claim = folder / "claim"
        self.ask("fleet", "claim", "create", "--out", self.claim)

    def ask(self, *arguments):
        done = milepost_cloud(*arguments, "--data", self.data)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def allow(self, serial_number, vehicle_id):
        self.ask("fleet", "allow", "add", serial_number, vehicle_id)

    def certificates(self, vehicle_id):
        """Status of each certificate of a vehicle, by its id."""
        with closing(sqlite3.connect(self.data / "milepost.db", timeout=20)) as registry:
            rows = registry.execute(
                "SELECT certificate_id, status FROM certificates WHERE thing = ?", [vehicle_id]
            )
            return dict(rows.fetchall())

    def is_unused(self, number):
        with closing(sqlite3.connect(self.data / "milepost.db", timeout=20)) as registry:
            query = "SELECT connected_ms FROM certificates WHERE certificate_id = ?"
            return registry.execute(query, [number]).fetchone()[0] is None


class Board:
    """A config, a state directory, and commands in processes of their own."""

    def __init__(self, fleet, serial_number, host="localhost", claim=None):
        self.fleet = fleet
        self.claim = claim or fleet.claim
        self.folder = fleet.folder / serial_number
        self.folder.mkdir()
        self.store = IdentityStore(self.folder / "state")
        self.config = self.folder / "agent.toml"
        self.write_config(serial_number, host)

    def write_config(self, serial_number, host="localhost", template="milepost_by_claim"):
        self.config.write_text(f"""
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[broker]
host = "{host}"
port = {self.fleet.cloud.port}
ca_file = "{self.claim}/ca.pem"
server_name = "{"localhost" if host == "127.0.0.1" else ""}"
[provision]
template_name = "{template}"
claim_certificate_file = "{self.claim}/certificate.pem"
claim_key_file = "{self.claim}/key.pem"
parameters = {{ SerialNumber = "{serial_number}" }}
""")

    def run(self, module, *arguments):
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "IDENTITY_FOLDER": str(self.store.folder)},
        )

    def provision(self, *options):
        return self.run("agent", "provision", "--config", str(self.config), *options)

    def provision_killed_at(self, point):
        """Whether it was: a late point may never come."""
        words = ("--", "provision", "--config", str(self.config))
        done = self.run("tests.fakes.killed_provisioning", str(point), *words)
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        return done.returncode != 0

    @contextmanager
    def agent_runs(self):
        with (self.folder / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                cwd=ROOT,
                stderr=log,
            )
        try:
            yield
        finally:
            agent.terminate()
            agent.wait(30)
        assert agent.returncode == 0, (self.folder / "agent.log").read_text()

    def connects(self):
        identity = self.store.current()
        files = self.folder / "as-vehicle"
        files.mkdir()
        shutil.copy(self.fleet.claim / "ca.pem", files)
        shutil.copy(identity.certificate_file, files / "certificate.pem")
        shutil.copy(identity.key_file, files / "key.pem")
        with Vehicle(self.fleet.cloud.port, files, identity.vehicle_id) as vehicle:
            return vehicle.connect()

    def must_be(self, vehicle_id):
        """It has one identity, it connects, and no other certificate is active."""
        identity = self.store.current()
        assert identity.vehicle_id == vehicle_id
        assert self.store.pending() is None
        statuses = self.fleet.certificates(vehicle_id)
        active = [number for number, status in statuses.items() if status == "ACTIVE"]
        assert active == [identity.certificate_id], statuses
        assert self.connects()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    with running_cloud(folder / "data") as cloud:
        yield Fleet(folder, cloud)


@pytest.fixture
def board(fleet):
    number = next(NUMBERS)
    fleet.allow(f"serial-{number}", f"van-{number}")
    return Board(fleet, f"serial-{number}")


def name_of(board):
    return board.folder.name.replace("serial-", "van-", 1)


def test_a_board_on_the_allow_list_becomes_a_vehicle_and_the_agent_delivers(board, fleet):
    done = board.provision()
    assert done.returncode == 0, done.stderr
    assert f"this vehicle is {name_of(board)}" in done.stdout
    number = board.store.current().certificate_id
    with board.agent_runs():
        wait_until(lambda: not fleet.is_unused(number), "the agent's connection", 60)
    last_run = json.loads((board.folder / "state" / "last-run.json").read_text())
    assert last_run["vehicle_id"] == name_of(board)
    board.must_be(name_of(board))


def test_without_awscrt_a_board_becomes_a_vehicle_too(fleet):
    fleet.allow("serial-paho", "van-paho")
    board = Board(fleet, "serial-paho", host="127.0.0.1")
    done = board.provision()
    assert done.returncode == 0, done.stderr
    board.must_be("van-paho")


def test_a_board_that_is_not_on_the_allow_list_is_told_so_and_goes_on_once_it_is(fleet):
    board = Board(fleet, "serial-unknown")
    done = board.provision()
    assert done.returncode == Cause.REJECTED.exit_code, done.stderr
    assert "AccessDenied" in done.stderr
    assert "fleet allow list" in done.stderr
    fleet.allow("serial-unknown", "van-unknown")
    assert board.provision().returncode == 0
    board.must_be("van-unknown")


def test_a_second_board_of_one_serial_number_is_refused(board, fleet):
    assert board.provision().returncode == 0
    board.must_be(name_of(board))
    clone = Board(fleet, f"{board.folder.name}-clone")
    clone.write_config(board.folder.name)
    assert clone.provision().returncode == Cause.REJECTED.exit_code
    assert clone.store.current() is None


def test_a_vehicle_whose_card_was_replaced_is_let_in_again_and_its_old_identity_retires(
    board, fleet
):
    serial_number, vehicle_id = board.folder.name, name_of(board)
    assert board.provision().returncode == 0
    first = board.store.current().certificate_id
    assert board.connects()
    shutil.rmtree(board.folder / "state")
    assert board.provision().returncode == Cause.REJECTED.exit_code
    fleet.ask("fleet", "allow", "remove", serial_number, "--yes")
    fleet.allow(serial_number, vehicle_id)
    assert board.provision().returncode == 0
    with board.agent_runs():
        wait_until(
            lambda: fleet.certificates(vehicle_id)[first] == "INACTIVE", "the settlement", 60
        )
    shutil.rmtree(board.folder / "as-vehicle")
    board.must_be(vehicle_id)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_template_that_the_claim_may_not_use_is_told(fleet, host):
    board = Board(fleet, f"serial-template-{host}")
    board.write_config("serial-template", host, template="another")
    done = board.provision()
    assert done.returncode == Cause.WRONG_TEMPLATE.exit_code, done.stderr
    assert "provision.template_name" in done.stderr


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_claim_that_was_revoked_is_told(fleet, host):
    claim = fleet.folder / f"claim-{host}"
    fleet.ask("fleet", "claim", "create", f"lot-{host}", "--out", claim)
    fleet.ask("fleet", "claim", "revoke", f"lot-{host}", "--yes")
    board = Board(fleet, f"serial-revoked-{host}", host, claim)
    done = board.provision()
    assert done.returncode == Cause.CLAIM_REFUSED.exit_code, done.stderr
    assert "fleet claim list" in done.stderr


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step_it_ends_with_one_identity_and_no_orphan(board, point):
    assert board.provision_killed_at(point)
    if EVERY:  # and once more, wherever it goes on now
        board.provision_killed_at(point)
    done = board.provision()
    assert done.returncode == 0, done.stderr
    board.must_be(name_of(board))


def test_killed_after_the_registration_and_back_an_hour_later_the_first_one_is_retired(
    board, fleet
):
    assert board.provision_killed_at("registration answered")
    [(first, status)] = fleet.certificates(name_of(board)).items()
    assert status == "ACTIVE"
    journal = board.store.folder / "pending" / "journal.json"
    text = re.sub(r'"received_at": "\d+', '"received_at": "2001', journal.read_text())
    journal.write_text(text)
    assert board.provision().returncode == 0
    assert fleet.certificates(name_of(board))[first] == "INACTIVE"
    board.must_be(name_of(board))


@pytest.mark.skipif(not EVERY, reason="MILEPOST_FULL=1 kills before every change of a file")
def test_killed_before_any_change_of_the_file_system_it_ends_with_one_identity(fleet):
    for change in range(EVERY):
        fleet.allow(f"serial-{change}", f"van-{change}")
        board = Board(fleet, f"serial-{change}")
        was_killed = board.provision_killed_at(change)
        done = board.provision()
        assert done.returncode == 0, f"after {change} changes: {done.stderr}"
        board.must_be(f"van-{change}")
        if not was_killed:
            break
    else:
        pytest.fail("there are more changes than were tried")
    assert change > 15
