"""When the outbox is over its bounds: how many rows go, pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

AGE_CHECK_EVERY_S: Final = 60.0
AGE_CHECK_ROWS: Final = 500
_LEAST_ROWS: Final = 16


class Eviction:
    """The bounds: ``max_bytes`` on disk, ``max_age_s`` since a message was taken."""

    def __init__(self, *, max_bytes: int, max_age_s: float) -> None:
        self.max_bytes = max_bytes
        self.max_age_s = max_age_s
        self.next_age_check_s = 0.0
        """Monotonic."""

    def rows_to_free(self, used_bytes: int, rows: int) -> int:
        """How many of the oldest rows must go; a little more than needed, so it is rare."""
        over = used_bytes - self.max_bytes
        if over <= 0 or rows <= 0:
            return 0
        return min(rows, ceil(rows * over / used_bytes) + max(_LEAST_ROWS, rows // 100))

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
