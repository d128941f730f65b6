"""When the next status is due: pure."""

from __future__ import annotations

from typing import Final

QUIET_S: Final = 60.0
BACKLOG_S: Final = 5.0
LEAST_GAP_S: Final = 1.0


class StatusSchedule:
    """On connect, on request, when the backlog is empty, else every 60 s, or 5 s with one."""

    def __init__(self) -> None:
        self._sent_s: float | None = None
        self._requested = False
        self._told_of_backlog = False

    def connected(self) -> None:
        """A new connection: the broker may still show the last will."""
        self._sent_s = None

    def request(self) -> None:
        """Something in it changed that should be known, e.g. the mode."""
        self._requested = True

    def sent(self, now_s: float, *, backlog: bool) -> None:
        """One was handed over."""
        self._sent_s = now_s
        self._requested = False
        self._told_of_backlog = backlog

    def due_in_s(self, now_s: float, *, backlog: bool, sparing_s: float = 0.0) -> float:
        """Seconds until the next one, 0 when it is due; unasked ``sparing_s`` apart at least."""
        if self._sent_s is None:
            return 0.0
        if self._requested or (self._told_of_backlog and not backlog):
            gap_s = LEAST_GAP_S
        else:
            gap_s = max(BACKLOG_S if backlog else QUIET_S, sparing_s)
        return max(0.0, self._sent_s + gap_s - now_s)
