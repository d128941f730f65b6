"""Ways to act as another vehicle, to read another's messages, or to get in without a right to.

Each is tried on the embedded broker and on Mosquitto with the configuration that
``milepost-cloud mosquitto`` writes. Each must fail, and leave a line in the log.

Where Mosquitto differs: it acknowledges what it denies and takes any subscription, but nothing
comes of either; it replaces a client id by the certificate's name; and it knows no claims,
so those do not get past its TLS.
"""

import socket
import ssl
from contextlib import suppress

import pytest

from contract.jobs import JobTopics
from contract.provisioning import BY_CLAIM, CREATE_FROM_CSR, ROTATION, ProvisioningTopics, accepted
from contract.shadow import ShadowAction, ShadowTopics
from tests.fakes.one_machine import sample_json, status_json, wait_until
from tests.fakes.provisioning import Asker, csr_of, new_key

REGISTER = ProvisioningTopics(BY_CLAIM).register
ROTATE = ProvisioningTopics(ROTATION).register
EVIL = sample_json("van-1", run_id="e71e71e7").encode()


@pytest.fixture
def attacker(arena):
    """van-2, with a right to be there."""
    with arena.client("van-2", "van-2") as van:
        assert van.connect()
        yield van


def refused_message(arena, client, name, topic, payload=EVIL, **options):
    """It gets nowhere, and the log names who tried what."""
    client.publish(topic, payload, **options)
    if arena.is_ours:
        assert client.disconnected.wait(20)
        arena.told("disconnected", name, topic)
    else:
        arena.told("Denied PUBLISH", name, topic)
    arena.kept_out(payload)


def refused_connection(arena, client, *reasons):
    """It is not let in, and the log says why (Mosquitto: that the certificate is not accepted)."""
    with client:
        assert not client.connect()
    arena.told(*(reasons if arena.is_ours else ("certificate verify failed",)))


# --- to speak for another vehicle ------------------------------------------------------


@pytest.mark.parametrize(
    "topic",
    [
        *("telemetry/van-1", "telemetry/van-1/batch", "events/van-1", "status/van-1"),
        *("telemetry/VAN-2", "telemetry/van-2/", "telemetry//van-2", "telemetry/van-2/van-1"),
        *("$aws/rules/milepost_telemetry/telemetry/van-1", "$SYS/broker/uptime", "anything"),
    ],
)
def test_01_publishing_on_anothers_topic(arena, attacker, topic):
    refused_message(arena, attacker, "van-2", topic)


def test_02_publishing_in_anothers_name_through_basic_ingest_of_another_rule(arena, attacker):
    topic = "$aws/rules/milepost_status/status/van-1"
    refused_message(
        arena, attacker, "van-2", topic, status_json("van-1", run_id="e71e71e7").encode()
    )


def test_03_replacing_anothers_retained_status(arena, attacker):
    evil = status_json("van-1", state="offline", run_id="e71e71e7").encode()
    refused_message(arena, attacker, "van-2", "status/van-1", evil, retain=True)


def test_04_a_last_will_on_anothers_topic(arena):
    client = arena.client("van-2", "van-2", will=("status/van-1", EVIL))
    with client:
        if arena.is_ours:
            assert not client.connect()
            arena.told("refused", "last will", "status/van-1")
        else:
            assert client.connect()
            client.vanish()
            arena.told("status/van-1")
    arena.kept_out(EVIL)


def test_05_changing_anothers_shadow(arena, attacker):
    refused_message(arena, attacker, "van-2", ShadowTopics("van-1").request(ShadowAction.UPDATE))


def test_06_ending_anothers_job(arena, attacker):
    refused_message(arena, attacker, "van-2", JobTopics("van-1").update("update-7"))


def test_07_claiming_as_a_vehicle(arena, attacker):
    refused_message(arena, attacker, "van-2", REGISTER)


# --- to be taken for another vehicle ---------------------------------------------------


def test_08_taking_over_anothers_connection_by_its_client_id(arena):
    with arena.client("van-1", "van-1") as victim, arena.client("van-2", "van-1") as thief:
        assert victim.connect()
        if arena.is_ours:
            assert not thief.connect()
            arena.told("refused", "client id 'van-1'", "van-2")
        else:
            assert thief.connect()
            arena.told("as van-2", "u'van-2'")
            refused_message(arena, thief, "van-2", "telemetry/van-1")
        victim.publish_acked("telemetry/van-1", sample_json("van-1"))
        assert not victim.disconnected.is_set()


def test_09_taking_over_anothers_session_while_it_is_away(arena):
    with arena.client("van-1", "van-1", clean=False) as victim:
        assert victim.connect()
        victim.subscribe("status/van-1")
    with arena.client("van-2", "van-1", clean=False) as thief:
        if arena.is_ours:
            assert not thief.connect()
            arena.told("refused", "client id 'van-1'")
        else:
            assert thief.connect()
            arena.told("as van-2", "u'van-2'")
        with arena.client("van-1", "van-1", clean=False) as victim:
            assert victim.connect()
            victim.publish_acked("status/van-1", status_json("van-1"))
        assert thief.received == []


# --- to hear another vehicle -----------------------------------------------------------


@pytest.mark.parametrize(
    "topic_filter",
    [
        *("telemetry/van-1", "status/van-1", "#", "+/van-1", "telemetry/#", "telemetry/+"),
        *("$share/all/telemetry/van-1", "$share/all/#", "$SYS/#", "$aws/#"),
        *("$aws/things/van-1/shadow/name/milepost/get/accepted", "$aws/things/+/jobs/notify"),
        *("$aws/things/van-1/jobs/notify-next", "$aws/events/presence/connected/van-1"),
    ],
)
def test_10_subscribing_to_what_is_anothers(arena, attacker, topic_filter):
    answer = attacker.subscribe(topic_filter)
    if arena.is_ours:
        assert answer == [128]
        arena.told("refused a subscription of van-2", topic_filter)
    else:
        arena.told(topic_filter)
    with arena.client("van-1", "van-1") as victim:
        assert victim.connect()
        victim.publish_acked("telemetry/van-1", sample_json("van-1"))
        victim.publish_acked("status/van-1", status_json("van-1"), retain=True)
    attacker.publish_acked("telemetry/van-2", sample_json("van-2"))
    assert attacker.received == []


def test_11_reading_anothers_retained_status(arena):
    with arena.client("van-1", "van-1") as victim:
        assert victim.connect()
        victim.publish_acked("status/van-1", status_json("van-1"), retain=True)
    with arena.client("van-2", "van-2") as late:
        assert late.connect()
        late.subscribe("status/+")
        late.publish_acked("telemetry/van-2", sample_json("van-2"))
        assert late.received == []
    arena.told("status/+")


def test_12_overhearing_the_certificate_that_another_gets(arena, attacker):
    answer = accepted(CREATE_FROM_CSR)
    attacker.subscribe(answer)
    if arena.is_ours:
        with arena.client("claim", "claim-S8") as board:
            assert board.connect()
            assert Asker(board).certificate()["certificateOwnershipToken"]
        arena.told("claim 'workshop' connected")
    else:
        arena.told(answer)
    attacker.publish_acked("telemetry/van-2", sample_json("van-2"))
    assert attacker.received == []


# --- to use a claim certificate for more than claiming ---------------------------------


@pytest.mark.parametrize(
    "topic",
    [
        *("telemetry/van-1", "telemetry/claim-S8", "telemetry/workshop", "status/van-1"),
        *("$aws/rules/milepost_telemetry/telemetry/van-1", ROTATE),
        ShadowTopics("van-1").request(ShadowAction.GET),
        ShadowTopics("workshop").request(ShadowAction.GET),
        JobTopics("van-1").start_next,
        JobTopics("van-1").update("update-7"),
    ],
)
def test_13_a_claim_certificate_for_telemetry_shadow_jobs_or_rotation(arena, topic):
    board = arena.client("claim", "claim-S8")
    if not arena.is_ours:
        refused_connection(arena, board)
        return
    with board:
        assert board.connect()
        refused_message(arena, board, "claim 'workshop'", topic)


@pytest.mark.parametrize(
    "topic_filter", ["telemetry/van-1", "#", "$aws/#", "$aws/things/van-1/jobs/notify"]
)
def test_14_a_claim_certificate_that_listens(arena, topic_filter):
    board = arena.client("claim", "claim-S8")
    if not arena.is_ours:
        refused_connection(arena, board)
        return
    with board:
        assert board.connect()
        assert board.subscribe(topic_filter) == [128]
    arena.told("refused a subscription", topic_filter)


def test_15_a_claim_certificate_under_a_vehicles_client_id(arena):
    with arena.client("van-1", "van-1") as victim:
        assert victim.connect()
        refused_connection(arena, arena.client("claim", "van-1"), "refused", "van-1")
        victim.publish_acked("telemetry/van-1", sample_json("van-1"))
        assert not victim.disconnected.is_set()


# --- to get in with what does not count ------------------------------------------------


@pytest.mark.parametrize(
    ("name", "client_id", "reason"),
    [
        ("van-revoked", "van-revoked", "is revoked"),
        ("van-blocked", "van-blocked", "is blocked"),
        ("van-retired", "van-retired", "is not active"),
        ("van-expired", "van-expired", "expired"),
        ("pending", "van-1", "is not registered yet"),
        ("claim-revoked", "claim-S8", "is revoked"),
        ("foreign", "van-1", "not accepted"),
        ("forged", "van-1", "not accepted"),
        ("self-signed", "van-1", "not accepted"),
        ("server", "localhost", "not accepted"),
    ],
)
def test_16_a_certificate_that_does_not_count(arena, name, client_id, reason):
    refused_connection(arena, arena.client(name, client_id), "refused a connection", reason)


def test_17_no_certificate(arena):
    with arena.client("van-1", "van-1", certificate=False) as client:
        assert not client.connect()
    arena.told("no certificate" if arena.is_ours else "did not return a certificate")


def test_18_no_tls(arena):
    with socket.create_connection(("127.0.0.1", arena.port), 10) as plain:
        plain.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05van-1")
        with suppress(ConnectionResetError):
            assert not plain.recv(100).startswith(b"\x20"), "a CONNACK"
    arena.told(*(("refused a connection", "TLS") if arena.is_ours else ("SSL routines",)))


def test_19_an_old_tls(arena):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(arena.folder("van-1") / "ca.pem")
    context.load_cert_chain(
        *(arena.folder("van-1") / f"{name}.pem" for name in ("certificate", "key"))
    )
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", arena.port), 10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
    arena.told(*(("refused a connection", "TLS") if arena.is_ours else ("SSL routines",)))


# --- to register as what one is not ----------------------------------------------------


def refused_registration(arena, serial_number, reason):
    board = arena.client("claim", f"claim-{serial_number}")
    if not arena.is_ours:
        refused_connection(arena, board)  # nobody registers with Mosquitto
        return
    with board:
        assert board.connect()
        asker = Asker(board)
        token = asker.certificate()["certificateOwnershipToken"]
        fine, answer = asker.register(token, serial_number)
        assert not fine
        assert answer["statusCode"] == 403
    arena.told("refused", reason)


def test_20_registering_a_board_that_is_not_on_the_list(arena):
    refused_registration(arena, "S7", "'S7' is not on the allow list")


def test_21_registering_with_the_serial_number_of_a_blocked_vehicle(arena):
    refused_registration(arena, "S9", "is blocked")


def test_22_registering_with_the_token_of_another(arena, attacker):
    if not arena.is_ours:
        refused_message(arena, attacker, "van-2", CREATE_FROM_CSR)
        return
    with arena.client("van-1", "van-1") as victim:
        assert victim.connect()
        token = Asker(victim).certificate()["certificateOwnershipToken"]
    fine, answer = Asker(attacker).register(token, topic=ROTATE, ThingName="van-2")
    assert not fine
    arena.told("rejected", "van-2", answer["errorCode"])


def test_23_rotating_another_vehicles_certificate(arena, attacker):
    if not arena.is_ours:
        refused_message(arena, attacker, "van-2", ROTATE)
        return
    asker = Asker(attacker)
    token = asker.certificate()["certificateOwnershipToken"]
    fine, _ = asker.register(token, topic=ROTATE, ThingName="van-1")
    assert not fine
    arena.told("refused", "van-2", "van-1")


def test_24_a_request_for_a_certificate_in_anothers_name(arena, attacker):
    if not arena.is_ours:
        refused_message(arena, attacker, "van-2", CREATE_FROM_CSR)
        return
    asker = Asker(attacker)
    made = asker.ask(CREATE_FROM_CSR, {"certificateSigningRequest": csr_of(new_key(), "van-1")})[1]
    fine, answer = asker.register(
        made["certificateOwnershipToken"], topic=ROTATE, ThingName="van-2"
    )
    assert fine
    assert answer["thingName"] == "van-2", "what the request calls itself counts for nothing"
    arena.told("van-2", "got certificate")


def test_an_honest_vehicle_is_let_in_and_heard(arena):
    with arena.client("van-1", "van-1") as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json("van-1", run_id="0e57e57e"))
    wait_until(lambda: any("0e57e57e" in text for text in arena.arrived()), "its message")
