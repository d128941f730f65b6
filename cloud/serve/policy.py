"""Who may do what at the broker: the one-machine form of the AWS IoT policies.

A **vehicle** connects under its own name only, publishes to and subscribes to its own four
topics, plain or through Basic Ingest, asks the device services on its own reserved topics
and hears their answers, and may ask for its next certificate. A **claim** may ask for a
certificate and register one board with it. Neither may do anything else.
Pure: a refusal is the reason as text, ``None`` is permission.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cloud.provisioning.ports import Principal, PrincipalKind
from cloud.serve.packets import (
    MAX_PAYLOAD_BYTES,
    MAX_PREFIX_BYTES,
    MAX_TOPIC_BYTES,
    Connect,
    Publish,
)
from contract import ContractError, MessageKind, Topics, parse_topic
from contract.jobs import JobTopics
from contract.provisioning import (
    BY_CLAIM,
    CLAIM_CLIENT_PREFIX,
    CREATE_FROM_CSR,
    CREATE_KEYS,
    ROTATION,
    ProvisioningTopics,
    accepted,
    rejected,
)
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
PROVISIONING: Final = {
    PrincipalKind.CLAIM: (CREATE_FROM_CSR, CREATE_KEYS, ProvisioningTopics(BY_CLAIM).register),
    PrincipalKind.VEHICLE: (CREATE_FROM_CSR, ProvisioningTopics(ROTATION).register),
}
"""On which topics each kind of principal may ask the provisioning service."""
RESERVED: Final = ("$aws/things/", "$aws/certificates/", "$aws/provisioning-templates/")
MAX_CLIENT_ID: Final = 128
"""Characters, as on AWS IoT Core."""


def refuse_connect(principal: Principal, connect: Connect) -> str | None:
    """Why this CONNECT is refused."""
    if principal.kind is PrincipalKind.CLAIM:
        if not 1 <= len(connect.client_id) <= MAX_CLIENT_ID:
            return f"a client id of {len(connect.client_id)} characters"
        if not connect.client_id.startswith(CLAIM_CLIENT_PREFIX):
            return f"client id {connect.client_id!r} of a claim certificate lacks its claim-"
        return "a claim certificate has no last will" if connect.will is not None else None
    if connect.client_id != principal.name:
        return (
            f"client id {connect.client_id!r} is not its certificate's vehicle {principal.name!r}"
        )
    if connect.will is not None:
        if connect.will.topic.startswith(RESERVED):
            return f"last will: topic {connect.will.topic!r} is reserved"
        if reason := refuse_publish(principal, connect.will):
            return f"last will: {reason}"
    return None


def refuse_publish(principal: Principal, publish: Publish) -> str | None:
    """Why this message is refused."""
    if publish.qos > 1:
        return "QoS 2 is not served, as on AWS IoT Core"
    topic = publish.topic
    plain = strip_basic_ingest(topic)
    if len(plain.encode()) > MAX_TOPIC_BYTES or len(topic) - len(plain) > MAX_PREFIX_BYTES:
        return f"a topic of {len(topic)} characters"
    if len(publish.payload) > MAX_PAYLOAD_BYTES:
        return f"{len(publish.payload)} bytes of payload; at most {MAX_PAYLOAD_BYTES} are allowed"
    if publish.retain and topic.startswith("$"):
        return f"topic {topic!r} is reserved and retains nothing"
    if topic in PROVISIONING[principal.kind]:
        return None
    if principal.kind is PrincipalKind.CLAIM:
        return f"topic {topic!r} is none that a claim certificate may use"
    if topic.startswith(RESERVED):
        if any(service.may_ask(principal.name, topic) for service in DEVICE_SERVICES):
            return None
        return f"topic {topic!r} is no request to a device service for {principal.name}"
    try:
        kind, owner = parse_topic(topic)
    except ContractError as error:
        return error.reason
    if owner != principal.name:
        return f"topic {topic!r} belongs to another vehicle"
    if plain != topic:
        rule_name = topic.removeprefix("$aws/rules/").removesuffix(f"/{plain}")
        if not rule_name.endswith(f"_{kind.value}"):
            return f"rule {rule_name!r} is not the one for {plain!r}"
    return None


def refuse_subscribe(principal: Principal, topic_filter: str) -> str | None:
    """Why this subscription is refused; no wildcard passes but the one for a vehicle's own jobs."""
    requests = PROVISIONING[principal.kind]
    if any(topic_filter in {accepted(topic), rejected(topic)} for topic in requests):
        return None
    if principal.kind is PrincipalKind.CLAIM:
        return f"filter {topic_filter!r} is none that a claim certificate may use"
    topics = Topics(principal.name)
    if topic_filter in {topics.topic(kind) for kind in MessageKind}:
        return None
    if any(service.may_hear(principal.name, topic_filter) for service in DEVICE_SERVICES):
        return None
    return f"filter {topic_filter!r} is none of {principal.name}'s own topics"


def idle_limit_s(connect: Connect) -> float:
    """After this much silence the connection is dead (3.1.2-24: one and a half times)."""
    return 1.5 * min(connect.keep_alive_s or MAX_KEEP_ALIVE_S, MAX_KEEP_ALIVE_S)
