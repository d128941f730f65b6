"""Provisioning by claim and rotation against the embedded broker, over real MQTT."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cloud.errors import StoreError
from cloud.pki import certificate_id_of
from cloud.provisioning.ports import CertificateStatus
from contract.provisioning import (
    BY_CLAIM,
    CREATE_FROM_CSR,
    CREATE_KEYS,
    ROTATION,
    TOKEN_LIFE_S,
    ProvisioningTopics,
    accepted,
)
from tests.fakes.one_machine import Vehicle, sample_json, wait_until
from tests.fakes.provisioning import REGISTER, Asker, csr_of, new_key
from tests.fakes.provisioning_cloud import Cloud

ROTATE = ProvisioningTopics(ROTATION).register


@pytest.fixture
def cloud(tmp_path):
    with Cloud(tmp_path) as running:
        yield running


def is_refused(cloud, folder, client_id):
    with Vehicle(cloud.port, folder, client_id) as client:
        return not client.connect()


def test_a_board_becomes_a_vehicle_and_delivers(cloud):
    cloud.allow("10000000a1b2c3d4", "van-1")
    key = new_key()
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate(key)
        assert set(answer) == {"certificateOwnershipToken", "certificateId", "certificatePem"}
        certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
        assert certificate_id_of(certificate) == answer["certificateId"]
        assert cloud.status(answer) is CertificateStatus.PENDING_ACTIVATION
        fine, registered = asker.register(
            answer["certificateOwnershipToken"], "10000000a1b2c3d4", MacAddress="dc:a6:32:01:02:03"
        )
        assert fine
        assert registered == {"thingName": "van-1", "deviceConfiguration": {}}
    assert cloud.status(answer) is CertificateStatus.ACTIVE
    vehicle = cloud.fleet.describe("van-1")
    assert (vehicle.vehicle_type, vehicle.serial_number) == ("van", "10000000a1b2c3d4")
    with Vehicle(cloud.port, cloud.identity_of(answer, key, "van-1"), "van-1") as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json())


def test_keys_made_by_the_cloud_work_too_and_are_kept_nowhere(cloud):
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        fine, answer = asker.ask(CREATE_KEYS, "")
        assert fine
        assert asker.register(answer["certificateOwnershipToken"], "S1")[0]
    key = serialization.load_pem_private_key(answer["privateKey"].encode(), None)
    with Vehicle(cloud.port, cloud.identity_of(answer, key, "van-1"), "van-1") as van:
        assert van.connect()
    secret = answer["privateKey"].splitlines()[1].encode()
    for path in cloud.folder.glob("*.db*"):
        assert secret not in path.read_bytes()


def test_a_certificate_that_is_not_registered_does_not_connect(cloud, caplog):
    key = new_key()
    with cloud.board() as board:
        assert board.connect()
        answer = Asker(board).certificate(key)
    assert is_refused(cloud, cloud.identity_of(answer, key, "early"), "van-1")
    wait_until(lambda: "not registered yet" in caplog.text, "the reason")


@pytest.mark.parametrize(
    ("serial_number", "reason"),
    [("S2", "not on the allow list"), (None, "no SerialNumber"), ("S3", "is blocked")],
)
def test_a_board_that_is_not_allowed_is_told_so_and_the_operator_why(
    cloud, serial_number, reason, caplog
):
    cloud.allow("S1", "van-1")
    cloud.allow("S3", "van-3")
    cloud.fleet.block("van-3")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate()
        fine, error = asker.register(answer["certificateOwnershipToken"], serial_number)
    assert not fine
    assert (error["statusCode"], error["errorCode"]) == (403, "AccessDenied")
    assert error["errorMessage"]
    assert reason in caplog.text
    assert cloud.status(answer) is CertificateStatus.PENDING_ACTIVATION


def test_a_serial_number_registers_once(cloud, caplog):
    folder, first = cloud.provisioned()
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        with cloud.board("thief") as thief:
            assert thief.connect()
            asker = Asker(thief)
            fine, error = asker.register(asker.certificate()["certificateOwnershipToken"], "S1")
        assert not fine
        assert error["errorCode"] == "AccessDenied"
        assert "is registered as van-1" in caplog.text
        van.publish_acked("telemetry/van-1", sample_json())
    assert cloud.status(first) is CertificateStatus.ACTIVE


def test_a_board_whose_answer_was_lost_registers_again_and_the_first_certificate_retires(cloud):
    folder, first = cloud.provisioned()
    key = new_key()
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        second = asker.certificate(key)
        assert asker.register(second["certificateOwnershipToken"], "S1")[0]
    assert cloud.status(first) is CertificateStatus.INACTIVE
    assert is_refused(cloud, folder, "van-1")
    with Vehicle(cloud.port, cloud.identity_of(second, key, "again"), "van-1") as van:
        assert van.connect()


@pytest.mark.parametrize("same_certificate", [True, False])
def test_a_crash_between_permission_and_activation_costs_nothing(cloud, same_certificate):
    """The line of the allow list names a certificate that is still PENDING."""
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        first = asker.certificate()
        assert cloud.registry.register(cloud.registry.find("S1"), first["certificateId"])
        answer = first if same_certificate else asker.certificate()
        assert asker.register(answer["certificateOwnershipToken"], "S1")[0]
    assert cloud.status(answer) is CertificateStatus.ACTIVE
    active = [one.certificate_id for one in cloud.fleet.describe("van-1").certificates]
    assert active == [answer["certificateId"]]
    if not same_certificate:
        assert cloud.status(first) is CertificateStatus.INACTIVE


def test_a_store_that_fails_is_told_to_the_board_and_the_next_try_goes_on(cloud, monkeypatch):
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate()

        def fail(*_, **__):
            raise StoreError("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(cloud.registry.requested, "activate", fail)
            fine, error = asker.register(answer["certificateOwnershipToken"], "S1")
        assert not fine
        assert (error["statusCode"], error["errorCode"]) == (500, "InternalFailure")
        assert "disk" not in error["errorMessage"]
        assert asker.register(answer["certificateOwnershipToken"], "S1")[0]


def test_a_principal_may_have_so_many_unregistered_certificates_and_no_more(cloud, monkeypatch):
    monkeypatch.setattr("cloud.stores.requested_certificates.MAX_UNREGISTERED", 3)
    with cloud.board() as board, cloud.board("other", "second") as other:
        assert board.connect()
        assert other.connect()
        asker = Asker(board)
        for _ in range(3):
            asker.certificate()
        fine, error = asker.ask(CREATE_KEYS, "{}")
        assert not fine
        assert (error["statusCode"], error["errorCode"]) == (429, "ThrottlingException")
        assert Asker(other).certificate()
        cloud.shifted.ahead = timedelta(seconds=TOKEN_LIFE_S + 1)
        assert cloud.registry.requested.remove_overdue() == 4
        assert asker.certificate()


def test_no_token_and_no_key_is_logged(cloud, caplog):
    caplog.set_level("DEBUG")
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        _, answer = asker.ask(CREATE_KEYS, "{}")
        token = answer["certificateOwnershipToken"]
        asker.register(token, "S2")
        asker.register(token, "S1")
        asker.register(token, "S9")
    assert "registered" in caplog.text or "register" in caplog.text
    assert token not in caplog.text
    assert answer["privateKey"].splitlines()[1] not in caplog.text


def test_the_same_registration_again_gets_the_same_answer_until_the_certificate_is_used(cloud):
    cloud.allow("S1", "van-1")
    key = new_key()
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate(key)
        token = answer["certificateOwnershipToken"]
        assert asker.register(token, "S1") == asker.register(token, "S1")
        with Vehicle(cloud.port, cloud.identity_of(answer, key, "van-1"), "van-1") as van:
            assert van.connect()
        fine, error = asker.register(token, "S1")
    assert not fine
    assert error["errorCode"] == "InvalidCertificateOwnershipToken"


def test_a_token_that_was_spent_is_no_good_for_another_serial_number(cloud):
    cloud.allow("S1", "van-1")
    cloud.allow("S2", "van-2")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate()
        assert asker.register(answer["certificateOwnershipToken"], "S1")[0]
        fine, error = asker.register(answer["certificateOwnershipToken"], "S2")
    assert not fine
    assert error["errorCode"] == "InvalidCertificateOwnershipToken"
    assert [one.certificate_id is None for one in cloud.fleet.allowed()] == [False, True]


def test_another_claims_token_is_no_good(cloud):
    cloud.allow("S1", "van-1")
    with cloud.board("one", "first") as board, cloud.board("two", "second") as other:
        assert board.connect()
        assert other.connect()
        token = Asker(board).certificate()["certificateOwnershipToken"]
        fine, error = Asker(other).register(token, "S1")
        assert not fine
        assert error["errorCode"] == "InvalidCertificateOwnershipToken"
        assert Asker(board).register(token, "S1")[0]


def test_a_token_lives_an_hour_and_its_certificate_goes_with_it(cloud):
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate()
        cloud.shifted.ahead = timedelta(seconds=TOKEN_LIFE_S - 60)
        assert cloud.registry.requested.remove_overdue() == 0
        cloud.shifted.ahead = timedelta(seconds=TOKEN_LIFE_S + 1)
        fine, error = asker.register(answer["certificateOwnershipToken"], "S1")
        assert not fine
        assert error["errorCode"] == "InvalidCertificateOwnershipToken"
        assert cloud.registry.requested.remove_overdue() == 1
        assert cloud.status(answer) is None
        later = asker.certificate()
        assert asker.register(later["certificateOwnershipToken"], "S1")[0]


@pytest.mark.parametrize("token", ["", "x", "A" * 5000, 7, None])
def test_a_token_out_of_nowhere_is_refused(cloud, token):
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        fine, error = Asker(board).register(token, "S1")
    assert not fine
    assert error["statusCode"] == 400
    assert cloud.fleet.vehicles() == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"[]",
        b"[" * 50_000,
        b"\xff\xfe",
        b'{"certificateSigningRequest": 7}',
        b'{"certificateSigningRequest": ""}',
        b'{"certificateSigningRequest": "\\ud800"}',
        json.dumps({"certificateSigningRequest": "x" * 100_000}).encode(),
        json.dumps({"certificateSigningRequest": "-----BEGIN CERTIFICATE-----"}).encode(),
    ],
)
def test_what_is_no_signing_request_is_rejected_and_the_next_one_is_served(cloud, payload):
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        fine, error = asker.ask(CREATE_FROM_CSR, payload)
        assert not fine
        assert set(error) == {"statusCode", "errorCode", "errorMessage"}
        assert error["statusCode"] == 400
        assert asker.certificate()


def test_answers_go_to_the_one_that_asked_alone(cloud):
    with cloud.board("one") as board, cloud.board("two") as other:
        assert board.connect()
        assert other.connect()
        assert other.subscribe(accepted(CREATE_FROM_CSR)) == [1]
        Asker(board).certificate()
        Asker(other).ask(CREATE_KEYS, "{}")  # so whatever went to it before has arrived
        assert [one.topic for one in other.received] == [accepted(CREATE_KEYS)]


def test_who_has_not_subscribed_is_told_nothing(cloud):
    with cloud.board() as board:
        assert board.connect()
        request = json.dumps({"certificateSigningRequest": csr_of(new_key())})
        board.publish_acked(CREATE_FROM_CSR, request)
        Asker(board).ask(CREATE_KEYS, "{}")
        assert [one.topic for one in board.received] == [accepted(CREATE_KEYS)]


@pytest.mark.parametrize(
    "topic", ["telemetry/van-1", "status/claim-board-1", ROTATE, "$aws/things/van-1/jobs/get"]
)
def test_a_claim_certificate_does_nothing_but_provision(cloud, topic, caplog):
    with cloud.board() as board:
        assert board.connect()
        board.publish(topic, sample_json())
        assert board.disconnected.wait(10)
    assert "none that a claim certificate may use" in caplog.text
    assert cloud.records() == []


def test_a_claim_cannot_take_the_place_of_a_vehicle(cloud, caplog):
    folder, _ = cloud.provisioned()
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        with Vehicle(cloud.port, cloud.claim_folder(), "van-1") as thief:
            assert not thief.connect()
        van.publish_acked("telemetry/van-1", sample_json())
    assert "lacks its claim-" in caplog.text


def test_revoking_a_claim_ends_its_connections_and_leaves_the_vehicles(cloud):
    folder, _ = cloud.provisioned()
    with cloud.board() as board, Vehicle(cloud.port, folder, "van-1") as van:
        assert board.connect()
        assert van.connect()
        cloud.fleet.revoke_claim("claim")
        assert board.disconnected.wait(10)
        assert is_refused(cloud, cloud.claim_folder(), "board-2")
        van.publish_acked("telemetry/van-1", sample_json())


def test_a_vehicle_that_is_blocked_is_cut_off_within_seconds_and_let_in_again(cloud, caplog):
    folder, _ = cloud.provisioned()
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        cloud.fleet.block("van-1")
        assert van.disconnected.wait(10)
    assert is_refused(cloud, folder, "van-1")
    wait_until(lambda: "van-1 is blocked" in caplog.text, "the reason")
    cloud.fleet.unblock("van-1")
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()


def test_a_vehicle_that_is_blocked_between_its_two_requests_is_not_registered(cloud):
    cloud.allow("S1", "van-1")
    with cloud.board() as board:
        assert board.connect()
        asker = Asker(board)
        answer = asker.certificate()
        cloud.fleet.block("van-1")
        fine, error = asker.register(answer["certificateOwnershipToken"], "S1")
    assert not fine
    assert error["errorCode"] == "AccessDenied"
    assert cloud.status(answer) is CertificateStatus.PENDING_ACTIVATION


def test_a_vehicle_gets_its_next_certificate_on_its_own_connection(cloud):
    folder, first = cloud.provisioned()
    key = new_key()
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        asker = Asker(van)
        answer = asker.certificate(key)
        fine, registered = asker.register(
            answer["certificateOwnershipToken"], topic=ROTATE, ThingName="van-1"
        )
        assert fine, registered
        assert registered["thingName"] == "van-1"
        assert cloud.status(first) is cloud.status(answer) is CertificateStatus.ACTIVE
        van.publish_acked("telemetry/van-1", sample_json())
    with Vehicle(cloud.port, cloud.identity_of(answer, key, "next"), "van-1") as van:
        assert van.connect()


def test_a_vehicle_gets_no_certificate_of_another(cloud):
    folder, _ = cloud.provisioned()
    cloud.provisioned("S2", "van-2")
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        asker = Asker(van)
        token = asker.certificate()["certificateOwnershipToken"]
        for name in ("van-2", "van-3", ""):
            fine, error = asker.register(token, topic=ROTATE, ThingName=name)
            assert not fine
            assert error["errorCode"] == "AccessDenied"
    assert len(cloud.fleet.describe("van-2").certificates) == 1


def test_a_vehicle_cannot_register_by_claim(cloud):
    folder, _ = cloud.provisioned()
    cloud.allow("S9", "van-9")
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        van.publish(REGISTER, "{}")
        assert van.disconnected.wait(10)


def test_many_boards_at_once_become_as_many_vehicles(cloud):
    count = 24
    for number in range(count):
        cloud.allow(f"S{number}", f"van-{number}")
    cloud.claim_folder()

    def provision(number):
        key = new_key()
        with cloud.board(f"board-{number}") as board:
            assert board.connect()
            asker = Asker(board)
            answer = asker.certificate(key)
            fine, registered = asker.register(answer["certificateOwnershipToken"], f"S{number}")
            assert fine, registered
            return registered["thingName"]

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(provision, range(count)))
    assert names == [f"van-{number}" for number in range(count)]
    assert len(cloud.fleet.vehicles()) == count


def test_of_two_boards_with_one_serial_number_at_most_one_certificate_stays_active(cloud):
    cloud.allow("S1", "van-1")
    cloud.claim_folder()

    def provision(number):
        with cloud.board(f"board-{number}") as board:
            assert board.connect()
            asker = Asker(board)
            return asker.register(asker.certificate()["certificateOwnershipToken"], "S1")[0]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(provision, range(4)))
    active = [
        one
        for one in cloud.fleet.describe("van-1").certificates
        if one.status is CertificateStatus.ACTIVE
    ]
    assert len(active) == 1


def test_one_connection_asks_ten_things_at_once_and_no_more(cloud):
    with cloud.board() as board:
        assert board.connect()
        topic = ProvisioningTopics(BY_CLAIM).register
        for end in ("accepted", "rejected"):
            board.subscribe(f"{topic}/{end}")
        for _ in range(60):
            board.publish(topic, "{}")
        wait_until(lambda: len(board.received) == 60, "sixty answers")
        codes = {json.loads(one.payload)["errorCode"] for one in board.received}
        assert codes <= {"InvalidPayload", "ThrottlingException"}


def test_a_vehicle_with_a_persistent_session_keeps_it_over_a_rotation(cloud):
    folder, _ = cloud.provisioned()
    key = new_key()
    with Vehicle(cloud.port, folder, "van-1", clean=False) as van:
        assert van.connect()
        asker = Asker(van)
        answer = asker.certificate(key)
        token = answer["certificateOwnershipToken"]
        assert asker.register(token, topic=ROTATE, ThingName="van-1")[0]
        assert van.subscribe("status/van-1") == [1]
    renewed = cloud.identity_of(answer, key, "next")
    with Vehicle(cloud.port, renewed, "van-1", clean=False) as van:
        assert van.connect()
        van.publish_acked("status/van-1", "{}")
        wait_until(lambda: van.received, "the subscription of the session before")


def test_boards_cannot_keep_the_vehicles_out(cloud, monkeypatch, caplog):
    monkeypatch.setattr("cloud.serve.broker.MAX_CLAIM_CONNECTIONS", 2)
    folder, _ = cloud.provisioned()
    with cloud.board("one") as one, cloud.board("two") as two, cloud.board("three") as three:
        assert one.connect()
        assert two.connect()
        assert not three.connect()
        assert "claim certificates are open already" in caplog.text
        with Vehicle(cloud.port, folder, "van-1") as van:
            assert van.connect()


def test_a_claims_session_ends_with_its_connection_whatever_it_asks_for(cloud):
    folder = cloud.claim_folder()
    with Vehicle(cloud.port, folder, "claim-1", clean=False) as board:
        assert board.connect()
        assert board.subscribe(accepted(CREATE_KEYS)) == [1]
    with Vehicle(cloud.port, folder, "claim-1", clean=False) as board:
        assert board.connect()
        board.publish_acked(CREATE_KEYS, "{}")
        fine, _ = Asker(board).ask(
            CREATE_FROM_CSR, {"certificateSigningRequest": csr_of(new_key())}
        )
        assert fine
        assert [one.topic for one in board.received] == [accepted(CREATE_FROM_CSR)]


def test_a_registration_that_comes_as_the_vehicle_connects_changes_nothing(cloud):
    """Between the hook's question and its note the first certificate was used."""
    folder, first = cloud.provisioned()
    found = cloud.registry.find("S1")
    with Vehicle(cloud.port, folder, "van-1") as van:
        assert van.connect()
        assert not cloud.registry.register(found, "f" * 64)
        van.publish_acked("telemetry/van-1", sample_json())
    assert cloud.status(first) is CertificateStatus.ACTIVE
