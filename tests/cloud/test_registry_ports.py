"""Who may register, which certificates count, and the operator's side: one suite, two clouds."""

import threading
from contextlib import nullcontext

import boto3
import pytest
from botocore.stub import Stubber

from cloud.errors import FleetError, StoreError
from cloud.handlers.settle_identity import SettleIdentity
from cloud.provisioning.ports import AllowedVehicle, CertificateStatus, Origin
from cloud.stores.aws_fleet import AwsFleet
from cloud.stores.aws_root_ca import root_ca
from cloud.stores.dynamodb_registrations import DynamoRegistrations
from cloud.stores.iot_certificates import IotCertificates
from tests.fakes.clock import FakeClock
from tests.fakes.registries import (
    CLAIM_POLICY,
    REGISTER,
    TABLE,
    OnAws,
    OnOneMachine,
    active,
    board,
    rotating,
)

VAN_1 = AllowedVehicle("S1", "van-1", "electric_van")
VAN_2 = AllowedVehicle("S2", "van-2")


@pytest.fixture
def on_one_machine(tmp_path):
    place = OnOneMachine(tmp_path / "data")
    yield place
    place.stop()


@pytest.fixture
def on_aws(aws):
    return OnAws()


@pytest.fixture(params=["one_machine", "aws"])
def place(request):
    return request.getfixturevalue(f"on_{request.param}")


def reports(place, vehicle_id, certificate_id, state="online"):
    """A status over this certificate, as the rule gives it on."""
    event = {
        "vehicle_id": vehicle_id,
        "topic_vehicle_id": vehicle_id,
        "certificate_id": certificate_id,
        "state": state,
    }
    SettleIdentity(place.registry, place.clock)(event, None)


def registered(place, line=VAN_1):
    """A vehicle that registered and was online; its certificate's id."""
    place.fleet.allow([line])
    one = board(place, line.serial_number)
    assert one.register_board() == line.vehicle_id
    reports(place, line.vehicle_id, one.certificate_id)
    return one.certificate_id


# --- the allow list ----------------------------------------------------------------------


def test_lines_are_added_listed_and_removed(place):
    place.fleet.allow([VAN_2, VAN_1])
    assert list(place.fleet.allowed()) == [VAN_1, VAN_2]
    assert place.fleet.disallow("S2") == VAN_2
    assert list(place.fleet.allowed()) == [VAN_1]
    place.fleet.allow([VAN_2])


@pytest.mark.parametrize(
    "second", [AllowedVehicle("S1", "van-9"), AllowedVehicle("S9", "van-1")], ids=["serial", "van"]
)
def test_a_serial_number_and_a_vehicle_are_on_the_list_once(place, second):
    place.fleet.allow([VAN_1])
    with pytest.raises(FleetError, match="S1 is on the allow list already, as van-1"):
        place.fleet.allow([VAN_2, second])
    assert list(place.fleet.allowed()) == [VAN_1], "all lines or none"


def test_lines_that_contradict_each_other_are_refused(place):
    with pytest.raises(FleetError, match="already"):
        place.fleet.allow([VAN_1, AllowedVehicle("S9", "van-1")])
    assert list(place.fleet.allowed()) == []


def test_a_line_that_there_is_not_cannot_be_removed(place):
    with pytest.raises(FleetError, match="not on the allow list"):
        place.fleet.disallow("S1")


# --- by claim ----------------------------------------------------------------------------


def test_a_board_on_the_list_becomes_its_vehicle(place):
    place.fleet.allow([VAN_1])
    one = board(place)
    assert one.register_board() == "van-1"
    (line,) = place.fleet.allowed()
    assert line.certificate_id == one.certificate_id
    assert line.registered_at is not None
    van = place.fleet.describe("van-1")
    assert (van.serial_number, van.vehicle_type, van.blocked) == ("S1", "electric_van", False)
    (certificate,) = van.certificates
    assert certificate.status is CertificateStatus.ACTIVE
    assert certificate.origin is Origin.BY_CLAIM
    assert certificate.thing == "van-1"
    assert certificate.not_before < certificate.not_after


@pytest.mark.parametrize("serial_number", ["S9", "", "s1", "S1 ", "serial#S1"])
def test_a_board_that_is_not_on_the_list_is_refused(place, serial_number):
    place.fleet.allow([VAN_1])
    assert board(place, serial_number).register_board() is None
    assert place.fleet.allowed()[0].certificate_id is None


def test_a_second_board_with_the_serial_number_of_a_vehicle_is_refused(place):
    first = registered(place)
    assert board(place).register_board() is None
    assert active(place, "van-1") == {first}


def test_a_board_whose_answer_was_lost_registers_again_and_leaves_no_orphan(place):
    place.fleet.allow([VAN_1])
    first, second = board(place), board(place)
    assert first.register_board() == "van-1"
    assert second.register_board() == "van-1"
    assert active(place, "van-1") == {second.certificate_id}


def test_of_two_boards_with_one_serial_number_at_the_same_moment_one_passes(place):
    place.fleet.allow([VAN_1])
    found = place.registry.find("S1")
    boards = [board(place).certificate_id for _ in range(4)]
    start, passed = threading.Barrier(4), []
    # moto looks at a condition and writes in two steps, which DynamoDB does not
    turn = threading.Lock() if isinstance(place, OnAws) else nullcontext()

    def race(certificate_id):
        start.wait()
        with turn:
            ask(certificate_id)

    def ask(certificate_id):
        if place.registry.register(found, certificate_id):
            passed.append(certificate_id)

    threads = [threading.Thread(target=race, args=(one,)) for one in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1
    assert place.registry.find("S1").certificate_id == passed[0]


def test_a_line_that_was_replaced_between_question_and_answer_registers_nobody(place):
    place.fleet.allow([VAN_1])
    found = place.registry.find("S1")
    one = board(place)
    place.fleet.disallow("S1")
    assert not place.registry.register(found, one.certificate_id)
    place.fleet.allow([AllowedVehicle("S1", "van-7")])
    assert not place.registry.register(found, one.certificate_id)


def test_a_blocked_line_registers_nobody_until_it_is_unblocked(place):
    place.fleet.allow([VAN_1])
    place.fleet.block("van-1")
    assert place.fleet.allowed()[0].blocked
    assert board(place).register_board() is None
    place.fleet.unblock("van-1")
    assert board(place).register_board() == "van-1"


# --- rotation ----------------------------------------------------------------------------


def test_a_vehicle_gets_its_next_certificate_and_the_first_report_over_it_retires_the_old(place):
    old = registered(place)
    new = rotating(place, "van-1", old)
    assert new.register_next() == "van-1"
    assert active(place, "van-1") == {old, new.certificate_id}
    reports(place, "van-1", old)
    assert active(place, "van-1") == {old, new.certificate_id}, "it has not changed over yet"
    reports(place, "van-1", new.certificate_id)
    assert active(place, "van-1") == {new.certificate_id}
    assert rotating(place, "van-1", old).register_next() is None


def test_a_late_report_over_a_retired_certificate_changes_nothing(place):
    old = registered(place)
    new = rotating(place, "van-1", old)
    new.register_next()
    reports(place, "van-1", new.certificate_id)
    reports(place, "van-1", old)
    assert active(place, "van-1") == {new.certificate_id}


def test_a_last_will_retires_nothing(place):
    old = registered(place)
    new = rotating(place, "van-1", old)
    new.register_next()
    reports(place, "van-1", new.certificate_id, state="offline")
    assert active(place, "van-1") == {old, new.certificate_id}


def test_a_next_certificate_that_is_never_used_is_retired_in_the_end(place):
    old = registered(place)
    new = rotating(place, "van-1", old)
    new.register_next()
    place.clock.advance(3 * 3600)
    reports(place, "van-1", old)
    assert active(place, "van-1") == {old}


def test_a_certificate_that_an_operator_carries_waits_for_its_first_use(place):
    old = registered(place)
    carried = place.by_hand("van-1")
    place.clock.advance(100 * 3600)
    reports(place, "van-1", old)
    assert active(place, "van-1") == {old, carried}


def test_nobody_rotates_for_another_vehicle(place):
    mine, other = registered(place), registered(place, VAN_2)
    for asked in (
        rotating(place, "van-1", mine, thing_name="van-2"),
        rotating(place, "van-2", mine),
        rotating(place, "van-1", mine, client_id="van-2"),
        rotating(place, "van-1", "c" * 64),
    ):
        assert asked.register_next() is None
    assert active(place, "van-2") == {other}


def test_a_blocked_vehicle_does_not_rotate(place):
    present = registered(place)
    place.fleet.block("van-1")
    assert rotating(place, "van-1", present).register_next() is None


# --- the operator's side -----------------------------------------------------------------


def test_claims_are_made_listed_and_revoked_by_name_or_id(place):
    first = place.fleet.create_claim("workshop", None)
    second = place.fleet.create_claim("fair", None)
    assert first.certificate.is_claim
    assert first.certificate.claim_name == "workshop"
    assert first.certificate.status is CertificateStatus.ACTIVE
    assert b"PRIVATE KEY" in first.credentials.key_pem
    assert b"BEGIN CERTIFICATE" in first.credentials.ca_pem
    assert {one.claim_name for one in place.fleet.claims()} == {"workshop", "fair"}
    (revoked,) = place.fleet.revoke_claim("workshop")
    assert revoked.status is CertificateStatus.REVOKED
    place.fleet.revoke_claim(second.certificate.certificate_id)
    assert {one.status for one in place.fleet.claims()} == {CertificateStatus.REVOKED}
    with pytest.raises(FleetError, match="no claim certificate"):
        place.fleet.revoke_claim("nobody")


def test_vehicles_are_listed_by_name(place):
    registered(place, VAN_2)
    place.by_hand("van-1")
    found = place.fleet.vehicles()
    assert [one.vehicle_id for one in found] == ["van-1", "van-2"]
    assert [len(one.certificates) for one in found] == [1, 1]
    assert found[1].certificates[0].connected_at is not None
    assert found == [place.fleet.describe("van-1"), place.fleet.describe("van-2")]


def test_a_vehicle_is_blocked_and_let_in_again(place):
    one = registered(place)
    for _ in range(2):
        place.fleet.block("van-1")
    assert place.fleet.describe("van-1").blocked
    for _ in range(2):
        place.fleet.unblock("van-1")
    assert not place.fleet.describe("van-1").blocked
    assert active(place, "van-1") == {one}


def test_what_was_retired_stays_so_when_its_vehicle_is_let_in_again(place):
    old = registered(place)
    new = rotating(place, "van-1", old)
    new.register_next()
    reports(place, "van-1", new.certificate_id)
    place.fleet.block("van-1")
    place.fleet.unblock("van-1")
    assert active(place, "van-1") == {new.certificate_id}


def test_a_revoked_vehicle_comes_back_neither_by_unblocking_nor_by_registering(place):
    one = registered(place)
    assert [(found.certificate_id, found.status) for found in place.fleet.revoke("van-1")] == [
        (one, CertificateStatus.REVOKED)
    ]
    assert board(place).register_board() is None
    place.fleet.unblock("van-1")
    assert active(place, "van-1") == set()
    assert rotating(place, "van-1", one).register_next() is None


@pytest.mark.parametrize("ask", ["describe", "block", "unblock", "revoke"])
def test_a_vehicle_that_there_is_not_is_named(place, ask):
    with pytest.raises(FleetError, match="van-9"):
        getattr(place.fleet, ask)("van-9")


# --- what only AWS has -------------------------------------------------------------------


def test_on_aws_a_block_ends_the_connection_by_the_certificate(on_aws):
    registered(on_aws)
    on_aws.fleet.block("van-1")
    (certificate,) = on_aws.fleet.describe("van-1").certificates
    assert certificate.status is CertificateStatus.INACTIVE


def test_on_aws_what_is_retired_loses_policies_and_thing(on_aws):
    old = registered(on_aws)
    new = rotating(on_aws, "van-1", old)
    new.register_next()
    reports(on_aws, "van-1", new.certificate_id)
    found = on_aws.iot.describe_certificate(certificateId=old)["certificateDescription"]
    assert found["status"] == "INACTIVE"
    arn = found["certificateArn"]
    assert on_aws.iot.list_attached_policies(target=arn)["policies"] == []
    assert arn not in on_aws.iot.list_thing_principals(thingName="van-1")["principals"]


def test_on_aws_reports_are_looked_into_once_an_hour(on_aws):
    one = registered(on_aws)
    with Stubber(on_aws.iot) as script:
        for _ in range(60):
            reports(on_aws, "van-1", one)  # a call of AWS IoT would have no answer here
        on_aws.clock.advance(3601)
        script.add_response("list_thing_principals", {"principals": []}, {"thingName": "van-1"})
        reports(on_aws, "van-1", one)
        script.assert_no_pending_responses()


def test_on_aws_a_look_that_failed_is_done_again(on_aws):
    old = registered(on_aws)
    new = rotating(on_aws, "van-1", old)
    new.register_next()
    with Stubber(on_aws.iot) as script:
        script.add_client_error("list_thing_principals", "ThrottlingException", "Rate exceeded")
        with pytest.raises(StoreError, match="Rate exceeded"):
            reports(on_aws, "van-1", new.certificate_id)
    reports(on_aws, "van-1", new.certificate_id)
    assert active(on_aws, "van-1") == {new.certificate_id}


def test_on_aws_the_register_learns_the_type_when_the_line_is_added(on_aws):
    on_aws.fleet.allow([VAN_1, VAN_2])
    found = on_aws.dynamodb.get_item(TableName=REGISTER, Key={"vehicle_id": {"S": "van-1"}})
    assert found["Item"]["vehicle_type"] == {"S": "electric_van"}


def test_on_aws_more_lines_than_a_transaction_takes_are_added_and_read(on_aws):
    lines = [AllowedVehicle(f"S{n:03}", f"van-{n:03}", "truck") for n in range(100)]
    on_aws.fleet.allow(lines)
    assert list(on_aws.fleet.allowed()) == lines


def test_on_aws_a_claim_has_its_policy_and_amazons_authority_and_no_days(on_aws):
    made = on_aws.fleet.create_claim("workshop", None)
    arn = on_aws.iot.describe_certificate(certificateId=made.certificate.certificate_id)[
        "certificateDescription"
    ]["certificateArn"]
    attached = on_aws.iot.list_attached_policies(target=arn)["policies"]
    assert [one["policyName"] for one in attached] == [CLAIM_POLICY]
    assert made.credentials.ca_pem == root_ca()
    with pytest.raises(FleetError, match="30 days"):
        on_aws.fleet.create_claim("workshop", 30)


def test_on_aws_a_list_that_takes_long_tells_how_far_it_is(on_aws):
    told = []

    class Slow(type(on_aws.clock)):
        def monotonic_s(self):
            self.advance(1)
            return super().monotonic_s()

    for number in range(7):
        on_aws.iot.create_thing(thingName=f"thing-{number}")
    fleet = AwsFleet(on_aws.iot, on_aws.fleet._list, on_aws.fleet._policies, Slow(), told.append)
    assert fleet.vehicles() == []
    assert told
    assert told[-1].endswith("things looked at …")


def test_on_aws_a_thing_of_somebody_else_is_no_vehicle(on_aws):
    on_aws.iot.create_thing(thingName="coffee-machine")
    registered(on_aws)
    assert [one.vehicle_id for one in on_aws.fleet.vehicles()] == ["van-1"]


def test_on_aws_errors_of_the_services_are_store_errors(aws):
    registry = DynamoRegistrations(
        boto3.client("dynamodb"), "there-is-none", IotCertificates(boto3.client("iot")), FakeClock()
    )
    with pytest.raises(StoreError, match="there-is-none"):
        registry.find("S1")


def test_the_table_has_the_template_s_key(on_aws):
    key = on_aws.dynamodb.describe_table(TableName=TABLE)["Table"]["KeySchema"]
    assert key == [{"AttributeName": "item_key", "KeyType": "HASH"}]
