"""When a budget's day ends. Pure.

With a trusted time a day begins at midnight UTC plus the vehicle's own delay: the first
``day_spread_s`` seconds of the UTC day are dealt out to the fleet, or all of it would empty
its outboxes at once. Without one a day is 24 h in which the agent ran; a power cut does not
begin a new one, or a vehicle that is switched often would have no cap.

A clock may be stepped, so a new day begins at most once for each date: a step back over
midnight keeps the later date. A date more than a day ahead was wrong and is put right,
and what was used stays.
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta
from typing import Final

DAY_S: Final = 86_400.0


def delay_s(vehicle_id: str, spread_s: float) -> float:
    """This vehicle's share of the spread: the same each day, evenly dealt over a fleet."""
    digest = hashlib.sha256(vehicle_id.encode()).digest()
    return spread_s * int.from_bytes(digest[:8], "big") / 2**64


class DayWatch:
    """``label`` is the date of the running day, ``None`` while it was never known."""

    def __init__(self, label: date | None, elapsed_s: float, now_s: float) -> None:
        self.label = label
        self.elapsed_s = elapsed_s
        self._looked_s = now_s

    def is_over(self, utc: datetime | None, now_s: float, delay_s: float) -> bool:
        """Whether a new day has begun since the last look.

        ``utc`` is ``None`` while no time is trusted; ``now_s`` is monotonic.
        """
        self.elapsed_s += max(0.0, now_s - self._looked_s)
        self._looked_s = now_s
        if utc is None:
            if self.elapsed_s < DAY_S:
                return False
            self.label, self.elapsed_s = None, 0.0
            return True
        today = (utc - timedelta(seconds=delay_s)).date()
        if self.label is not None and today > self.label:
            self.label, self.elapsed_s = today, 0.0
            return True
        if self.label is None or self.label - today > timedelta(days=1):
            self.label = today
        return False
