"""How long a source waits before it tries again. Pure; the random number is passed in."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.5
MOST_S: Final = 15.0
STABLE_S: Final = 30.0


class Backoff:
    """Doubles from 0.5 s to 15 s; starts over only after 30 s without a failure."""

    def __init__(self) -> None:
        self._limit_s = FIRST_S

    def after_failure(self, now_s: float, working_since_s: float | None, jitter: float) -> float:
        """Seconds to wait.

        ``working_since_s`` is when the attempt that failed now began to work, or ``None``
        if it never did; ``jitter`` is between 0 and 1.
        """
        if working_since_s is not None and now_s - working_since_s >= STABLE_S:
            self._limit_s = FIRST_S
        wait_s = self._limit_s * (0.5 + jitter / 2)
        self._limit_s = min(self._limit_s * 2, MOST_S)
        return wait_s
