"""A TCP relay that can be cut and restored: the network between vehicle and broker.

It copies bytes and knows nothing of TLS or MQTT. A cut is either loud or silent:

- ``Cut.REFUSE``: what is open is reset, what comes new is reset at once. As when the
  modem loses its carrier and the kernel notices.
- ``Cut.SWALLOW``: what is open stays open, and what comes new is accepted, but no byte
  and no end of a connection gets through. As when the far network drops packets, the
  half-open connection that a client cannot tell from a slow one. Whatever was open
  meanwhile is reset by ``restore``, for bytes are missing in it.

One thread runs everything; the methods may be called from any other.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from simulator.errors import SimulatorError

CHUNK_BYTES: Final = 65_536
CALL_TIMEOUT_S: Final = 5.0
ACCEPT_S: Final = 0.02
RESET: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on, 0 s: closing sends RST instead of FIN."""


class Cut(Enum):
    """How the network fails."""

    REFUSE = "refuse"
    SWALLOW = "swallow"


@dataclass(slots=True)
class RelayCounts:
    """What went through since the start."""

    connections: int = 0
    """Passed on to the target."""
    refused: int = 0
    """Reset on arrival, because of a cut or an unreachable target."""
    bytes_to_target: int = 0
    bytes_to_client: int = 0
    bytes_swallowed: int = 0
    """Taken and not passed on, both directions."""


@dataclass(eq=False, slots=True)
class _Link:
    client: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    swallowed: bool = False
    was_reset: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        self.was_reset.set()
        for writer in (self.client, self.target):
            if writer is not None and not writer.transport.is_closing():
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()


class Relay:
    """Listens on ``host``:``port`` (0 takes a free one) and passes on to the target.

    Call order: ``start``, then ``cut`` and ``restore`` as often as wanted, ``stop`` at any
    time, also before ``start`` and more than once.
    """

    def __init__(
        self, target_host: str, target_port: int, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.counts = RelayCounts()
        self._target = (target_host, target_port)
        self._address = (host, port)
        self._cut: Cut | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The TCP port; the real one after ``start``."""
        return self._address[1]

    @property
    def is_cut(self) -> bool:
        """Whether the network is cut."""
        return self._cut is not None

    def start(self) -> None:
        """Listen.

        Raises:
            SimulatorError: the address cannot be bound.
        """
        loop = asyncio.new_event_loop()
        try:
            self._server = loop.run_until_complete(self._listen())
        except OSError as error:
            loop.close()
            host, port = self._address
            raise SimulatorError(
                f"the relay cannot listen on {host}:{port}: {error.strerror or error}",
                hint="another program holds the port: choose another, or 0 for any",
            ) from error
        self._address = (self._address[0], self._server.sockets[0].getsockname()[1])
        self._loop = loop
        self._thread = threading.Thread(target=self._run, args=(loop,), name="relay", daemon=True)
        self._thread.start()

    def cut(self, how: Cut = Cut.REFUSE) -> None:
        """Cut the network; a second cut changes how."""
        self._call(self._do_cut(how))

    def restore(self) -> None:
        """Mend the network; without a cut nothing happens."""
        self._call(self._do_restore())

    def stop(self) -> None:
        """Reset every connection and close the port."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._do_stop(), loop).result(CALL_TIMEOUT_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("the relay is not running")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    async def _listen(self) -> asyncio.Server:
        host, port = self._address
        return await asyncio.start_server(self._serve, host, port)

    async def _do_cut(self, how: Cut) -> None:
        self._cut = how
        for link in list(self._links):
            if how is Cut.REFUSE:
                link.reset()
            else:
                link.swallowed = True

    async def _do_restore(self) -> None:
        self._cut = None
        for link in list(self._links):
            if link.swallowed:
                link.reset()

    async def _do_stop(self) -> None:
        self._cut = Cut.REFUSE
        if self._server is not None:
            # asyncio forgets a connection that it accepted just before its server closed:
            # accept no more, let the last one reach its handler, which resets it, then close
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            await asyncio.sleep(ACCEPT_S)
            self._server.close()
        for link in list(self._links):
            link.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        link = _Link(writer, swallowed=self._cut is Cut.SWALLOW)
        self._links.add(link)
        try:
            if self._cut is Cut.REFUSE:
                self.counts.refused += 1
            elif link.swallowed:
                await self._pump(reader, None, link)
                await link.was_reset.wait()
            else:
                await self._relay(reader, link)
        except asyncio.CancelledError:
            # only stop cancels; raised on, Python 3.11 would print it as a fault
            return
        finally:
            link.reset()
            self._links.discard(link)

    async def _relay(self, reader: asyncio.StreamReader, link: _Link) -> None:
        try:
            target_reader, link.target = await asyncio.open_connection(*self._target)
        except OSError:
            self.counts.refused += 1
            return
        self.counts.connections += 1
        pumps = [
            asyncio.ensure_future(self._pump(reader, link.target, link)),
            asyncio.ensure_future(self._pump(target_reader, link.client, link)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if link.swallowed:
                # its end is swallowed as well
                await link.was_reset.wait()
            else:
                await _close_in_order(link)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, link: _Link
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if writer is None or link.swallowed:
                    self.counts.bytes_swallowed += len(data)
                    continue
                # counted first: who has received the bytes finds them counted
                if writer is link.target:
                    self.counts.bytes_to_target += len(data)
                else:
                    self.counts.bytes_to_client += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            # either side went away: the same as its end
            return


async def _close_in_order(link: _Link) -> None:
    """Flush what was read before the other side ended, then FIN."""
    for writer in (link.client, link.target):
        if writer is not None:
            writer.close()
    for writer in (link.client, link.target):
        if writer is not None:
            try:
                await asyncio.wait_for(writer.wait_closed(), 1.0)
            except (OSError, TimeoutError):
                continue
