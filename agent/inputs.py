"""What is handed to the engine, mostly by sources, and the one bounded queue to it.

A source's thread only enqueues: fixes, and changes of its own state. CAN frames do not
pass the queue; the CAN source keeps the newest of each and is read when a sample is due.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from agent.config import SamplingSettings
from contract import FixMode

QUEUE_LIMIT: Final = 256
"""25 s of a 10 Hz receiver; an engine that is later than that has other troubles."""

SignalValue = bool | int | float | str | tuple[str, ...]
"""Codes come as a tuple of texts."""


@dataclass(frozen=True, slots=True)
class Fix:
    """One position of a receiver, WGS 84.

    ``received_s`` is monotonic. ``time`` is the receiver's own time of measurement, absent
    where the receiver gives none. ``altitude_m`` is above mean sea level; absent in a 2D fix.
    ``accuracy_m`` is the horizontal radius of 95 % (``agent.sources.gps.accuracy`` makes it).
    ``satellites`` counts those used in the fix.
    """

    received_s: float
    lat: float
    lon: float
    time: datetime | None = None
    altitude_m: float | None = None
    accuracy_m: float | None = None
    speed_kmh: float | None = None
    heading: float | None = None
    device: str = ""
    mode: FixMode | None = None
    satellites: int | None = None
    hdop: float | None = None


@dataclass(frozen=True, slots=True)
class FixReceived:
    """A fix; ``is_new`` is false when it only completes the epoch of the one before."""

    fix: Fix
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """A source was lost (with the reason) or regained; sent on changes only.

    ``reason`` is for people; ``cause`` is a stable word where the source tells kinds of loss
    apart.
    """

    source: str
    available: bool
    reason: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class SamplingChanged:
    """Other rates and thresholds, from now on."""

    sampling: SamplingSettings


Input = FixReceived | SourceChanged | SamplingChanged


class SignalReader(Protocol):
    """A source that is read instead of speaking; safe to call from the engine's thread."""

    def read(self, now_s: float) -> dict[str, SignalValue]:
        """Contract field -> newest value, without those that are stale or not valid."""
        ...

    def sampled(self) -> None:
        """What was read last went into a sample; statistics over an interval begin anew."""
        ...

    def received_s(self, name: str) -> float | None:
        """When the newest value of a mapped field came (monotonic); ``None`` if none has."""
        ...


class Inbox:
    """The bounded queue from the sources to the engine; full means the oldest fix goes.

    Changes of state are never dropped: there are few, and each is sent once.
    """

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self._items: deque[Input] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._fixes_wait = False
        """The reader sleeps, and a fix is not to wake it."""
        self.dropped = 0

    def put(self, item: Input) -> None:
        """Enqueue; never blocks."""
        with self._wake:
            if len(self._items) >= self._limit:
                self._drop_oldest_fix()
            self._items.append(item)
            if not (self._fixes_wait and isinstance(item, FixReceived)):
                self._wake.notify()

    def get(self, timeout_s: float) -> Input | None:
        """The oldest item, or ``None`` when the time is up or the inbox was closed."""
        with self._wake:
            if not self._items and not self._closed and timeout_s > 0:
                self._wake.wait(timeout_s)
            return self._items.popleft() if self._items else None

    def take(self, timeout_s: float, *, fixes_wait: bool) -> list[Input]:
        """All items, oldest first, once there is one; none of them when the time is up first.

        With ``fixes_wait`` a fix does not end the wait: it is there when the time is up.
        """
        with self._wake:
            if not self._closed and timeout_s > 0 and not self._has_news(fixes_wait=fixes_wait):
                self._fixes_wait = fixes_wait
                self._wake.wait(timeout_s)
                self._fixes_wait = False
            taken = list(self._items)
            self._items.clear()
            return taken

    def _has_news(self, *, fixes_wait: bool) -> bool:
        if not fixes_wait:
            return bool(self._items)
        return any(not isinstance(item, FixReceived) for item in self._items)

    def close(self) -> None:
        """Wake the reader for good; what is queued can still be got."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _drop_oldest_fix(self) -> None:
        for index, item in enumerate(self._items):
            if isinstance(item, FixReceived):
                del self._items[index]
                self.dropped += 1
                return
