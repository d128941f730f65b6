"""What goes when the disk takes nothing and the reserve in memory is full: pure policy.

As on disk (:mod:`agent.outbox.bounds`): samples are thinned window by window from the
oldest on, the newest eighth left out, then again one level higher; so an hour with a
broken card still shows the whole route. After the coarsest level the oldest samples go,
events when there is no sample. One window a call, as the engine waits for it: the limit
may be passed by some messages meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.outbox.message import DropReason, Message
from agent.outbox.thinning import MAX_LEVEL, Point, point, thin

WINDOW: Final = 200
"""Messages thinned at once: about 2 ms, 20 on a slow board."""

_FRESH_SHARE: Final = 8
_EVICTED: Final = 100


class Reserve:
    """Bounded by ``limit`` messages; remembers how far its thinning has come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._level = 1
        self._after = 0

    def looks(self, in_memory: int) -> bool:
        """Whether something must go; with much room again, it will begin at the finest level."""
        if in_memory <= self._limit // 2:
            self._level, self._after = 1, 0
        return in_memory > self._limit

    def choose(
        self, samples: Sequence[Message], events: Sequence[Message]
    ) -> tuple[list[Message], DropReason]:
        """What goes and why, of what is in memory alone and not claimed, in order of creation."""
        older = samples[: len(samples) - len(samples) // _FRESH_SHARE]
        while self._level <= MAX_LEVEL:
            window = [one for one in older if (one.ticket or 0) >= self._after][:WINDOW]
            if len(window) < 3:
                self._level, self._after = self._level + 1, 0
                continue
            # the last stays whatever comes and begins the next window
            self._after = window[-1].ticket or 0
            gone = set(thin([_point(one) for one in window], self._level))
            return [one for one in window if one.ticket in gone], DropReason.THINNED
        # the next sweep at this level lets some more come in than it gives up
        self._level = MAX_LEVEL
        return [*(samples[:_EVICTED] or events[:1])], DropReason.DISK_FULL


def _point(message: Message) -> Point:
    return point(
        message.ticket or 0, message.run_id, message.sequence, message.taken_ms, message.payload
    )
