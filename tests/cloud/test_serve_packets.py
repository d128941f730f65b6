"""What the gate reads of MQTT, and the policy on top of it."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.provisioning.ports import Principal, PrincipalKind
from cloud.serve.packets import (
    MAX_PACKET_BYTES,
    Connect,
    Packet,
    PacketType,
    ProtocolError,
    Publish,
    decode_connect,
    decode_publish,
    puback,
    read_packet,
)
from cloud.serve.policy import (
    idle_limit_s,
    refuse_connect,
    refuse_publish,
    refuse_subscribe,
)
from contract.provisioning import (
    BY_CLAIM,
    CREATE_FROM_CSR,
    CREATE_KEYS,
    ROTATION,
    ProvisioningTopics,
    accepted,
    rejected,
)

VAN = Principal(PrincipalKind.VEHICLE, "van-1", "f" * 64)
CLAIM = Principal(PrincipalKind.CLAIM, "spring", "e" * 64)


def read(data, **options):
    async def run():
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_packet(reader, **options)

    return asyncio.run(run())


def text(value):
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def connect_as(client_id, *, keep_alive_s=60, will=None):
    return Connect(
        "MQTT", 4, clean_session=True, keep_alive_s=keep_alive_s, client_id=client_id, will=will
    )


def connect_packet(flags, *parts, level=4, protocol="MQTT"):
    body = text(protocol) + bytes([level, flags, 0, 60]) + b"".join(parts)
    return Packet(PacketType.CONNECT << 4, body)


@given(st.integers(0, 255), st.binary(max_size=300))
def test_a_packet_survives_the_wire(first_byte, body):
    packet = Packet(first_byte, body)
    assert read(packet.encode()) == packet


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, MAX_PACKET_BYTES])
def test_every_length_of_the_length_is_read(size):
    assert len(read(Packet(0x30, b"x" * size).encode()).body) == size


def test_a_packet_over_the_limit_is_refused_before_it_is_read():
    header = Packet(0x30, b"x" * (MAX_PACKET_BYTES + 1)).encode()[:4]
    with pytest.raises(ProtocolError, match="at most"):
        read(header)


def test_a_length_of_five_bytes_is_refused():
    with pytest.raises(ProtocolError, match="more than 4 bytes"):
        read(b"\x30\xff\xff\xff\xff\x01")


def test_another_type_than_asked_for_is_turned_down_by_its_first_byte():
    with pytest.raises(ProtocolError, match="no CONNECT"):
        read(b"G", only=PacketType.CONNECT)


def test_a_packet_that_is_cut_short_is_the_end():
    with pytest.raises(EOFError):
        read(b"\x30\x05ab")


@given(st.binary(max_size=80))
def test_hostile_bytes_in_connect_raise_nothing_else(body):
    with contextlib.suppress(ProtocolError):
        decode_connect(Packet(PacketType.CONNECT << 4, body))


@given(st.integers(0x30, 0x3F), st.binary(max_size=80))
def test_hostile_bytes_in_publish_raise_nothing_else(first_byte, body):
    with contextlib.suppress(ProtocolError):
        decode_publish(Packet(first_byte, body))


def test_connect_with_a_will_is_read():
    packet = connect_packet(0x2E, text("van-1"), text("status/van-1"), text("gone"))
    will = Publish("status/van-1", b"gone", qos=1, retain=True)
    assert decode_connect(packet) == connect_as("van-1", will=will)


def test_another_protocol_level_is_told_apart_without_reading_on():
    assert decode_connect(connect_packet(0x02, b"\x00", level=5)).level == 5


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Packet(0x30, b""), "no CONNECT"),
        (connect_packet(0x03, text("van-1")), "reserved flag"),
        (connect_packet(0x22, text("van-1")), "without a will"),
        (connect_packet(0x02, b"\x00\x05van"), "too early"),
        (connect_packet(0x02, b"\x00\x01\xff"), "UTF-8"),
        (connect_packet(0x02, text("a\0b")), "U+0000"),
    ],
)
def test_a_broken_connect_is_refused_with_the_reason(packet, reason):
    with pytest.raises(ProtocolError, match=reason.replace("+", r"\+")):
        decode_connect(packet)


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.binary(), st.booleans())
def test_a_message_passed_on_keeps_everything_but_its_acknowledgement(topic, payload, retain):
    publish = Publish(topic, payload, 1, retain, 7)
    assert decode_publish(read(publish.as_qos_0())) == Publish(topic, payload, 0, retain, None)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Packet(0x36, text("a") + b"\0\1"), "QoS 3"),
        (Packet(0x32, text("a") + b"\0\0"), "identifier 0"),
        (Packet(0x32, text("a")), "too early"),
    ],
)
def test_a_broken_publish_is_refused_with_the_reason(packet, reason):
    with pytest.raises(ProtocolError, match=reason):
        decode_publish(packet)


def test_an_acknowledgement_has_four_bytes():
    assert puback(0x1234) == b"\x40\x02\x12\x34"


def own(topic, **changes):
    given_ = {"payload": b"{}", "qos": 1, "retain": False, **changes}
    return refuse_publish(VAN, Publish(topic, **given_))


@pytest.mark.parametrize(
    "topic",
    [
        "telemetry/van-1",
        "telemetry/van-1/batch",
        "events/van-1",
        "status/van-1",
        "$aws/rules/milepost_batch/telemetry/van-1/batch",
        "$aws/rules/fleet_7_status/status/van-1",
    ],
)
def test_a_vehicle_may_publish_on_its_own_topics(topic):
    assert own(topic) is None


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("telemetry/van-2", "another vehicle"),
        ("telemetry/van-1/batch/x", "none of Milepost's"),
        ("telemetry/+", "no vehicle_id"),
        ("", "none of Milepost's"),
        ("$aws/rules/milepost_status_refused/status/van-1", "not the one for"),
        ("$aws/rules/milepost_batch/telemetry/van-1", "not the one for"),
        ("telemetry/" + "v" * 300, "a topic of"),
    ],
)
def test_any_other_topic_is_refused_with_the_reason(topic, reason):
    assert reason in own(topic)


def test_a_reserved_topic_retains_nothing():
    assert "retains nothing" in own("$aws/rules/milepost_status/status/van-1", retain=True)


def test_subscriptions_are_for_exact_topics_of_its_own():
    assert refuse_subscribe(VAN, "status/van-1") is None
    assert refuse_subscribe(VAN, "telemetry/van-1/batch") is None
    for topic_filter in ("#", "status/+", "status/van-2", "status/van-1/#", "$SYS/#"):
        assert refuse_subscribe(VAN, topic_filter) is not None


REGISTER = {name: ProvisioningTopics(name).register for name in (BY_CLAIM, ROTATION)}


@pytest.mark.parametrize("topic", [CREATE_FROM_CSR, CREATE_KEYS, REGISTER[BY_CLAIM]])
def test_a_claim_may_provision_and_hear_the_answers(topic):
    assert refuse_publish(CLAIM, Publish(topic, b"{}", qos=1, retain=False)) is None
    assert refuse_subscribe(CLAIM, accepted(topic)) is None
    assert refuse_subscribe(CLAIM, rejected(topic)) is None


@pytest.mark.parametrize(
    "topic",
    [
        "telemetry/spring",
        "status/spring",
        "events/van-1",
        "$aws/rules/milepost_telemetry/telemetry/spring",
        "$aws/things/spring/shadow/name/milepost/get",
        "$aws/things/van-1/shadow/name/milepost/update",
        "$aws/certificates/create-from-csr/cbor",
        REGISTER[ROTATION],
        ProvisioningTopics("another").register,
        "",
    ],
)
def test_a_claim_may_do_nothing_else(topic):
    assert refuse_publish(CLAIM, Publish(topic, b"{}", qos=1, retain=False)) is not None
    assert refuse_subscribe(CLAIM, topic) is not None
    assert refuse_subscribe(CLAIM, f"{topic}/accepted") is not None


@pytest.mark.parametrize(
    "topic_filter",
    ["#", "$aws/#", "$aws/certificates/#", "$aws/certificates/create-from-csr/json/+", "status/+"],
)
def test_a_claim_subscribes_to_no_wildcard(topic_filter):
    assert refuse_subscribe(CLAIM, topic_filter) is not None


@pytest.mark.parametrize("topic", [CREATE_FROM_CSR, REGISTER[ROTATION]])
def test_a_vehicle_may_ask_for_its_next_certificate(topic):
    assert own(topic) is None
    assert refuse_subscribe(VAN, accepted(topic)) is None
    assert refuse_subscribe(VAN, rejected(topic)) is None


@pytest.mark.parametrize("topic", [CREATE_KEYS, REGISTER[BY_CLAIM]])
def test_a_vehicle_may_not_register_as_a_new_board_does(topic):
    assert own(topic) is not None
    assert refuse_subscribe(VAN, accepted(topic)) is not None


def test_nothing_is_retained_on_provisioning_topics():
    assert "retains nothing" in own(CREATE_FROM_CSR, retain=True)


@pytest.mark.parametrize("client_id", ["", "claim-" + "x" * 123, "van-1", "Claim-1"])
def test_a_claim_needs_a_client_id_that_is_no_vehicles(client_id):
    assert refuse_connect(CLAIM, connect_as(client_id)) is not None


def test_a_claim_connects_under_a_name_of_its_own_and_leaves_no_will():
    assert refuse_connect(CLAIM, connect_as("claim-10000000a1b2c3d4")) is None
    will = Publish("status/van-1", b"{}", qos=1, retain=True)
    assert "last will" in refuse_connect(CLAIM, connect_as("claim-x", will=will))


def test_the_client_id_must_be_the_certificates_vehicle():
    connect = connect_as("van-2")
    assert "'van-2'" in refuse_connect(VAN, connect)
    assert refuse_connect(replace(VAN, name="van-2"), connect) is None


@pytest.mark.parametrize(("keep_alive_s", "limit_s"), [(60, 90), (0, 1800), (65_535, 1800)])
def test_silence_is_bounded_even_without_a_keep_alive(keep_alive_s, limit_s):
    assert idle_limit_s(connect_as("van-1", keep_alive_s=keep_alive_s)) == limit_s
