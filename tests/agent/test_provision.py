"""`milepost-agent provision` against a service that answers well, badly, late or not at all.

Each case runs on AWS's client and on the agent's paho transport. The peer is scripted, on a
real Mosquitto whose access list lets the claim do nothing but provision.
"""

import json
import re
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from agent.cli import cli
from agent.identity import IdentityStore
from agent.provision import reach
from agent.provision.failures import Cause
from tests.conftest import ROOT
from tests.fakes.certificate_peer import CSR, for_another_key, rejected, says, silent, twice
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.mqtt_peer import MqttPeer
from tests.fakes.pki import Pki
from tests.fakes.provisioning_peer import ACL, REGISTER, ProvisioningPeer

pytestmark = pytest.mark.needs("mosquitto")
CLIENTS = {"awsiotsdk": "localhost", "paho": "127.0.0.1"}
"""awscrt cannot check a certificate against another name than the host's: then paho is taken."""

EXIT = {cause.name: cause.exit_code for cause in Cause}


class Board:
    """A config and a state directory; ``provision`` runs the command in this process."""

    def __init__(self, folder, pki, port, client="awsiotsdk"):
        self.folder, self.pki, self.port = folder, pki, port
        self.claim = pki.vehicle("claim")
        self.host = CLIENTS[client]
        self.template = "milepost_by_claim"
        self.ca_file = self.claim.ca_file
        self.store = IdentityStore(folder / "state")
        self.extra = ""

    def write_config(self):
        path = self.folder / "agent.toml"
        path.write_text(f"""
[state]
dir = "state"
[broker]
host = "{self.host}"
port = {self.port}
ca_file = "{self.ca_file}"
server_name = "{"localhost" if self.host == "127.0.0.1" else ""}"
{self.extra}
[provision]
template_name = "{self.template}"
claim_certificate_file = "{self.claim.certificate_file}"
claim_key_file = "{self.claim.key_file}"
parameters = {{ SerialNumber = "serial-1" }}
answer_timeout_s = 3
clock_wait_s = 0
""")
        return path

    def provision(self, *options, answer=None):
        arguments = ["provision", "--config", str(self.write_config()), *options]
        return CliRunner().invoke(cli, arguments, input=answer)

    def fails_with(self, cause, *options):
        result = self.provision(*options)
        assert result.exit_code == EXIT[cause], result.output
        return result.output


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(autouse=True)
def _verdicts_come_soon_on_loopback(monkeypatch):
    monkeypatch.setattr(reach, "_VERDICT_S", 0.2)


@pytest.fixture
def broker(tmp_path, pki, free_port):
    with Mosquitto(tmp_path / "mosquitto", pki.broker(), free_port(), acl=ACL) as running:
        yield running


@pytest.fixture
def peer(pki, broker):
    with ProvisioningPeer(pki, pki.vehicle("listener"), broker.port) as running:
        yield running


@pytest.fixture(params=sorted(CLIENTS))
def board(request, tmp_path, pki, broker):
    return Board(tmp_path, pki, broker.port, request.param)


@pytest.fixture
def any_board(tmp_path, pki, broker):
    return Board(tmp_path, pki, broker.port)


def test_a_board_gets_a_key_a_certificate_and_a_name(board, peer):
    result = board.provision()
    assert result.exit_code == 0, result.output
    assert "provisioned: this vehicle is van-7" in result.output
    identity = board.store.current()
    key = load_pem_private_key(identity.key_file.read_bytes(), None)
    certificate = load_pem_x509_certificate(identity.certificate_file.read_bytes())
    assert certificate.public_key() == key.public_key()
    [(_, asked), (_, registered)] = peer.requests
    assert list(asked) == ["certificateSigningRequest"]
    assert registered["parameters"]["SerialNumber"] == "serial-1"
    assert b"PRIVATE" not in json.dumps(peer.requests).encode()
    assert board.store.pending() is None


def test_the_second_time_nothing_is_asked(board, peer):
    board.provision()
    asked = len(peer.requests)
    result = board.provision("--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["result"] == "already-provisioned"
    assert len(peer.requests) == asked


def test_a_new_identity_is_only_got_when_it_is_meant(board, peer):
    board.provision()
    assert board.provision("--force", answer="n\n").exit_code == 1
    assert board.store.current().generation == 1
    assert board.provision("--force", "--yes").exit_code == 0
    assert board.store.current().generation == 2
    assert [one.generation for one in board.store.others()] == [1]


@pytest.mark.parametrize("topic", [CSR, REGISTER])
def test_silence_is_told_and_the_next_try_goes_on(board, peer, topic):
    peer.spoil[topic] = [silent]
    assert "in 3 s" in board.fails_with("NO_ANSWER")
    key = board.store.pending().key_file.read_bytes()
    assert board.provision().exit_code == 0
    assert board.store.current().key_file.read_bytes() == key
    assert len(peer.issued) == 1, "the certificate that was got is not asked for again"


def test_what_the_hook_says_reaches_the_installer(board, peer):
    peer.spoil[REGISTER] = [rejected(403, "AccessDenied", "serial-1 is not on the list")]
    output = board.fails_with("REJECTED")
    assert "(403): AccessDenied, serial-1 is not on the list" in output
    assert "fleet allow list" in output
    assert board.store.current() is None


def test_a_template_that_the_service_does_not_know_is_told(board, peer):
    peer.spoil[REGISTER] = [rejected(404, "ResourceNotFoundException", "no template")]
    assert "provision.template_name" in board.fails_with("WRONG_TEMPLATE")


@pytest.mark.parametrize("topic", [CSR, REGISTER])
@pytest.mark.parametrize(
    "answer",
    [b"{", b"[]", b"\xff\xfe", b"", b"[" * 100_000, {}, {"certificateId": 5, "thingName": ["v"]}],
    ids=["cut", "list", "no-text", "empty", "deep", "nothing", "types"],
)
def test_an_answer_that_cannot_be_used_is_told(board, peer, topic, answer):
    peer.spoil[topic] = [says(answer)]
    board.fails_with("BAD_ANSWER")
    assert board.store.current() is None


@pytest.mark.parametrize(
    "answer", [b"{", b"", b"null", {"errorCode": 5}], ids=["cut", "empty", "null", "types"]
)
def test_a_rejection_that_cannot_be_read_is_a_failure_too(board, peer, answer):
    peer.spoil[REGISTER] = [says(answer, "rejected")]
    result = board.provision()
    assert result.exit_code in {EXIT["BAD_ANSWER"], EXIT["REJECTED"]}, result.output


def test_a_name_that_no_vehicle_can_have_is_refused(board, peer):
    peer.spoil[REGISTER] = [says({"thingName": "van/7"})]
    assert "van/7" in board.fails_with("BAD_ANSWER")


def test_a_certificate_for_another_key_is_refused(board, peer):
    peer.spoil[CSR] = [for_another_key]
    assert "another key" in board.fails_with("BAD_ANSWER")
    assert board.store.pending().certificate is None


def test_a_huge_answer_is_survived(board, peer):
    peer.spoil[CSR] = [says(b'{"certificatePem": "' + b"x" * 2_000_000 + b'"}')]
    result = board.provision()
    assert result.exit_code in {EXIT["BAD_ANSWER"], EXIT["NO_ANSWER"]}, result.output
    assert board.provision().exit_code == 0


def test_an_answer_that_comes_twice_makes_one_identity(board, peer):
    peer.spoil[CSR] = [twice]
    peer.spoil[REGISTER] = [twice]
    assert board.provision().exit_code == 0
    assert board.store.current().generation == 1


def test_an_answer_that_comes_late_is_as_good_as_one_in_time(board, peer):
    first = []
    peer.spoil[CSR] = [
        lambda _peer, _topic, request: first.append(request),
        lambda _peer, topic, request: (
            peer.answer_well(topic, first[0]),
            peer.answer_well(topic, request),
        ),
    ]
    board.fails_with("NO_ANSWER")
    assert board.provision().exit_code == 0
    assert board.store.current().vehicle_id == "van-7"


def test_a_token_that_does_not_count_any_more_is_replaced_and_the_key_stays(board, peer):
    busy = rejected(503, "ServiceUnavailable", "later")
    expired = rejected(400, "InvalidCertificateOwnershipToken", "expired")
    peer.spoil[REGISTER] = [busy, expired]
    board.fails_with("REJECTED")
    key = board.store.pending().key_file.read_bytes()
    assert board.provision().exit_code == 0
    assert len(peer.issued) == 2
    assert board.store.current().key_file.read_bytes() == key


def test_a_token_of_more_than_an_hour_is_not_tried(board, peer):
    peer.spoil[REGISTER] = [rejected(503, "ServiceUnavailable", "later")]
    board.fails_with("REJECTED")
    journal = board.store.folder / "pending" / "journal.json"
    text = re.sub(r'"received_at": "\d+', '"received_at": "2001', journal.read_text())
    journal.write_text(text)
    assert board.provision().exit_code == 0
    tokens = [request["certificateOwnershipToken"] for request in peer.asked(REGISTER)]
    assert tokens == ["token-0", "token-1"]


# --- before anything is asked --------------------------------------------------------


def test_a_claim_that_is_not_there_is_told_with_its_place(any_board):
    any_board.claim.certificate_file.rename(any_board.folder / "away")
    output = any_board.fails_with("CLAIM_UNUSABLE")
    (any_board.folder / "away").rename(any_board.claim.certificate_file)
    assert str(any_board.claim.certificate_file) in output
    assert "fleet claim create" in output


@pytest.mark.parametrize("what", ["no-pem", "other-key", "expired"])
def test_a_claim_that_cannot_be_used_is_told(any_board, pki, tmp_path, what):
    if what == "no-pem":
        (tmp_path / "der").write_bytes(b"\x30\x82")
        any_board.claim = type(any_board.claim)(
            any_board.ca_file, tmp_path / "der", any_board.claim.key_file
        )
    elif what == "other-key":
        any_board.claim = type(any_board.claim)(
            any_board.ca_file, any_board.claim.certificate_file, pki.vehicle("x").key_file
        )
    else:
        any_board.claim = Pki(tmp_path / "old").vehicle("claim", valid_days=(-5, -1))
    output = any_board.fails_with("CLAIM_UNUSABLE")
    assert "claim" in output
    assert not any_board.store.folder.joinpath("pending").exists()


def test_a_board_whose_clock_is_before_the_claim_says_so(any_board, tmp_path):
    any_board.claim = Pki(tmp_path / "later").vehicle("claim", valid_days=(1, 5))
    output = any_board.fails_with("CLOCK_NOT_SET")
    assert "clock is not set" in output
    assert "chrony" in output


def test_a_broker_that_is_not_there_is_told(any_board, free_port):
    any_board.port = free_port()
    assert "cannot be reached" in any_board.fails_with("NO_NETWORK")


def test_a_name_that_cannot_be_resolved_is_told(any_board):
    any_board.host = "a" * 64 + ".example"
    assert "cannot be resolved" in any_board.fails_with("NO_NETWORK")


def test_a_broker_of_another_ca_is_not_trusted(any_board, tmp_path):
    any_board.ca_file = Pki(tmp_path / "other", name="Other CA").ca_file
    assert "broker.ca_file" in any_board.fails_with("BROKER_NOT_TRUSTED")


def test_a_claim_of_another_ca_is_refused(board, tmp_path):
    board.claim = Pki(tmp_path / "other", name="Other CA").vehicle("claim")
    assert "does not know the CA" in board.fails_with("CLAIM_REFUSED")


def test_a_claim_that_the_broker_refuses_in_mqtt_is_told(board, pki):
    with MqttPeer(pki.broker(), connack=5) as refusing:
        board.port = refusing.port
        assert "refuses the claim certificate" in board.fails_with("CLAIM_REFUSED")


def test_a_broker_that_says_nothing_to_connect_is_told(board, pki):
    with MqttPeer(pki.broker(), connack=None) as dumb:
        board.port = dumb.port
        board.fails_with("NO_ANSWER")


def test_a_state_directory_that_cannot_be_used_is_told(any_board):
    (any_board.folder / "state").write_text("a file")
    assert "state.dir" in any_board.fails_with("STATE_UNUSABLE")


def test_a_full_disk_is_told_and_nothing_is_asked(any_board, peer):
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
        "from agent.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "provision", "--config", any_board.write_config()],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == EXIT["STATE_UNUSABLE"], done.stderr
    assert "must have room" in done.stderr
    assert peer.requests == []


def test_two_do_not_provision_at_once(any_board, peer):
    with any_board.store.locked():
        assert "another process" in any_board.fails_with("STATE_UNUSABLE")
    assert peer.requests == []


def test_a_config_that_is_wrong_is_told_as_everywhere(any_board):
    any_board.extra = "colour = 5"
    assert any_board.provision().exit_code == 2


# --- how it is used ------------------------------------------------------------------


def test_a_dry_run_shows_what_would_be_sent_and_changes_nothing(any_board, peer):
    result = any_board.provision("--dry-run")
    assert result.exit_code == 0, result.output
    assert "SerialNumber = serial-1 (from provision.parameters.SerialNumber)" in result.output
    assert "TLSv1.3" in result.output
    assert not (any_board.folder / "state").exists()
    assert peer.requests == []


def test_a_dry_run_tells_every_fault_and_ends_with_the_first_ones_code(
    any_board, tmp_path, free_port
):
    any_board.port = free_port()
    any_board.claim = Pki(tmp_path / "later").vehicle("claim", valid_days=(1, 5))
    result = any_board.provision("--dry-run", "--json")
    assert result.exit_code == EXIT["CLOCK_NOT_SET"], result.output
    report = json.loads(result.stdout)
    assert [check["name"] for check in report["checks"] if check["fault"]] == ["clock", "broker"]


def test_the_outcome_is_there_as_json(any_board, peer):
    peer.spoil[REGISTER] = [rejected(403, "AccessDenied", "no")]
    failed = json.loads(any_board.provision("--json").stdout)
    assert (failed["result"], failed["cause"], failed["exit_code"], failed["error_code"]) == (
        "failed",
        "rejected",
        EXIT["REJECTED"],
        "AccessDenied",
    )
    done = json.loads(any_board.provision("--json").stdout)
    assert (done["result"], done["vehicle_id"]) == ("provisioned", "van-7")


def test_with_wait_a_board_without_a_network_is_provisioned_when_there_is_one(
    any_board, pki, tmp_path, free_port
):
    any_board.port = free_port()
    results = []
    waiting = threading.Thread(target=lambda: results.append(any_board.provision("--wait")))
    waiting.start()
    waiting.join(2)
    assert waiting.is_alive()
    broker = Mosquitto(tmp_path / "broker", pki.broker(), any_board.port, acl=ACL)
    with broker, ProvisioningPeer(pki, pki.vehicle("listener"), any_board.port):
        waiting.join(60)
        assert not waiting.is_alive()
    assert results[0].exit_code == 0, results[0].output
    assert "trying again in" in results[0].output


def test_with_wait_what_a_person_must_mend_on_the_board_ends_it(any_board, tmp_path):
    any_board.claim = Pki(tmp_path / "old").vehicle("claim", valid_days=(-5, -1))
    any_board.fails_with("CLAIM_UNUSABLE", "--wait")


def test_every_exit_code_stands_in_the_page():
    page = (ROOT / "docs" / "provisioning.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|.*\| (\w+) \|$", page, re.MULTILINE)
    assert rows == [(str(one.exit_code), one.name.lower(), one.retry.value) for one in Cause]
