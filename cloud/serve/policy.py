"""Who may do what at the broker: the one-machine form of the AWS IoT policy.

A vehicle is its certificate's common name. It may connect under that name only, publish
to and subscribe to its own four topics, plain or through Basic Ingest, ask the device
services on its own reserved topics and hear their answers, and nothing else.
Pure: a refusal is the reason as text, ``None`` is permission.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cloud.serve.packets import (
    MAX_PAYLOAD_BYTES,
    MAX_PREFIX_BYTES,
    MAX_TOPIC_BYTES,
    Connect,
    Publish,
)
from contract import ContractError, MessageKind, Topics, parse_topic
from contract.jobs import JobTopics
from contract.shadow import ShadowTopics
from contract.topics import strip_basic_ingest

MAX_KEEP_ALIVE_S: Final = 1200
"""AWS IoT Core's longest; 0 asks for no limit and gets this."""


class ServiceTopics(NamedTuple):
    """What a vehicle may do on one device service's reserved topics: (vehicle_id, topic)."""

    service: str
    may_ask: Callable[[str, str], bool]
    may_hear: Callable[[str, str], bool]


DEVICE_SERVICES: Final = (
    ServiceTopics(
        "shadow",
        lambda vehicle_id, topic: ShadowTopics(vehicle_id).action_of(topic) is not None,
        lambda vehicle_id, topic: topic in ShadowTopics(vehicle_id).answers(),
    ),
    ServiceTopics(
        "jobs",
        lambda vehicle_id, topic: JobTopics(vehicle_id).parse(topic) is not None,
        lambda vehicle_id, topic: JobTopics(vehicle_id).may_hear(topic),
    ),
)
RESERVED: Final = "$aws/things/"


def refuse_connect(vehicle_id: str, connect: Connect) -> str | None:
    """Why this CONNECT is refused."""
    if connect.client_id != vehicle_id:
        return (
            f"client id {connect.client_id!r} is not the certificate's common name {vehicle_id!r}"
        )
    if connect.will is not None:
        if connect.will.topic.startswith(RESERVED):
            return f"last will: topic {connect.will.topic!r} is reserved"
        if reason := refuse_publish(vehicle_id, connect.will):
            return f"last will: {reason}"
    return None


def refuse_publish(vehicle_id: str, publish: Publish) -> str | None:
    """Why this message is refused."""
    if publish.qos > 1:
        return "QoS 2 is not served, as on AWS IoT Core"
    topic = publish.topic
    plain = strip_basic_ingest(topic)
    if len(plain.encode()) > MAX_TOPIC_BYTES or len(topic) - len(plain) > MAX_PREFIX_BYTES:
        return f"a topic of {len(topic)} characters"
    if len(publish.payload) > MAX_PAYLOAD_BYTES:
        return f"{len(publish.payload)} bytes of payload; at most {MAX_PAYLOAD_BYTES} are allowed"
    if topic.startswith(RESERVED):
        if publish.retain:
            return f"topic {topic!r} is reserved and retains nothing"
        if any(service.may_ask(vehicle_id, topic) for service in DEVICE_SERVICES):
            return None
        return f"topic {topic!r} is no request to a device service for {vehicle_id}"
    try:
        kind, owner = parse_topic(topic)
    except ContractError as error:
        return error.reason
    if owner != vehicle_id:
        return f"topic {topic!r} belongs to another vehicle"
    if plain != topic:
        rule_name = topic.removeprefix("$aws/rules/").removesuffix(f"/{plain}")
        if not rule_name.endswith(f"_{kind.value}"):
            return f"rule {rule_name!r} is not the one for {plain!r}"
        if publish.retain:
            return f"topic {topic!r} is reserved and retains nothing"
    return None


def refuse_subscribe(vehicle_id: str, topic_filter: str) -> str | None:
    """Why this subscription is refused; no wildcard passes but the one for a vehicle's own jobs."""
    topics = Topics(vehicle_id)
    if topic_filter in {topics.topic(kind) for kind in MessageKind}:
        return None
    if any(service.may_hear(vehicle_id, topic_filter) for service in DEVICE_SERVICES):
        return None
    return f"filter {topic_filter!r} is none of {vehicle_id}'s own topics"


def idle_limit_s(connect: Connect) -> float:
    """After this much silence the connection is dead (3.1.2-24: one and a half times)."""
    return 1.5 * min(connect.keep_alive_s or MAX_KEEP_ALIVE_S, MAX_KEEP_ALIVE_S)
