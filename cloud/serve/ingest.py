"""From the broker into the stream: one thread, one commit for all that waits.

Invariant: ``settled`` is called with ``True`` only after the message's records are durable.
While one commit is being written, the next messages gather, so the group grows with the
load and a lone message waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from cloud.clock import Clock, milliseconds
from cloud.errors import StoreError
from cloud.serve.stream import Entry

MAX_GROUP: Final = 1_000
MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
FAILURE_PAUSE_S: Final = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """What a vehicle published, as the broker took it."""

    client_id: str
    topic: str
    payload: bytes
    received_at: datetime
    certificate_id: str | None = None
    """Of the connection; what a rule's ``principal()`` gives."""


Settled = Callable[[bool], None]
Route = Callable[[Message], list[Entry]]
"""What the rules make of a message; never raises."""


class Appender(Protocol):
    """The stream, as far as this module needs it."""

    def append(self, entries: Sequence[Entry], arrived_at_ms: int) -> None:
        """Append durably, all or nothing."""
        ...


class Ingest:
    """``submit`` belongs to the event loop's thread; the work is done in another."""

    def __init__(self, stream: Appender, route: Route, clock: Clock) -> None:
        self._stream = stream
        self._route = route
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: queue.SimpleQueue[tuple[Message, Settled] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._pending_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._failing = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; ``settled`` callbacks run on ``loop``."""
        self._loop = loop
        self._thread.start()

    async def room(self) -> None:
        """Wait until so little is pending that one more message may be read."""
        await self._room.wait()

    def submit(self, message: Message, settled: Settled) -> None:
        """Take a message over; ``settled`` says whether it became durable."""
        self._pending_bytes += len(message.payload)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._room.clear()
        self._queue.put((message, settled))

    async def close(self) -> None:
        """Append what was submitted, then end the thread; idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)

    def _run(self) -> None:
        last = False
        while not last:
            group = [self._queue.get()]
            while len(group) < MAX_GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            last = None in group
            self._append([item for item in group if item is not None])

    def _append(self, group: list[tuple[Message, Settled]]) -> None:
        if not group:
            return
        entries = [entry for message, _ in group for entry in self._route(message)]
        durable = True
        try:
            self._stream.append(entries, milliseconds(self._clock.utc()))
        except StoreError as error:
            durable = False
            if not self._failing:
                log.error("messages are refused until the stream accepts them: %s", error)  # noqa: TRY400  the reason is in the message
            self._failing = True
            self._clock.sleep_s(FAILURE_PAUSE_S)
        else:
            if self._failing:
                log.warning("the stream accepts messages again")
            self._failing = False
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._settle, group, durable)

    def _settle(self, group: list[tuple[Message, Settled]], durable: bool) -> None:  # noqa: FBT001  a callback's argument
        for message, settled in group:
            self._pending_bytes -= len(message.payload)
            settled(durable)
        if self._pending_bytes <= MAX_PENDING_BYTES:
            self._room.set()
