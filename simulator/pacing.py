"""Waiting for due times, and never faster than a rate."""

from __future__ import annotations

import threading
from typing import Final

from simulator.clock import monotonic_s

_BURST_S: Final = 0.005
"""How far ahead of its rate a sender may run: frames due together go together."""


class Pacer:
    """Lets a sender go when its next piece is due, at most ``max_per_s`` on the long run.

    Due times are absolute, so a late wake-up is made good; the rate bounds the catching
    up (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, stopping: threading.Event, max_per_s: float) -> None:
        self._stopping = stopping
        self._between_s = 1 / max_per_s
        self._free_at_s = 0.0

    def wait_until(self, due_s: float) -> bool:
        """Wait; ``due_s`` by ``monotonic_s``. ``False`` when it is time to stop."""
        earliest_s = max(due_s, self._free_at_s - _BURST_S)
        while (left_s := earliest_s - monotonic_s()) > 0:
            if self._stopping.wait(left_s):
                return False
        self._free_at_s = max(self._free_at_s, monotonic_s()) + self._between_s
        return not self._stopping.is_set()
