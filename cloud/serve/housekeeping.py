"""What has to be done from time to time: count what came in, remove what is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from cloud.clock import Clock, milliseconds
from cloud.errors import StoreError
from cloud.serve.dispatcher import Dispatcher
from cloud.serve.stream import Stream
from cloud.stores.sqlite import SqliteStores
from cloud.stores.sqlite_registry import SqliteRegistry

RETENTION_S: Final = 3600.0
"""How long a record that everybody has handled stays, for a second look."""
COUNT_EVERY_S: Final = 1.0
TRIM_EVERY_S: Final = 60.0

log = logging.getLogger(__name__)


class Housekeeping:
    """Two tasks of the event loop; the work is done in threads."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        stores: SqliteStores,
        stream: Stream,
        registry: SqliteRegistry,
        clock: Clock,
    ) -> None:
        self._dispatcher = dispatcher
        self._stores = stores
        self._stream = stream
        self._registry = registry
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._count_often(), name="count"),
            asyncio.create_task(self._trim_often(), name="trim"),
        ]

    async def stop(self) -> None:
        """End; what was received until now is counted. Idempotent."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        self.count()

    def count(self) -> None:
        """Store what was received since the last time."""
        received = self._dispatcher.take_received()
        try:
            self._stores.count_received(received)
        except StoreError as error:
            self._dispatcher.give_back(received)
            log.warning("received bytes are not counted yet: %s", error)

    def trim(self) -> None:
        """Delete what everybody has handled and nobody will ask for."""
        older_than_ms = milliseconds(self._clock.utc()) - round(RETENTION_S * 1000)
        try:
            self._stream.trim(older_than_ms)
        except StoreError as error:
            log.warning("the stream was not trimmed: %s", error)

    def remove_unregistered(self) -> None:
        """Delete the certificates that were asked for and never registered."""
        try:
            removed = self._registry.requested.remove_overdue()
        except StoreError as error:
            log.warning("certificates that were never registered stay for now: %s", error)
        else:
            if removed:
                log.info("removed %d certificates that were never registered", removed)

    async def _count_often(self) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            await asyncio.to_thread(self.count)

    async def _trim_often(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            await asyncio.to_thread(self.trim)
            await asyncio.to_thread(self.remove_unregistered)
