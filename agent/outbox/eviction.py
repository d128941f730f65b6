"""The outbox's bounds and what is due when they are passed: pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

AGE_CHECK_EVERY_S: Final = 60.0
AGE_CHECK_ROWS: Final = 500

FADE: Final = ((0.75, 1), (0.875, 2), (0.9375, 3))
"""``(share of max_age_s, level)``: samples are thinned before they expire."""

_ROOM: Final = 0.02
"""Share of ``max_bytes`` that is freed beyond need, so that thinning is rare."""

_LEAST_ROOM_BYTES: Final = 16_384
_RELAXED: Final = 0.5


class Eviction:
    """The bounds: ``max_bytes`` on disk, ``max_age_s`` since a message was taken."""

    def __init__(self, *, max_bytes: int, max_age_s: float) -> None:
        self.max_bytes = max_bytes
        self.max_age_s = max_age_s
        self.next_age_check_s = 0.0
        """Monotonic."""

    def apply(self, *, max_bytes: int, max_age_s: float) -> None:
        """Other bounds from now on; ages are looked at soon."""
        self.max_bytes, self.max_age_s = max_bytes, max_age_s
        self.next_age_check_s = 0.0

    def bytes_to_free(self, used_bytes: int, limit_bytes: int) -> int:
        """How much must go, a little more than needed; ``limit_bytes`` may be the disk's."""
        limit = min(self.max_bytes, limit_bytes)
        if used_bytes <= limit:
            return 0
        return used_bytes - limit + max(_LEAST_ROOM_BYTES, int(limit * _ROOM))

    def relaxed(self, used_bytes: int) -> bool:
        """There is so much room that the next thinning may begin at the finest level."""
        return used_bytes < self.max_bytes * _RELAXED

    def fade_before_ms(self, share: float, now_ms: int) -> int:
        """What was taken before this has passed so much of the age limit."""
        return now_ms - int(self.max_age_s * share * 1000)

    def expired(self, oldest: Sequence[tuple[int, int | None]], now_ms: int) -> list[int]:
        """The ids that are too old, of ``(id, taken_ms)`` in ascending order.

        Rows were created in the order of their ids, so one without a trusted time is as
        old as the next one that has it, at least; alone, it is never called old.
        """
        limit_ms = now_ms - int(self.max_age_s * 1000)
        last = -1
        for index, (_, taken_ms) in enumerate(oldest):
            if taken_ms is not None and taken_ms < limit_ms:
                last = index
        return [row for row, _ in oldest[: last + 1]]
