"""A vehicle's key that is made in a PKCS#11 token (SoftHSM) and never is outside of it.

All in processes of their own: a PKCS#11 library is loaded once in a process and keeps to
the tokens that it found then.
"""

import json
import signal

import pytest

from agent.provision.failures import Cause
from tests.fakes.mosquitto import Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.fakes.provisioning_peer import ACL, ProvisioningPeer
from tests.fakes.token_board import TokenBoard

pytestmark = pytest.mark.needs("softhsm2-util", "mosquitto", "mosquitto_sub")
pytest.importorskip("pkcs11", reason="the extra provision-pkcs11 is not installed")
pytest.importorskip("awsiot", reason="awscrt is not installed")


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
    return TokenBoard(tmp_path, broker.port, pki)


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
