"""What a signal handler may set while the main thread waits for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue


class Stopping:
    """An event for one waiting thread, safe to set from a signal handler.

    A handler runs in the main thread, in the middle of whatever it does. When that is the
    wait of a ``threading.Event``, to set the event there waits for a lock that the same
    thread holds, for ever. The ``put`` of a SimpleQueue may interrupt anything.
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()
        self._is_set = False

    def set(self) -> None:
        """Say it; idempotent."""
        self._is_set = True
        self._told.put(None)

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is said, at most so long; whether it was said.

        A signal that comes just before the wait is handled after it: wait in short turns.
        """
        if not self._is_set:
            try:
                self._told.get(timeout=timeout_s)
            except Empty:
                return self._is_set
        return True


@contextmanager
def stop_on_signals() -> Iterator[Stopping]:
    """What Ctrl-C and SIGTERM set, in the main thread."""
    stopping = Stopping()
    before = {
        number: signal.signal(number, lambda *_: stopping.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
