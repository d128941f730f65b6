"""A clock that stands still until a test moves it."""

import threading
from datetime import UTC, datetime, timedelta

from agent.ports import TimeBase
from contract import TimeQuality

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class FakeClock:
    """Implements agent.ports.Clock; ``advance`` moves monotonic time and UTC together."""

    def __init__(self, start=START, quality=TimeQuality.GPS, monotonic_s=1000.0):
        self._lock = threading.Lock()
        self._monotonic_s = monotonic_s
        self._utc = start
        self._quality = quality
        self.slept_s = []

    def monotonic_s(self):
        with self._lock:
            return self._monotonic_s

    def utc(self):
        with self._lock:
            return self._utc

    def quality(self):
        with self._lock:
            return self._quality

    def base(self):
        with self._lock:
            return TimeBase(self._utc - timedelta(seconds=self._monotonic_s), self._quality)

    def sleep_s(self, duration_s):
        """Sleeping passes at once, as if the time had gone by."""
        self.slept_s.append(duration_s)
        self.advance(duration_s)

    def advance(self, duration_s):
        with self._lock:
            self._monotonic_s += duration_s
            self._utc += timedelta(seconds=duration_s)

    def step_utc(self, by_s, quality=None):
        """UTC jumps, monotonic time does not."""
        with self._lock:
            self._utc += timedelta(seconds=by_s)
            self._quality = quality or self._quality

    def set_quality(self, quality):
        with self._lock:
            self._quality = quality
