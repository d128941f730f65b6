"""When what a receiver says of its antenna is a fault. Pure.

A short circuit always is one. An open one is what a passive antenna looks like too, so it
counts only while no fixes come.
"""

from __future__ import annotations

import re
from typing import Final

BLIND_S: Final = 10.0

_WORD: Final = re.compile(r"ANT(?:STATUS=|ENNA )(OK|OPEN|SHORT)")
"""u-blox, Quectel and MediaTek say ``ANTSTATUS=OPEN``, CASIC receivers ``ANTENNA OPEN``."""


def word_in(remark: str) -> str | None:
    """What a TXT sentence says of the antenna: ``OK``, ``OPEN``, ``SHORT``, or nothing."""
    said = _WORD.search(remark)
    return said[1] if said else None


class AntennaWatch:
    """``fault`` is what is wrong with the antenna, or ``None``."""

    def __init__(self, now_s: float) -> None:
        self.fault: str | None = None
        self._seen_s = now_s

    def observe(self, said: str | None, now_s: float, *, has_fix: bool) -> bool:
        """Whether ``fault`` has changed; ``has_fix``: a fix came since the last time.

        ``said`` is ``OK``, ``OPEN``, ``SHORT``, or ``None`` from a receiver that never said.
        """
        if has_fix:
            self._seen_s = now_s
        fault = None
        if said == "SHORT":
            fault = "the receiver says that its antenna has a short circuit"
        elif said == "OPEN" and now_s - self._seen_s >= BLIND_S:
            fault = "the receiver says that no antenna is connected, and gives no fix"
        changed, self.fault = fault != self.fault, fault
        return changed
