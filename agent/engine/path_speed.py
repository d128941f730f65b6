"""The speed of a receiver that says none, from its positions. Pure.

Rough, by a few km/h: good enough to tell a drive from a stop, not to be sent.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from agent.engine.geo import apart_m, elapsed_s
from agent.inputs import Fix

SPAN_S: Final = (3.0, 10.0)
"""Positions closer in time are noise, and further apart they say nothing of now."""

MOST_KEPT: Final = 100


class PathSpeed:
    """Feed it each fix that is believed, in order."""

    def __init__(self) -> None:
        self._fixes: deque[Fix] = deque(maxlen=MOST_KEPT)

    def add(self, fix: Fix, *, moved_over: bool) -> None:
        """One more; ``moved_over`` if those before it count no more."""
        if moved_over:
            self._fixes.clear()
        self._fixes.append(fix)
        while len(self._fixes) > 2 and elapsed_s(self._fixes[1], fix) >= SPAN_S[0]:
            self._fixes.popleft()

    @property
    def kmh(self) -> float | None:
        """The mean speed over the last seconds, km/h; ``None`` where there is none."""
        if len(self._fixes) < 2:
            return None
        first, last = self._fixes[0], self._fixes[-1]
        spanned_s = elapsed_s(first, last)
        if not SPAN_S[0] <= spanned_s <= SPAN_S[1]:
            return None
        return apart_m(first, last) / spanned_s * 3.6
