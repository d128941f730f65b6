"""Ends a poll from another thread."""

from __future__ import annotations

import os
import threading


class Waker:
    """``fd`` becomes readable on ``wake``. Thread-safe, but for ``answer``: the poller's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._woken = False
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """End the present poll, or the next; after ``close`` it does nothing."""
        # a wake that was not answered yet does for this one too
        if self._woken:
            return
        with self._lock:
            if self.fd >= 0:
                self._woken = True
                os.eventfd_write(self.fd, 1)

    def answer(self) -> None:
        """Woken; what others did before their ``wake`` is to be looked at after this."""
        os.eventfd_read(self.fd)
        self._woken = False

    def close(self) -> None:
        """No more polls."""
        with self._lock:
            os.close(self.fd)
            self.fd = -1
