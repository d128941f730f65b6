"""The provisioning service through the agent's paho transport: runs everywhere, armv7 too."""

from __future__ import annotations

import json
import queue
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.ports import Clock, PublishOutcome
from agent.provision.failures import Cause, ProvisionError
from agent.provision.service import (
    Issued,
    issued,
    may_not,
    no_answer,
    registered_name,
    rejection,
)
from agent.transport import Credentials
from agent.transport.endpoint import Endpoint
from agent.transport.paho_transport import PahoTransport
from contract.provisioning import CREATE_FROM_CSR, ProvisioningTopics, accepted, rejected

_MOST_DEPTH_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class _Connected:
    """CONNACK accepted the claim."""


@dataclass(frozen=True, slots=True)
class _Ended:
    reason: str
    unauthorised: bool


@dataclass(frozen=True, slots=True)
class _Granted:
    topic: str
    refusal: str | None


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes


class _Events:
    """Implements ``TransportEvents``: everything into one queue."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[_Connected | _Ended | _Granted | _Message] = (
            queue.SimpleQueue()
        )

    def on_connected(self) -> None:
        """See the port."""
        self.queue.put(_Connected())

    def on_disconnected(self, reason: str, *, unauthorised: bool) -> None:
        """See the port."""
        self.queue.put(_Ended(reason, unauthorised))

    def on_outcome(self, token: int, outcome: PublishOutcome) -> None:
        """See the port. The answer counts, not the PUBACK."""

    def on_subscribed(self, topic_filter: str, refusal: str | None) -> None:
        """See the port."""
        self.queue.put(_Granted(topic_filter, refusal))

    def on_message(self, topic: str, payload: bytes) -> None:
        """See the port."""
        self.queue.put(_Message(topic, payload))


class MqttService:
    """Implements ``service.ProvisioningService``; the constructor connects.

    Raises:
        ProvisionError: the broker does not answer, or refuses the claim certificate.
    """

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials, *, timeout_s: float, clock: Clock
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._events = _Events()
        self._requests = 0
        self._transport = PahoTransport(
            clock=clock, endpoint=endpoint, credentials=credentials, make_will=lambda: None
        )
        self._transport.start(self._events)
        self._transport.connect()
        try:
            self._until("CONNECT", lambda event: isinstance(event, _Connected))
        except ProvisionError:
            self.close()
            raise

    def create_from_csr(self, signing_request: str) -> Issued:
        """See the port."""
        answer = self._ask(
            "the request for a certificate",
            CREATE_FROM_CSR,
            {"certificateSigningRequest": signing_request},
        )
        return issued(
            answer.get("certificateId"),
            answer.get("certificatePem"),
            answer.get("certificateOwnershipToken"),
        )

    def register(self, template: str, token: str, parameters: Mapping[str, str]) -> str:
        """See the port."""
        answer = self._ask(
            "the registration",
            ProvisioningTopics(template).register,
            {"certificateOwnershipToken": token, "parameters": dict(parameters)},
        )
        return registered_name(answer.get("thingName"))

    def close(self) -> None:
        """See the port."""
        self._transport.close()

    def _ask(self, what: str, topic: str, request: dict[str, Any]) -> dict[str, Any]:
        answers = (accepted(topic), rejected(topic))
        self._transport.subscribe(answers)
        for _ in answers:
            granted: Any = self._until(what, lambda event: isinstance(event, _Granted))
            if granted.refusal is not None:
                raise may_not(topic)
        self._requests += 1
        self._transport.publish(self._requests, topic, json.dumps(request).encode())
        message: Any = self._until(
            what, lambda event: isinstance(event, _Message) and event.topic in answers
        )
        answer = _read(message.payload, what)
        if message.topic == answers[0]:
            return answer
        raise rejection(
            what, answer.get("statusCode"), answer.get("errorCode"), answer.get("errorMessage")
        )

    def _until(self, what: str, is_wanted: Any) -> Any:
        until_s = self._clock.monotonic_s() + self._timeout_s
        while True:
            left_s = until_s - self._clock.monotonic_s()
            try:
                event = self._events.queue.get(timeout=max(0.0, left_s))
            except queue.Empty:
                raise no_answer(what, self._timeout_s) from None
            if isinstance(event, _Ended):
                raise _ended(event, what)
            if is_wanted(event):
                return event


def _read(payload: bytes, what: str) -> dict[str, Any]:
    try:
        answer = json.loads(payload)
        if not isinstance(answer, dict):
            raise TypeError("it is no JSON object")  # noqa: TRY301  told below, too
    except (ValueError, TypeError, RecursionError) as error:
        raise ProvisionError(
            Cause.BAD_ANSWER,
            f"the answer to {what} cannot be read: {error}"[:_MOST_DEPTH_TEXT],
            hint="Look into the provisioning service's log.",
        ) from error
    return answer


def _ended(event: _Ended, what: str) -> ProvisionError:
    if event.unauthorised:
        return ProvisionError(
            Cause.CLAIM_REFUSED,
            f"the broker refuses the claim certificate: {event.reason}",
            hint="Check that it is active: milepost-cloud fleet claim list.",
        )
    return ProvisionError(Cause.NO_ANSWER, f"the connection ended during {what}: {event.reason}")
