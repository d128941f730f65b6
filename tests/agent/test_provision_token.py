"""A vehicle's key that is made in a PKCS#11 token (SoftHSM) and never is outside of it.

All in processes of their own: a PKCS#11 library is loaded once in a process and keeps to
the tokens that it found then.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.identity import IdentityStore
from agent.provision.failures import Cause
from tests.conftest import ROOT
from tests.fakes.mosquitto import Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.fakes.provisioning_peer import ACL, ProvisioningPeer

pytestmark = pytest.mark.needs("softhsm2-util", "mosquitto", "mosquitto_sub")
pytest.importorskip("pkcs11", reason="the extra provision-pkcs11 is not installed")
pytest.importorskip("awsiot", reason="awscrt is not installed")
PIN = "4321"
LABELS = """
import json, sys, pkcs11
token = pkcs11.lib(sys.argv[1]).get_token(token_label="van")
with token.open(user_pin=sys.argv[2]) as session:
    private = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
    keys = [[key.label, bool(key[pkcs11.Attribute.EXTRACTABLE])]
            for key in session.get_objects(private)]
print(json.dumps(sorted(keys)))
"""


class Board:
    def __init__(self, folder, port, pki):
        self.folder, self.port = folder, port
        self.claim = pki.vehicle("claim")
        self.module = next(Path("/usr/lib").rglob("libsofthsm2.so"))
        (folder / "tokens").mkdir()
        hsm = folder / "softhsm2.conf"
        hsm.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(hsm)}
        new = ["--init-token", "--free", "--label", "van", "--so-pin", "1234", "--pin", PIN]
        self._run("softhsm2-util", *new, check=True)
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN)
        self.pin_file.chmod(0o600)
        self.store = IdentityStore(folder / "state")
        self.config = folder / "agent.toml"
        self.write_config()

    def write_config(self, *, module=None, label="van"):
        self.config.write_text(f"""
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[broker]
host = "localhost"
port = {self.port}
ca_file = "{self.claim.ca_file}"
transport = "awscrt"
[broker.pkcs11]
module_file = "{module or self.module}"
token_label = "{label}"
key_label = "vehicle-key"
pin_file = "pin"
[provision]
claim_certificate_file = "{self.claim.certificate_file}"
claim_key_file = "{self.claim.key_file}"
parameters = {{ SerialNumber = "serial-1" }}
""")

    def _run(self, *words, check=False):
        return subprocess.run(
            words,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=check,
            env=self.environment,
        )

    def provision(self, *options, killed_at=None):
        program = ["-m", "agent"]
        if killed_at:
            program = ["-m", "tests.fakes.killed_provisioning", killed_at, "--"]
        words = ("provision", "--config", str(self.config), *options)
        return self._run(sys.executable, *program, *words)

    def private_keys(self):
        done = self._run(sys.executable, "-c", LABELS, str(self.module), PIN, check=True)
        return json.loads(done.stdout)

    def start_agent(self):
        with (self.folder / "agent.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                cwd=ROOT,
                stderr=log,
                env=self.environment,
            )


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path / "pki")


@pytest.fixture
def broker(tmp_path, pki, free_port):
    acl = ACL + "\nuser serial-1\ntopic readwrite #\n"
    with Mosquitto(tmp_path / "mosquitto", pki.broker(), free_port(), acl=acl) as running:
        yield running


@pytest.fixture
def board(tmp_path, broker, pki):
    return Board(tmp_path, broker.port, pki)


def test_the_key_is_made_in_the_token_and_the_agent_connects_with_it(board, broker, pki):
    with ProvisioningPeer(pki, pki.vehicle("listener"), broker.port):
        done = board.provision()
        assert done.returncode == 0, done.stderr
        again = board.provision("--force", "--yes")
        assert again.returncode == 0, again.stderr
    identity = board.store.current()
    assert (identity.key_file, identity.key_label) == (None, "vehicle-key-2")
    assert board.private_keys() == [
        ["vehicle-key-1", False],
        ["vehicle-key-2", False],
    ]
    assert not list(board.folder.glob("state/**/key.pem"))
    with MosquittoSub(pki.vehicle("listener"), broker.port) as listener:
        agent = board.start_agent()
        try:
            [status, *_] = listener.wait_for("status/van-7", 1, 60)
            assert json.loads(status)["state"] == "online"
        finally:
            agent.terminate()
            assert agent.wait(30) == 0, (board.folder / "agent.log").read_text()


def test_a_key_that_a_power_cut_left_without_a_journal_is_replaced(board, broker, pki):
    for _ in range(2):
        assert board.provision(killed_at="key made").returncode == -signal.SIGKILL
    assert [label for label, _ in board.private_keys()] == ["vehicle-key-1"]
    with ProvisioningPeer(pki, pki.vehicle("listener"), broker.port):
        done = board.provision()
    assert done.returncode == 0, done.stderr
    assert [label for label, _ in board.private_keys()] == ["vehicle-key-1"]
    assert board.store.current().key_label == "vehicle-key-1"


@pytest.mark.parametrize("wrong", ["pin", "token", "module"])
def test_a_token_that_cannot_be_used_is_told(board, wrong):
    if wrong == "pin":
        board.pin_file.write_text("0000")
    elif wrong == "token":
        board.write_config(label="another")
    else:
        board.write_config(module="/nowhere.so")
    done = board.provision()
    assert done.returncode == Cause.KEY_UNUSABLE.exit_code, done.stderr
    assert "broker.pkcs11" in done.stderr
    if wrong == "pin":
        assert board.provision("--dry-run").returncode == Cause.KEY_UNUSABLE.exit_code
    assert "Traceback" not in done.stderr
    assert board.store.pending() is None
