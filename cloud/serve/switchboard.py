"""amqtt behind the gate: sessions, subscriptions, retained messages, wills to subscribers.

Only its public interface is used: an external listener that is handed a reader and a
writer per connection, and plugins for authentication and topics. Decision 0002 says why
it does not hold the socket itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin

from cloud.pki import certificate_id_of_der
from cloud.provisioning.ports import Principal
from cloud.serve.policy import refuse_subscribe

if TYPE_CHECKING:
    from amqtt.session import Session

SESSION_EXPIRY_S: Final = 3600
"""AWS IoT Core's default for a persistent session."""
LINGER_S: Final = 2.0
LISTENER: Final = "default"
THIS_MODULE: Final = __name__

log = logging.getLogger(__name__)


class GatePlugin(BaseAuthPlugin):  # type: ignore[misc]  # amqtt publishes no types
    """Accepts what came through the gate, which asked for the certificate already."""

    @dataclass
    class Config:
        """``admitted`` is the switchboard's: principals by client id."""

        admitted: Any

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the gate admitted this client.

        A session's own ``ssl_object`` says nothing: one that persists keeps that of its first
        connection, and its vehicle may have another certificate since.
        """
        return session.client_id in self.config.admitted


class OwnTopicsPlugin(BaseTopicPlugin):  # type: ignore[misc]  # amqtt publishes no types
    """Lets a client subscribe to its own topics; publishing was checked by the gate."""

    @dataclass
    class Config:
        """``admitted`` is the switchboard's: principals by client id."""

        admitted: Any

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool | None:
        """Whether ``session`` may do ``action`` on ``topic``."""
        if action is not Action.SUBSCRIBE:
            return True
        principal = self.config.admitted.get(session.client_id) if session else None
        if session is None or principal is None or topic is None:
            return False
        reason = refuse_subscribe(principal, topic)
        if reason is not None:
            log.warning("refused a subscription of %s: %s", session.client_id, reason)
        return reason is None


class PromptWriter(StreamWriterAdapter):  # type: ignore[misc]  # amqtt publishes no types
    """Closes without waiting for a peer that may be gone; tells of the first write."""

    def __init__(self, writer: asyncio.StreamWriter, greeted: asyncio.Event) -> None:
        super().__init__(writer)
        self._stream = writer
        self._greeted = greeted

    def write(self, data: bytes) -> None:
        """Write one whole packet; the first is the CONNACK."""
        super().write(data)
        self._greeted.set()

    async def close(self) -> None:
        """Close; what is not sent within ``LINGER_S`` is dropped with the connection."""
        self.is_closed = True
        close_promptly(self._stream)


class Switchboard:
    """The broker library's life."""

    def __init__(self) -> None:
        self._broker: Any = None
        self._admitted: dict[str, Principal] = {}

    async def start(self) -> None:
        """Start amqtt without a socket of its own."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        config = BrokerConfig(
            listeners={LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
            session_expiry_interval=SESSION_EXPIRY_S,
            plugins={
                f"{THIS_MODULE}.{plugin.__name__}": {"admitted": self._admitted}
                for plugin in (GatePlugin, OwnTopicsPlugin)
            },
        )
        self._broker = Broker(config)
        await self._broker.start()

    async def serve(
        self,
        client_id: str,
        principal: Principal,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        greeted: asyncio.Event,
    ) -> None:
        """Serve one connection whose packets are fed to ``reader``; returns at its end.

        ``greeted`` is set when the CONNACK was written. One connection of a client id at a
        time.
        """
        self._admitted[client_id] = principal
        try:
            await self._broker.external_connected(
                StreamReaderAdapter(reader), PromptWriter(writer, greeted), LISTENER
            )
        finally:
            del self._admitted[client_id]

    async def tell(self, topic: str, payload: bytes) -> None:
        """Publish a message of the cloud's own, at each subscription's QoS."""
        await self._broker.internal_message_broadcast(topic, payload)

    def hears(self, client_id: str, topic: str) -> bool:
        """Whether this client subscribed to exactly this topic."""
        subscriptions = self._broker.subscriptions.get(topic, ())
        return any(session.client_id == client_id for session, _ in subscriptions)

    def has_subscribers(self) -> bool:
        """Whether anybody subscribed to anything."""
        return bool(self._broker.subscriptions)

    async def stop(self) -> None:
        """Stop; idempotent."""
        if self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.shutdown()


def close_promptly(writer: asyncio.StreamWriter) -> None:
    """Close, and cut the connection when the peer does not take part within ``LINGER_S``."""
    if writer.is_closing():
        return
    writer.close()
    asyncio.get_running_loop().call_later(LINGER_S, writer.transport.abort)


def certificate_id(ssl_object: Any) -> str | None:
    """The id of the verified peer certificate."""
    der = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    return certificate_id_of_der(der) if der else None
