"""What awscrt's errors and MQTT 5's reason codes mean."""

from __future__ import annotations

from typing import Any, Final

from awscrt import mqtt5
from awscrt.exceptions import AwsCrtError

from agent.ports import PublishOutcome
from agent.transport.tls import Failure

_UNAUTHORISED: Final = frozenset(
    {"NOT_AUTHORIZED", "BAD_USERNAME_OR_PASSWORD", "BANNED", "CLIENT_IDENTIFIER_NOT_VALID"}
)
FAILED: Final = 128
"""MQTT 5, section 2.4: reason codes from here on are failures."""

_BAD_MESSAGE: Final = frozenset(
    {
        mqtt5.PubackReasonCode.TOPIC_NAME_INVALID,
        mqtt5.PubackReasonCode.PAYLOAD_FORMAT_INVALID,
    }
)
_INVALID: Final = ("OPTIONS_VALIDATION", "PACKET_VALIDATION", "ENCODE_FAILURE")

_REASONS: Final = {
    "AWS_IO_SOCKET_CONNECTION_REFUSED": "nothing listens on the broker's port",
    "AWS_IO_SOCKET_TIMEOUT": "the broker does not answer",
    "AWS_ERROR_MQTT5_CONNACK_TIMEOUT": "the broker does not answer",
    "AWS_ERROR_MQTT5_PING_RESPONSE_TIMEOUT": "the broker does not answer",
    "AWS_IO_SOCKET_NO_ROUTE_TO_HOST": "there is no route to the broker",
    "AWS_IO_SOCKET_NETWORK_DOWN": "the network is down",
}


HANDSHAKE: Final = Failure("TLS failed", unauthorised=False)
"""Stands for: awscrt does not say what was wrong."""


def failure_of(error: BaseException | None) -> Failure:
    """Why a dial, or a connection, failed."""
    name = error.name if isinstance(error, AwsCrtError) else ""
    if name.startswith("AWS_IO_DNS_"):
        text = f"the broker's name cannot be resolved ({error.message})"  # type: ignore[union-attr]
        return Failure(text, unauthorised=False)
    if name in _REASONS:
        return Failure(_REASONS[name], unauthorised=False)
    if name.startswith(("AWS_IO_TLS_", "AWS_IO_SOCKET_CLOSED", "AWS_ERROR_MQTT_UNEXPECTED")):
        return HANDSHAKE
    return Failure(str(error), unauthorised=False)


def is_invalid(error: BaseException) -> bool:
    """Whether it says that the message can never be sent, whatever the connection."""
    return any(part in str(error) for part in _INVALID)


def refused(what: str, code: Any) -> Failure:
    """The broker said no, with a reason code of any packet."""
    name = getattr(code, "name", "")
    return Failure(f"{what}: {words(code)}", unauthorised=name in _UNAUTHORISED)


def words(code: Any) -> str:
    """A reason code for people, e.g. ``Not authorized``."""
    name = getattr(code, "name", None)
    return name.replace("_", " ").capitalize() if name else f"reason code {code}"


def outcome_of(code: int) -> PublishOutcome | None:
    """What a PUBACK means; None for a broker that takes nothing now, e.g. over its quota."""
    if code < FAILED:
        return PublishOutcome.ACKNOWLEDGED
    if code == mqtt5.PubackReasonCode.NOT_AUTHORIZED:
        return PublishOutcome.DENIED
    return PublishOutcome.REFUSED if code in _BAD_MESSAGE else None
