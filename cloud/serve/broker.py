"""The embedded MQTT broker: mutual TLS, one connection per vehicle, durable before PUBACK.

A client is let in when its certificate was signed by this cloud's own authority, is
within its validity, is not revoked, and its client id is the certificate's common name.
Everything else is closed, with one log line that says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cloud.clock import Clock
from cloud.errors import ConfigError
from cloud.pki import read_revoked
from cloud.serve.device_services import DeviceService, DeviceServices
from cloud.serve.gate import Connection, Refused
from cloud.serve.ingest import Ingest
from cloud.serve.packets import ProtocolError
from cloud.serve.switchboard import Switchboard, close_promptly, common_name
from cloud.serve.tls import server_context

MAX_CONNECTIONS: Final = 2_000
HANDSHAKE_TIMEOUT_S: Final = 10.0
REVOCATION_CHECK_S: Final = 1.0
STOP_TIMEOUT_S: Final = 5.0

log = logging.getLogger(__name__)


class RevocationList:
    """The revoked serial numbers, read again when the file changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._serials: frozenset[str] = frozenset()

    def refresh(self) -> bool:
        """Read the file if it changed; whether it did.

        Raises:
            ConfigError: the file cannot be read; the last known list stays in force.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen == self._seen:
            return False
        self._serials = frozenset(read_revoked(self._path))
        self._seen = seen
        return True

    def __contains__(self, serial: str) -> bool:
        return serial in self._serials


class Broker:
    """Start it, and it listens; stop it, and no message is taken any more."""

    def __init__(
        self,
        *,
        ca_file: Path,
        server_file: Path,
        revoked_file: Path,
        ingest: Ingest,
        clock: Clock,
        services: Sequence[DeviceService] = (),
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._ingest = ingest
        self._clock = clock
        self._max_connections = max_connections
        self._context = server_context(ca_file, server_file)
        self._revoked = RevocationList(revoked_file)
        self._switchboard = Switchboard()
        self._services = DeviceServices(
            services, lambda one: self._switchboard.tell(one.topic, one.payload)
        )
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[str, Connection] = {}
        self.refused = 0
        """Connections that were turned away."""

    async def start(self, listener: socket.socket) -> None:
        """Take connections from a listening socket, which is closed at the end.

        Raises:
            ConfigError: the list of revoked certificates is broken.
        """
        self._revoked.refresh()
        await self._switchboard.start()
        self._services.start()
        self._server = await asyncio.start_server(self._accept, sock=listener)
        self._watch = asyncio.create_task(self._watch_revocations(), name="revocations")

    def connected(self) -> list[str]:
        """The vehicles that hold a connection."""
        return sorted(self._connections)

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
            connection = self._admit(reader, writer)
            connect = await connection.connect()
        except (Refused, ProtocolError, OSError, EOFError, TimeoutError) as error:
            self.refused += 1
            log.warning("refused a connection from %s: %s", _address(peer), _explain(error))
            close_promptly(writer)
            return
        while (older := self._connections.get(connection.vehicle_id)) is not None:
            older.close("a newer connection of the same vehicle takes over")
            await older.ended.wait()
        self._connections[connection.vehicle_id] = connection
        log.info("%s connected from %s", connection.vehicle_id, _address(peer))
        try:
            await connection.run(connect)
        finally:
            del self._connections[connection.vehicle_id]

    def _check_room(self) -> None:
        if len(self._tasks) > self._max_connections:
            raise Refused(f"{self._max_connections} connections are open already")

    def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        ssl_object = writer.get_extra_info("ssl_object")
        vehicle_id = common_name(ssl_object)
        if vehicle_id is None:
            raise Refused("the certificate has no common name")
        serial = f"{int(ssl_object.getpeercert()['serialNumber'], 16):x}"
        if serial in self._revoked:
            raise Refused(f"the certificate of {vehicle_id} ({serial}) is revoked")
        return Connection(
            reader,
            writer,
            vehicle_id=vehicle_id,
            serial=serial,
            ingest=self._ingest,
            services=self._services,
            switchboard=self._switchboard,
            clock=self._clock,
        )

    async def _watch_revocations(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(REVOCATION_CHECK_S)
            try:
                changed = self._revoked.refresh()
            except ConfigError as error:
                if not failing:
                    log.error("the last known list of revoked certificates stays: %s", error)  # noqa: TRY400  the reason is in the message
                failing = True
                continue
            failing = False
            if changed:
                for connection in list(self._connections.values()):
                    if connection.serial in self._revoked:
                        connection.close("its certificate was revoked")


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
