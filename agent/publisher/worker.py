"""The two threads of the delivery: ``publisher`` and ``outbox-writer``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from agent.outbox import LEAST_DUE_SHARE, Outbox
from agent.ports import Clock
from agent.publisher.core import Publisher
from agent.publisher.lanes import IDLE_S

LOG = logging.getLogger("agent.publisher")

_AFTER_DEFECT_S: Final = 1.0


class _Worker:
    """A named thread that goes round until it is stopped, and notes when it last did."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.last_round_s = clock.monotonic_s()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = IDLE_S) -> None:
        """End after the present round; idempotent, safe before ``start``."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._round()
                self.last_round_s = self._clock.monotonic_s()
            except Exception:
                # a defect: the watchdog sees that no round ends well; meanwhile, go on
                LOG.exception("a round of %s failed", self._thread.name)
                self._stopping.wait(_AFTER_DEFECT_S)

    def _wake(self) -> None:
        raise NotImplementedError

    def _round(self) -> None:
        raise NotImplementedError


class PublisherThread(_Worker):
    """Goes round whenever something is enqueued or due."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        super().__init__("publisher", clock)
        self._publisher = publisher

    def _wake(self) -> None:
        self._publisher.wake()

    def _round(self) -> None:
        self._publisher.wait(self._publisher.step())


class OutboxWriter(_Worker):
    """Flushes when a flush is due, apart from the publisher: a flash card may stall."""

    def __init__(self, outbox: Outbox, clock: Clock, look: Callable[[], None]) -> None:
        super().__init__("outbox-writer", clock)
        self._outbox = outbox
        self._look = look
        """Called each round: whether the time is known."""

    def _wake(self) -> None:
        self._outbox.needs_flush.set()

    def _round(self) -> None:
        self._outbox.needs_flush.clear()
        self._look()
        due_s = self._outbox.flush_in_s()
        interval_s = self._outbox.flush_interval_s
        if (due_s is None or due_s > 0) and self._outbox.restamp():
            return
        if due_s is None or due_s > interval_s:
            self._outbox.needs_flush.wait(min(due_s or IDLE_S, IDLE_S))
        elif due_s > 0:
            # short steps instead of a wake for each message: none is due sooner than that
            self._stopping.wait(min(due_s, LEAST_DUE_SHARE * interval_s))
        else:
            self._outbox.flush()
