"""The embedded MQTT broker: mutual TLS, one connection per client id, durable before PUBACK.

A client is let in when its certificate was signed by this cloud's own authority, is within
its validity and ACTIVE in the registry, and its client id is that certificate's vehicle.
A claim certificate has client ids of its own (``cloud.serve.policy``). Everything else is closed,
with one log line that says why; so is a connection whose certificate stops to count.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.provisioning.ports import Principal, PrincipalKind, Refusal
from cloud.serve.device_services import DeviceService, DeviceServices, PrivateService
from cloud.serve.gate import Connection, Refused
from cloud.serve.ingest import Ingest
from cloud.serve.packets import ProtocolError
from cloud.serve.switchboard import Switchboard, certificate_id, close_promptly
from cloud.serve.tls import server_context

MAX_CONNECTIONS: Final = 2_000
MAX_CLAIM_CONNECTIONS: Final = 200
"""So that whoever has a claim's key cannot keep the vehicles out."""
HANDSHAKE_TIMEOUT_S: Final = 10.0
REGISTRY_CHECK_S: Final = 1.0
STOP_TIMEOUT_S: Final = 5.0

log = logging.getLogger(__name__)


class Registry(Protocol):
    """Who may connect; called from threads. All raise ``StoreError`` when it cannot be known."""

    def revision(self) -> int:
        """Another number after each change that may end a connection."""
        ...

    def principal(self, certificate_id: str) -> Principal | Refusal:
        """Whom a certificate stands for, or why it does not count."""
        ...

    def connected(self, certificate_id: str) -> None:
        """A certificate is being used."""
        ...


class Broker:
    """Start it, and it listens; stop it, and no message is taken any more."""

    def __init__(
        self,
        *,
        ca_file: Path,
        server_file: Path,
        registry: Registry,
        ingest: Ingest,
        clock: Clock,
        services: Sequence[DeviceService] = (),
        private_services: Sequence[PrivateService] = (),
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._ingest = ingest
        self._clock = clock
        self._max_connections = max_connections
        self._context = server_context(ca_file, server_file)
        self._registry = registry
        self._switchboard = Switchboard()
        self._services = DeviceServices(
            services,
            lambda one: self._switchboard.tell(one.topic, one.payload),
            private_services,
        )
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[str, Connection] = {}
        self.refused = 0
        """Connections that were turned away."""

    async def start(self, listener: socket.socket) -> None:
        """Take connections from a listening socket, which is closed at the end."""
        await self._switchboard.start()
        self._services.start()
        self._server = await asyncio.start_server(self._accept, sock=listener)
        self._watch = asyncio.create_task(self._watch_registry(), name="registry")

    def connected(self) -> list[str]:
        """The vehicles that hold a connection."""
        return sorted(
            client_id
            for client_id, one in self._connections.items()
            if one.principal.kind is PrincipalKind.VEHICLE
        )

    async def stop(self) -> None:
        """Close the socket and every connection, without publishing wills; idempotent.

        What was acknowledged is in the stream; what was not will come again.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._watch is not None:
            self._watch.cancel()
        open_ones = list(self._connections.values())
        for connection in open_ones:
            connection.close("the cloud stops", with_will=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.gather(*(connection.ended.wait() for connection in open_ones))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._services.stop()
        await self._switchboard.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        try:
            self._check_room()
            await writer.start_tls(self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S)
            connection = await self._admit(reader, writer)
            connect = await connection.connect()
            self._check_claims(connection.principal)
            await asyncio.to_thread(self._registry.connected, connection.principal.certificate_id)
        except (Refused, ProtocolError, StoreError, OSError, EOFError, TimeoutError) as error:
            self._turn_away(writer, peer, error)
            return
        client_id = connect.client_id
        while (older := self._connections.get(client_id)) is not None:
            older.close("a newer connection of the same client takes over")
            await older.ended.wait()
        self._connections[client_id] = connection
        try:
            # again: what changed before it stood in the table was nobody's to see
            await self._principal(connection.principal.certificate_id)
            log.info("%s connected from %s", connection.name, _address(peer))
            await connection.run(connect)
        except (Refused, StoreError) as error:
            self._turn_away(writer, peer, error)
        finally:
            connection.ended.set()
            del self._connections[client_id]

    def _turn_away(self, writer: asyncio.StreamWriter, peer: Any, error: Exception) -> None:
        self.refused += 1
        log.warning("refused a connection from %s: %s", _address(peer), _explain(error))
        close_promptly(writer)

    def _check_room(self) -> None:
        if len(self._tasks) > self._max_connections:
            raise Refused(f"{self._max_connections} connections are open already")

    def _check_claims(self, principal: Principal) -> None:
        claims = sum(
            one.principal.kind is PrincipalKind.CLAIM for one in self._connections.values()
        )
        if principal.kind is PrincipalKind.CLAIM and claims >= MAX_CLAIM_CONNECTIONS:
            raise Refused(f"{claims} connections with claim certificates are open already")

    async def _admit(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Connection:
        shown = certificate_id(writer.get_extra_info("ssl_object"))
        if shown is None:
            raise Refused("it shows no certificate")
        return Connection(
            reader,
            writer,
            principal=await self._principal(shown),
            ingest=self._ingest,
            services=self._services,
            switchboard=self._switchboard,
            clock=self._clock,
        )

    async def _principal(self, shown: str) -> Principal:
        principal = await asyncio.to_thread(self._registry.principal, shown)
        if isinstance(principal, Refusal):
            raise Refused(principal.reason)
        return principal

    async def _watch_registry(self) -> None:
        seen: int | None = None
        failing = False
        while True:
            try:
                revision = await asyncio.to_thread(self._registry.revision)
                if revision != seen:
                    await self._close_refused(list(self._connections.values()))
                seen = revision
            except StoreError as error:
                if not failing:
                    log.error("open connections stay until the registry can be read: %s", error)  # noqa: TRY400  the reason is in the message
                failing = True
            else:
                failing = False
            await asyncio.sleep(REGISTRY_CHECK_S)

    async def _close_refused(self, connections: Sequence[Connection]) -> None:
        ids = [one.principal.certificate_id for one in connections]
        now = await asyncio.to_thread(lambda: [self._registry.principal(one) for one in ids])
        for connection, principal in zip(connections, now, strict=True):
            if isinstance(principal, Refusal):
                connection.close(principal.reason)


def _address(peer: Any) -> str:
    return f"{peer[0]}:{peer[1]}" if peer else "an unknown address"


def _explain(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError() if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "it shows no certificate"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
        case TimeoutError():
            return "no CONNECT in time"
        case OSError() | EOFError():
            return "it hung up before its CONNECT"
    return str(error)
