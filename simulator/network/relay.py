"""A TCP relay that can be as bad as a network: it stands between vehicle and broker.

It copies bytes and knows nothing of TLS or MQTT; ``conditions`` says what it can do to
them. One thread runs everything; the methods may be called from any other.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from simulator.errors import SimulatorError
from simulator.network.conditions import CLEAR, Condition, Reach
from simulator.network.path import Path

CALL_TIMEOUT_S: Final = 5.0
ACCEPT_S: Final = 0.02
RESET: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on, 0 s: closing sends RST instead of FIN."""


@dataclass(slots=True)
class RelayCounts:
    """What went through since the start."""

    arrived: int = 0
    """Connections that clients made, whatever became of them."""
    connections: int = 0
    """Passed on to the target."""
    refused: int = 0
    """Ended on arrival, because of a cut or an unreachable target."""
    bytes_to_target: int = 0
    bytes_to_client: int = 0
    bytes_swallowed: int = 0
    """Taken and not passed on, both directions."""


@dataclass(eq=False, slots=True)
class _Link:
    client: asyncio.StreamWriter
    opened_s: float
    target: asyncio.StreamWriter | None = None
    deaf: bool = False
    """What the client sends vanishes."""
    mute: bool = False
    """What the target sends vanishes."""
    was_reset: asyncio.Event = field(default_factory=asyncio.Event)
    end_of_life: asyncio.TimerHandle | None = None

    @property
    def silent(self) -> bool:
        return self.deaf or self.mute

    def reset(self) -> None:
        self.was_reset.set()
        for writer in (self.client, self.target):
            if writer is not None and not writer.transport.is_closing():
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()

    def close(self) -> None:
        """FIN to both, after what was passed on already."""
        self.was_reset.set()
        for writer in (self.client, self.target):
            if writer is not None:
                writer.close()


class Relay:
    """Listens on ``host``:``port`` (0 takes a free one) and passes on to the target.

    Call order: ``start``, then ``become`` as often as wanted, ``stop`` at any time, also
    before ``start`` and more than once. ``random`` decides which segments are late.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        random: Random | None = None,
    ) -> None:
        self.counts = RelayCounts()
        self._target = (target_host, target_port)
        self._address = (host, port)
        self._random = random or Random()  # noqa: S311  which segment is late is no secret
        self._condition = CLEAR
        self._to_target = Path(self._random)
        self._to_client = Path(self._random)
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
    def condition(self) -> Condition:
        """How the network is."""
        return self._condition

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

    def become(self, condition: Condition = CLEAR) -> None:
        """Change the network; without an argument it is mended."""
        self._call(self._become(condition))

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

    async def _become(self, condition: Condition) -> None:
        before, self._condition = self._condition, condition
        for path in (self._to_target, self._to_client):
            path.become(condition)
        for link in list(self._links):
            match condition.reach:
                case Reach.CUT:
                    link.reset()
                case Reach.CLOSE:
                    link.close()
                case Reach.OPEN | Reach.STALL if link.silent:
                    link.reset()
                case Reach.NAT_TIMEOUT if before.reach is not Reach.NAT_TIMEOUT:
                    link.deaf = link.mute = True
                case _:
                    self._silence(link)
            self._set_end_of_life(link)

    def _silence(self, link: _Link) -> None:
        if self._condition.reach is Reach.HALF_OPEN:
            link.deaf = link.mute = True
        elif self._condition.reach is Reach.ANSWERS_LOST:
            link.mute = True

    def _set_end_of_life(self, link: _Link) -> None:
        if link.end_of_life is not None:
            link.end_of_life.cancel()
        if self._condition.life_s is not None:
            link.end_of_life = asyncio.get_running_loop().call_at(
                link.opened_s + self._condition.life_s, link.reset
            )

    async def _do_stop(self) -> None:
        self._condition = Condition(reach=Reach.CUT)
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
        self.counts.arrived += 1
        link = _Link(writer, asyncio.get_running_loop().time())
        self._links.add(link)
        self._silence(link)
        self._set_end_of_life(link)
        try:
            if self._condition.reach in (Reach.CUT, Reach.CLOSE):
                self.counts.refused += 1
                if self._condition.reach is Reach.CLOSE:
                    await _close_in_order(link)
            elif link.deaf:
                await self._carry(reader, None, link)
                await link.was_reset.wait()
            else:
                await asyncio.sleep(self._condition.setup_s(self._random))
                await self._relay(reader, link)
        except asyncio.CancelledError:
            # only stop cancels; raised on, Python 3.11 would print it as a fault
            return
        finally:
            if link.end_of_life is not None:
                link.end_of_life.cancel()
            link.reset()
            self._links.discard(link)

    async def _relay(self, reader: asyncio.StreamReader, link: _Link) -> None:
        try:
            target_reader, link.target = await asyncio.open_connection(*self._target)
        except OSError:
            self.counts.refused += 1
            return
        self.counts.connections += 1
        if link.was_reset.is_set():
            return
        pumps = [
            asyncio.ensure_future(self._carry(reader, link.target, link)),
            asyncio.ensure_future(self._carry(target_reader, link.client, link)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if link.deaf if pumps[0] in done else link.mute:
                # its end is swallowed as well
                await link.was_reset.wait()
            else:
                await _close_in_order(link)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, link: _Link
    ) -> None:
        back = writer is link.client

        def deliver(data: bytes) -> bool:
            # counted first: who has received the bytes finds them counted
            if writer is None or (link.mute if back else link.deaf):
                self.counts.bytes_swallowed += len(data)
                return False
            if back:
                self.counts.bytes_to_client += len(data)
            else:
                self.counts.bytes_to_target += len(data)
            return True

        try:
            await (self._to_client if back else self._to_target).carry(reader, writer, deliver)
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
