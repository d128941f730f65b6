"""Rotation in the delivery, on both transports, against a real Mosquitto and scripted answers."""

import contextlib
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.config import BrokerSettings, IdentitySettings, TransportKind
from agent.errors import IdentityError
from agent.identity import IdentityStore
from agent.identity.due import Validity, due_at, why_due
from agent.identity.key_process import KeyProcess
from agent.identity.rotation import Rotation
from agent.inputs import SourceChanged
from contract import decode_batch
from tests.fakes.certificate_peer import (
    CSR,
    for_another_key,
    issued_by,
    rejected,
    says,
    silent,
)
from tests.fakes.delivering_vehicle import RealTime, make_delivery
from tests.fakes.mosquitto import Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.fakes.rotating_delivery import RotatingDelivery, keep_as_provisioned, until
from tests.fakes.rotation_peer import ACL, REGISTER, RotationPeer

needs_broker = pytest.mark.needs("mosquitto", "mosquitto_sub")
TELEMETRY = "telemetry/van-1"
EACH = os.environ.get("MILEPOST_POWER_CUTS") == "all"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def broker(tmp_path, pki, free_port):
    with Mosquitto(tmp_path / "broker", pki.broker(), free_port(), acl=ACL) as running:
        yield running


@pytest.fixture
def peer(broker, pki):
    with RotationPeer(pki, pki.vehicle("listener"), broker.port) as running:
        yield running


@pytest.fixture(params=list(TransportKind), ids=lambda kind: kind.value)
def library(request):
    return request.param


@pytest.fixture
def state(tmp_path, pki):
    """A state directory whose identity is one that provisioning left."""
    return keep_as_provisioned(tmp_path / "state", pki.vehicle("van-1"))


@pytest.fixture
def start(state, broker, pki):
    """A function that makes the vehicle; it runs inside ``with``."""

    def make(library=TransportKind.PAHO):
        return RotatingDelivery(state, broker.port, pki.ca_file, library)

    return make


def delivered(listener, run_id="0000000a"):
    """Sequences of all samples that came, with repetitions."""
    found = []
    for topic, payload in listener.messages:
        if topic == TELEMETRY:
            found.append(json.loads(payload))
        elif topic == f"{TELEMETRY}/batch":
            found += [sample.model_dump() for sample in decode_batch(payload)]
    return [one["sequence"] for one in found if one["run_id"] == run_id]


@pytest.fixture
def listener(broker, pki):
    with MosquittoSub(pki.vehicle("listener"), broker.port) as running:
        yield running


@needs_broker
def test_a_vehicle_rotates_twice_and_every_sample_arrives_once(start, peer, listener, library):
    with start(library) as vehicle:
        vehicle.online()
        for number, reason in ((2, "the first"), (3, "the second")):
            end = vehicle.rotate(reason)
            assert (end.succeeded, end.reason, end.number) == (True, reason, number - 1)
            current = vehicle.store.current()
            assert current.generation == number
            assert current.template == "milepost_rotation"
            assert (
                current.certificate_id == end.certificate_id == peer.issued[f"token-{number - 2}"]
            )
            assert vehicle.store.pending() is None
        at = vehicle.sequence
        until(lambda: vehicle.sequence > at + 10, "no more samples")
    sequences = delivered(listener)
    assert sorted(set(sequences)) == list(range(1, vehicle.sequence + 1))
    assert len(sequences) == len(set(sequences))
    assert vehicle.told == []
    offline = [one for one in listener.on("status/van-1") if b'"offline"' in one]
    assert len(offline) == 1, "a rotation looks like a loss from outside"
    # AWS gives its answers to the client that asked, by the certificate of that moment
    assert len({one["certificateSigningRequest"] for one in peer.asked(CSR)}) == 2


@needs_broker
def test_a_certificate_that_the_broker_refuses_is_left_and_the_present_one_goes_on(
    start, peer, listener, library, tmp_path
):
    peer.spoil[CSR].append(issued_by(Pki(tmp_path / "foreign", "Foreign CA")))
    with start(library) as vehicle:
        vehicle.online()
        end = vehicle.rotate()
        assert not end.succeeded
        assert "does not connect" in end.reason
        assert end.certificate_id == "c1"
        assert vehicle.store.current().generation == 1
        assert vehicle.store.pending() is None
        vehicle.online()
        assert [one.available for one in vehicle.told] == [False]
        assert vehicle.told[0].source == "identity"
        good = vehicle.rotate()
        assert good.succeeded
        assert vehicle.told[1] == SourceChanged("identity", available=True)
    sequences = delivered(listener)
    assert sorted(set(sequences)) == list(range(1, vehicle.sequence + 1))


@needs_broker
@pytest.mark.parametrize(
    ("topic", "spoilt", "reason"),
    [
        (CSR, rejected(403, "AccessDenied", "no"), "no (AccessDenied)"),
        (CSR, says({"certificateId": "c"}), "holds no certificate"),
        (CSR, for_another_key, "cannot be used together"),
        (REGISTER, rejected(400, "InvalidCertificateOwnershipToken", "old"), "old (Invalid"),
        (REGISTER, says({"thingName": "van-2"}), "as 'van-2', not as 'van-1'"),
        (REGISTER, says(b"[]"), "as None, not as 'van-1'"),
    ],
    ids=["csr-rejected", "csr-empty", "foreign-key", "rejected", "another-name", "garbage"],
)
def test_what_the_cloud_answers_wrongly_leaves_all_as_it_was(start, peer, topic, spoilt, reason):
    peer.spoil[topic].append(spoilt)
    with start() as vehicle:
        vehicle.online()
        end = vehicle.rotate()
        assert not end.succeeded
        assert reason in end.reason
        assert vehicle.delivery.publisher.connected
        assert vehicle.store.current().certificate_id == "c1"
        assert vehicle.store.pending() is None
        assert vehicle.rotate().succeeded


@needs_broker
def test_a_request_whose_answer_is_lost_is_asked_again(start, peer, monkeypatch):
    monkeypatch.setattr("agent.identity.dialogue._ANSWER_S", 1.0)
    peer.spoil[CSR].append(silent)
    peer.spoil[REGISTER].append(silent)
    with start() as vehicle:
        vehicle.online()
        assert vehicle.rotate().succeeded
    assert len(peer.asked(CSR)) == len(peer.asked(REGISTER)) == 2


@needs_broker
def test_a_cloud_that_never_answers_is_named_and_nothing_is_left_pending(start, peer, monkeypatch):
    monkeypatch.setattr("agent.identity.dialogue._ANSWER_S", 0.5)
    peer.spoil[CSR] += [silent] * 3
    with start() as vehicle:
        vehicle.online()
        end = vehicle.rotate()
    assert "does not answer on $aws/certificates" in end.reason
    assert vehicle.store.pending() is None


@needs_broker
def test_a_certificate_whose_registration_is_never_answered_is_kept_for_another_try(
    start, peer, monkeypatch
):
    monkeypatch.setattr("agent.identity.dialogue._ANSWER_S", 0.5)
    monkeypatch.setattr("agent.identity.rotation._AGAIN_S", 1.0)
    peer.spoil[REGISTER] += [silent] * 3
    with start() as vehicle:
        vehicle.online()
        assert "does not answer on $aws/provisioning" in vehicle.rotate().reason
        until(lambda: len(vehicle.ends) == 2, "it is not tried again")
        assert vehicle.ends[1].succeeded
    assert len(peer.issued) == 1


@needs_broker
def test_a_registration_that_was_carried_out_and_not_answered_is_found_out_by_trying(
    start, peer, monkeypatch
):
    monkeypatch.setattr("agent.identity.dialogue._ANSWER_S", 1.0)
    peer.spoil[REGISTER] += [silent, rejected(400, "InvalidCertificateOwnershipToken", "spent")]
    with start() as vehicle:
        vehicle.online()
        assert vehicle.rotate().succeeded


@needs_broker
def test_one_that_connects_and_gets_no_answer_is_left_and_tried_again_later(
    start, peer, listener, library, monkeypatch
):
    monkeypatch.setattr("agent.identity.succession.PROOF_S", 2.0)
    monkeypatch.setattr("agent.identity.rotation._AGAIN_S", 2.0)
    peer.spoil[peer.shadow].append(silent)
    with start(library) as vehicle:
        vehicle.online()
        first = vehicle.rotate()
        assert not first.succeeded
        assert "nothing that is asked is answered" in first.reason
        assert vehicle.store.pending().vehicle_id == "van-1"
        until(lambda: len(vehicle.ends) == 2, "it is not tried again")
        assert vehicle.ends[1].succeeded
        assert len(peer.asked(CSR)) == 1
    sequences = delivered(listener)
    assert sorted(set(sequences)) == list(range(1, vehicle.sequence + 1))


@needs_broker
def test_a_rotation_waits_while_the_cloud_is_away_and_goes_on_when_it_is_back(
    start, broker, peer, library
):
    def cut(_peer, _topic, _request):
        threading.Thread(target=restart).start()

    def restart():
        broker.kill()
        time.sleep(1)
        broker.start()

    peer.spoil[REGISTER].append(cut)
    with start(library) as vehicle:
        vehicle.online()
        assert vehicle.rotate().succeeded
        assert vehicle.rotation.under_way == ""
    assert len(peer.asked(CSR)) == 1


@needs_broker
def test_asked_for_twice_at_once_it_is_done_once(start, peer):
    with start() as vehicle:
        vehicle.online()
        threads = [
            threading.Thread(target=vehicle.rotation.request, args=(f"asker {n}",))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        vehicle.wait()
        answer = vehicle.rotation.take({"command": "rotate", "if_due": True})
        assert answer == {"began": False, "under_way": "", "after_number": 1}
    assert len(vehicle.ends) == 1
    assert len(peer.issued) == 1


@needs_broker
def test_while_a_provisioning_is_under_way_nothing_is_rotated(start, state, peer):
    with start() as vehicle:
        vehicle.online()
        with IdentityStore(state).locked():
            assert "another process is provisioning" in vehicle.rotate().reason
        IdentityStore(state).begin("milepost_by_claim", key_pem=b"key")
        assert "a provisioning is unfinished" in vehicle.rotate().reason
        assert vehicle.store.pending().template == "milepost_by_claim"


@needs_broker
@pytest.mark.parametrize("changes", range(14) if EACH else (1, 5, 9, 12))
def test_a_full_disk_at_any_write_leaves_an_identity_that_works(
    start, state, peer, changes, monkeypatch
):
    """Each write in the identity's folder fails from the n-th on, until there is room again."""
    from tests.fakes.full_disk import full_disk  # noqa: PLC0415  its hook stays in the process

    monkeypatch.setattr("agent.identity.rotation._AGAIN_S", 1.0)
    with start() as vehicle:
        vehicle.online()
        with full_disk(state / "identity", changes) as disk:
            vehicle.rotate()
        if not disk.happened:
            assert vehicle.ends[-1].succeeded
            return
        vehicle.online()
        current = vehicle.store.current()
        assert current.certificate_id in {"c1", *peer.issued.values()}
        until(lambda: vehicle.rotation.under_way == "", "it goes on for ever")
        until(
            lambda: vehicle.ends[-1].succeeded or vehicle.rotate("once more").succeeded,
            "it does not rotate once there is room",
        )
    assert vehicle.store.current().certificate_id == list(peer.issued.values())[-1]


class RealUtc(RealTime):
    """A board whose GPS knows the real time."""

    def utc(self):
        return datetime.now(UTC)  # noqa: TID251  certificates are judged by it


@needs_broker
def test_with_a_certificate_that_has_expired_it_says_that_only_provisioning_helps(
    tmp_path, broker, pki, monkeypatch
):
    monkeypatch.setattr("agent.identity.dialogue._HOPE_S", 2.0)
    own = pki.vehicle("van-1", valid_days=(-9, -2))
    keep_as_provisioned(tmp_path / "state", own)
    with RotatingDelivery(
        tmp_path / "state", broker.port, pki.ca_file, TransportKind.PAHO, clock=RealUtc()
    ) as vehicle:
        until(vehicle.rotation.account, "it does not read its identity")
        assert vehicle.rotation.take({"if_due": True})["began"]
        end = vehicle.wait()
    assert "has expired" in end.reason
    assert vehicle.store.current().certificate_id == "c1"


def validity(days_valid, days_gone, obtained=None):
    now = datetime(2026, 11, 21, tzinfo=UTC)
    begin = now - timedelta(days=days_gone)
    return now, Validity(begin, begin + timedelta(days=days_valid), obtained)


@pytest.mark.parametrize(
    ("days_valid", "days_gone", "settings", "reason"),
    [
        (365, 330, IdentitySettings(), None),
        (365, 340, IdentitySettings(), "expires in 25 days"),
        (365, 370, IdentitySettings(), "expired 5 days ago"),
        (365, 364, IdentitySettings(rotate_before_days=0), None),
        (9, 1, IdentitySettings(), None),
        (9, 7, IdentitySettings(), "expires in 2 days"),
        (9000, 364, IdentitySettings(rotate_after_days=365), None),
        (9000, 366, IdentitySettings(rotate_after_days=365), "older than 365 days"),
    ],
)
def test_it_is_due_by_expiry_or_by_age(days_valid, days_gone, settings, reason):
    now, of = validity(days_valid, days_gone)
    why = why_due(of, settings, now)
    assert (why is None) if reason is None else reason in why


def test_the_age_counts_from_when_it_was_obtained_and_never_from_before_it_was_made():
    now, of = validity(9000, 100, datetime(1970, 1, 1, tzinfo=UTC))
    settings = IdentitySettings(rotate_after_days=365)
    assert due_at(of, settings) == now + timedelta(days=265)
    later = replace(of, obtained_at=now)
    assert due_at(later, settings) == now + timedelta(days=365)


def test_a_certificate_that_the_config_names_is_never_rotated(tmp_path, pki):
    own = pki.vehicle("van-1")
    delivery = make_delivery(tmp_path / "s", 1, vars(own))
    rotation = Rotation(
        clock=RealTime(),
        state_dir=tmp_path / "s",
        vehicle_id="van-1",
        broker=BrokerSettings(host="localhost", port=1, **vars(own)),
        token=None,
        settings=IdentitySettings(),
        exchange=delivery.exchange,
        publisher=delivery.publisher,
        tell=print,
    )
    rotation.start()
    with pytest.raises(IdentityError, match=r"names broker\.certificate_file"):
        rotation.request("a test asks")
    assert rotation.account() is None
    assert not rotation.take({"if_due": True})["began"]
    rotation.stop()
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(tmp_path / "s")


def test_without_the_package_that_makes_keys_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "cryptography").mkdir()
    missing = "raise ModuleNotFoundError('no', name='cryptography')\n"
    (tmp_path / "cryptography" / "__init__.py").write_text(missing)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(IdentityError, match=r"pip install 'milepost\[provision\]'"):
        KeyProcess(tmp_path, None).make("van-1")


def test_the_process_for_keys_makes_another_each_time_and_reads_a_certificates_days(tmp_path, pki):
    keys = KeyProcess(tmp_path, None)
    first, second = keys.make("van-1"), keys.make("van-1")
    assert first.key_pem != second.key_pem
    assert first.key_label is None
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(pki.sign(first.request_pem.encode(), valid_days=(-1, 5)))
    begin, end = keys.days(certificate)
    assert end - begin == timedelta(days=6)
    with pytest.raises(IdentityError):
        keys.days(tmp_path / "none.pem")
