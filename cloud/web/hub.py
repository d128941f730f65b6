"""The hub: reads the feed for all open pages at once and pushes what changed.

One reading serves every page, and nothing is read while no page is open. Readings run
in one thread of their own (the stores block); everything else happens on the event
loop. A page joins between two readings, so snapshot and messages fit without a gap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from cloud.clock import Clock, milliseconds
from cloud.web.feed import Feed
from cloud.web.ports import Json

READ_EVERY_S: Final = 0.5
PROBLEM: Final = "The server cannot read its store at the moment; what you see may be old."

_log = logging.getLogger(__name__)

Push = Callable[[Json], object]
"""Hands one message to one page; must not block."""


@dataclass(slots=True)
class Hub:
    """Pages come and go through ``join`` and ``leave``, both idempotent."""

    feed: Feed
    clock: Clock
    read_every_s: float = READ_EVERY_S
    _pages: dict[str, Push] = field(default_factory=dict)
    _joining: dict[str, Push] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="live-map")
    )
    _task: asyncio.Task[None] | None = None
    _problem: bool = False

    def start(self) -> None:
        """Begin; call on the event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live map")

    async def stop(self) -> None:
        """End the task and the thread; idempotent, safe before ``start``."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def join(self, page: str, push: Push) -> None:
        """A page is open and waits for its snapshot."""
        self._joining[page] = push
        self._wake.set()

    def leave(self, page: str) -> None:
        """A page was closed."""
        self._joining.pop(page, None)
        self._pages.pop(page, None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            if not self._pages and not self._joining:
                self._wake.clear()
                await self._wake.wait()
                # Nothing was read meanwhile, so what the feed knows is of no use.
                self.feed.forget()
                due_s = loop.time()
            message = await self._read(loop)
            for push in list(self._pages.values()) if message else []:
                push(message or {})
            self._greet()
            due_s = max(due_s + self.read_every_s, loop.time())
            self._wake.clear()
            try:
                async with asyncio.timeout_at(due_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _read(self, loop: asyncio.AbstractEventLoop) -> Json | None:
        """One reading; a failure becomes a message and one line in the log."""
        now = self.clock.utc()
        try:
            message = await loop.run_in_executor(self._thread, self.feed.read, now)
        except Exception as error:  # noqa: BLE001  whatever a store raises, the page lives on
            if self._problem:
                return None
            self._problem = True
            _log.error("live map: cannot read the stores: %s", error)
            return {"now": milliseconds(now), "problem": PROBLEM}
        if self._problem:
            self._problem = False
            _log.info("live map: the stores can be read again")
            return (message or {"now": milliseconds(now)}) | {"problem": None}
        return message

    def _greet(self) -> None:
        """Give the pages that wait the state as of the reading just made."""
        joining, self._joining = self._joining, {}
        if not joining:
            return
        snapshot = self.feed.snapshot(self.clock.utc())
        snapshot["problem"] = PROBLEM if self._problem else None
        for page, push in joining.items():
            self._pages[page] = push
            push(snapshot)
