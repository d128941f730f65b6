"""Rotation of a vehicle whose keys are in a PKCS#11 token (SoftHSM)."""

import pytest

from agent.control import ask, tell
from agent.errors import ControlError
from tests.fakes.mosquitto import Mosquitto, MosquittoSub
from tests.fakes.one_machine import wait_until
from tests.fakes.pki import Pki
from tests.fakes.provisioning_peer import ACL as CLAIM_ACL
from tests.fakes.provisioning_peer import ProvisioningPeer
from tests.fakes.rotation_peer import ACL as ROTATION_ACL
from tests.fakes.rotation_peer import RotationPeer
from tests.fakes.token_board import TokenBoard

pytestmark = [
    pytest.mark.needs("softhsm2-util", "mosquitto", "mosquitto_sub"),
    pytest.mark.timeout(300),
]
pytest.importorskip("pkcs11", reason="the extra provision-pkcs11 is not installed")
pytest.importorskip("awsiot", reason="awscrt is not installed")


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path / "pki")


@pytest.fixture
def broker(tmp_path, pki, free_port):
    acl = (
        CLAIM_ACL
        + ROTATION_ACL.replace("user listener", "")
        + "\nuser serial-1\ntopic readwrite #\n"
    )
    with Mosquitto(tmp_path / "mosquitto", pki.broker(), free_port(), acl=acl) as running:
        yield running


def test_the_next_key_is_made_in_the_token_and_the_one_before_it_stays_until_it_is_retired(
    tmp_path, tmp_path_factory, broker, pki
):
    board = TokenBoard(tmp_path, broker.port, pki, run_dir=tmp_path_factory.mktemp("r"))
    listener = pki.vehicle("listener")
    with ProvisioningPeer(pki, listener, broker.port):
        done = board.provision()
        assert done.returncode == 0, done.stderr
    agent = board.start_agent()

    def identity():
        assert agent.poll() is None, board.log()
        try:
            account = ask(board.run_dir)
        except ControlError:
            return None
        return account["connected"] and account["identity"]

    try:
        first = wait_until(identity, "a connection", 60)
        assert first["valid_until"]
        with (
            RotationPeer(pki, listener, broker.port, "van-7"),
            MosquittoSub(listener, broker.port, "status/#") as witness,
        ):
            tell(board.run_dir, "rotate")
            last = wait_until(lambda: (identity() or {}).get("last_rotation"), "the end", 90)
            assert last["succeeded"], last["reason"]
            witness.wait_for("status/van-7", 1, 60)
        assert identity()["certificate_id"] != first["certificate_id"]
    finally:
        agent.terminate()
        assert agent.wait(30) == 0, board.log()
    now = board.store.current()
    assert (now.generation, now.key_label, now.key_file) == (2, "vehicle-key-2", None)
    assert board.private_keys() == [["vehicle-key-1", False], ["vehicle-key-2", False]]
    assert not list(board.folder.glob("state/**/key.pem"))
