"""When the next sample is due: from the one before, never from now. Pure."""

from __future__ import annotations

import math


class Schedule:
    """Keeps the phase, so that samples do not drift by the time that taking them takes."""

    def __init__(self, interval_s: float, now_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = now_s

    @property
    def due_s(self) -> float:
        """Monotonic time of the next sample."""
        return self._due_s

    def taken(self, now_s: float) -> None:
        """The due sample was taken; slots that passed meanwhile (a suspend) are skipped."""
        late_slots = max(0, math.floor((now_s - self._due_s) / self._interval_s))
        self._due_s += (late_slots + 1) * self._interval_s

    def change_interval(self, interval_s: float, now_s: float) -> None:
        """A new interval, from the last sample on; what is due already is due now."""
        last_s = self._due_s - self._interval_s
        self._interval_s = interval_s
        self._due_s = max(last_s + interval_s, now_s)
