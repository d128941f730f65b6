"""One client's connection, from its TLS handshake to its end.

The gate reads every packet before the broker library does. It takes messages itself:
checked, appended to the stream, and only then acknowledged. The library sees a message
when somebody may want it (retained, or anybody has subscribed), as QoS 0, because its
acknowledgement was the gate's to give; all other packets it sees as they came. Requests
to a device service go to that service instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from cloud.clock import Clock
from cloud.provisioning.ports import Principal, PrincipalKind
from cloud.serve.device_services import Client, DeviceServices
from cloud.serve.ingest import Ingest, Message
from cloud.serve.packets import (
    Connect,
    ConnectRefusal,
    Packet,
    PacketType,
    ProtocolError,
    Publish,
    connack,
    decode_connect,
    decode_publish,
    puback,
    read_packet,
    with_clean_session,
)
from cloud.serve.policy import idle_limit_s, refuse_connect, refuse_publish
from cloud.serve.switchboard import Switchboard, close_promptly
from cloud.stores.announcements import Announcement

MAX_IN_FLIGHT: Final = 100
"""Unacknowledged messages a connection may have, as on AWS IoT Core; then it is not read."""
CONNECT_TIMEOUT_S: Final = 10.0
MAX_CONNECT_BYTES: Final = 140 * 1024

FORWARDED: Final = frozenset(
    {
        PacketType.PUBACK,
        PacketType.PUBREC,
        PacketType.PUBCOMP,
        PacketType.SUBSCRIBE,
        PacketType.UNSUBSCRIBE,
        PacketType.PINGREQ,
        PacketType.DISCONNECT,
    }
)

log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818  the client is refused, the gate is well
    """A client wanted what it may not, e.g. another vehicle's topic; it is disconnected."""


class Connection:
    """Created when the certificate is verified; ``run`` returns when all is over."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        principal: Principal,
        ingest: Ingest,
        services: DeviceServices,
        switchboard: Switchboard,
        clock: Clock,
    ) -> None:
        self.principal = principal
        self.ended = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._ingest = ingest
        self._services = services
        self._switchboard = switchboard
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._onward = asyncio.StreamReader()
        self._onward_open = True
        self._greeted = asyncio.Event()
        self._said_goodbye = False
        self._publishes_will = True

    @property
    def name(self) -> str:
        """The client, for people."""
        is_claim = self.principal.kind is PrincipalKind.CLAIM
        return f"claim {self.principal.name!r}" if is_claim else self.principal.name

    async def connect(self) -> Connect:
        """Read the CONNECT and judge it.

        Raises:
            Refused: this client may not connect so; it was told.
            ProtocolError, OSError, EOFError, TimeoutError: no CONNECT came.
        """
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            packet = await read_packet(self._reader, MAX_CONNECT_BYTES, only=PacketType.CONNECT)
        connect = decode_connect(packet)
        if connect.protocol != "MQTT" or connect.level != 4:
            self._writer.write(connack(ConnectRefusal.PROTOCOL_VERSION))
            raise Refused(f"protocol {connect.protocol} level {connect.level}; use MQTT 3.1.1")
        if reason := refuse_connect(self.principal, connect):
            self._writer.write(connack(ConnectRefusal.NOT_AUTHORIZED))
            raise Refused(reason)
        if self.principal.kind is PrincipalKind.CLAIM:  # else its every client id leaves a session
            packet = with_clean_session(packet)
        self._forward(packet.encode())
        return connect

    async def run(self, connect: Connect) -> None:
        """Serve until the client leaves, is silent for too long or breaks a rule."""
        client = Client(self.principal, connect.client_id, partial(self._tell, connect.client_id))
        library = asyncio.create_task(
            self._switchboard.serve(
                client.client_id, self.principal, self._onward, self._writer, self._greeted
            ),
            name="switchboard",
        )
        pump = asyncio.create_task(self._pump(client, idle_limit_s(connect)), name="pump")
        try:
            await asyncio.wait({library, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            self._report(*await asyncio.gather(pump, return_exceptions=True))
            if connect.will is not None and self._publishes_will and not self._said_goodbye:
                self._take(connect.will, lambda _durable: None)
            self._onward_open = False
            self._onward.feed_eof()
            self._report(*await asyncio.gather(library, return_exceptions=True))
            close_promptly(self._writer)
            self.ended.set()

    def close(self, reason: str, *, with_will: bool = True) -> None:
        """End the connection soon; ``ended`` tells when."""
        level = logging.INFO if with_will else logging.DEBUG
        log.log(level, "closing the connection of %s: %s", self.name, reason)
        self._publishes_will = with_will
        if not with_will:
            self._forward(Packet(PacketType.DISCONNECT << 4, b"").encode())
        self._writer.transport.abort()

    def _report(self, outcome: BaseException | None) -> None:
        if isinstance(outcome, Exception):  # a fault of ours or of the library, not the peer's
            log.error("the connection of %s failed: %r", self.name, outcome)

    async def _pump(self, client: Client, idle_s: float) -> None:
        try:
            await self._greeted.wait()  # no PUBACK before the CONNACK
            while not self._said_goodbye:
                async with asyncio.timeout(idle_s):
                    packet = await read_packet(self._reader)
                await self._handle(client, packet)
                await self._writer.drain()
        except TimeoutError:
            log.info("%s was silent for %.0f s; its connection is closed", self.name, idle_s)
        except (Refused, ProtocolError) as reason:
            log.warning("disconnected %s: %s", self.name, reason)
        except (OSError, EOFError) as reason:
            log.debug("the connection of %s ended: %r", self.name, reason)

    async def _handle(self, client: Client, packet: Packet) -> None:
        if packet.type == PacketType.PUBLISH:
            publish = decode_publish(packet)
            if reason := refuse_publish(self.principal, publish):
                raise Refused(reason)
            await self._slots.acquire()
            settled = self._acknowledge(publish)
            if not self._services.take(client, publish.topic, publish.payload, settled):
                await self._ingest.room()
                self._take(publish, settled)
            return
        if packet.type not in FORWARDED:
            raise ProtocolError(f"unexpected packet of type {packet.type}")
        if packet.type == PacketType.DISCONNECT:
            self._said_goodbye = True
        self._forward(packet.encode())

    def _take(self, publish: Publish, settled: Callable[[bool], None]) -> None:
        message = Message(
            self.principal.name,
            publish.topic,
            publish.payload,
            self._clock.utc(),
            self.principal.certificate_id,
        )
        self._ingest.submit(message, settled)

    async def _tell(self, client_id: str, one: Announcement) -> None:
        """Answer this client and nobody else, if it has subscribed and is still there."""
        if (
            self._onward_open
            and not self._writer.is_closing()
            and self._switchboard.hears(client_id, one.topic)
        ):
            self._writer.write(Publish(one.topic, one.payload, qos=0, retain=False).as_qos_0())

    def _forward(self, data: bytes) -> None:
        if self._onward_open:  # an acknowledgement may come after the connection's end
            self._onward.feed_data(data)

    def _acknowledge(self, publish: Publish) -> Callable[[bool], None]:
        def settled(durable: bool) -> None:  # noqa: FBT001  a callback's argument
            self._slots.release()
            if not durable:
                self._writer.transport.abort()
            elif not self._writer.is_closing():
                if publish.packet_id is not None:
                    self._writer.write(puback(publish.packet_id))
                if not publish.topic.startswith("$") and (
                    publish.retain or self._switchboard.has_subscribers()
                ):
                    self._forward(publish.as_qos_0())

        return settled
