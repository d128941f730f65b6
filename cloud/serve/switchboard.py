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
        """No settings."""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the session has a verified certificate of that name (a second look)."""
        name = common_name(session.ssl_object)
        return name is not None and name == session.client_id


class OwnTopicsPlugin(BaseTopicPlugin):  # type: ignore[misc]  # amqtt publishes no types
    """Lets a vehicle subscribe to its own topics; publishing was checked by the gate."""

    @dataclass
    class Config:
        """No settings."""

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
        if session is None or session.client_id is None or topic is None:
            return False
        reason = refuse_subscribe(session.client_id, topic)
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

    async def start(self) -> None:
        """Start amqtt without a socket of its own."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        config = BrokerConfig(
            listeners={LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
            session_expiry_interval=SESSION_EXPIRY_S,
            plugins={
                f"{THIS_MODULE}.{GatePlugin.__name__}": {},
                f"{THIS_MODULE}.{OwnTopicsPlugin.__name__}": {},
            },
        )
        self._broker = Broker(config)
        await self._broker.start()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeted: asyncio.Event
    ) -> None:
        """Serve one connection whose packets are fed to ``reader``; returns at its end.

        ``greeted`` is set when the CONNACK was written.
        """
        await self._broker.external_connected(
            StreamReaderAdapter(reader), PromptWriter(writer, greeted), LISTENER
        )

    async def tell(self, topic: str, payload: bytes) -> None:
        """Publish a message of the cloud's own, at each subscription's QoS."""
        await self._broker.internal_message_broadcast(topic, payload)

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


def common_name(ssl_object: Any) -> str | None:
    """The verified peer certificate's one common name."""
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    names: list[str] = [
        value
        for relative_name in (certificate or {}).get("subject", ())
        for key, value in relative_name
        if key == "commonName"
    ]
    return names[0] if len(names) == 1 else None
