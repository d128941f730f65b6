"""Which of several receivers is listened to. Pure; times are monotonic and passed in.

The first of the preferred ones that gives fixes is taken. When its fixes cease the best other
one takes over, and it comes back only after it has given fixes without a break for a while, so
that a receiver at the edge of reception does not make the position hop between two antennas.
Without a preference the first receiver with a fix is kept as long as its fixes come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class _Fixes:
    """When a receiver's fixes came; ``since_s`` is where the unbroken row of them began."""

    since_s: float
    newest_s: float


class ReceiverChoice:
    """Tell it of fixes and losses; ``active`` is the receiver in use."""

    def __init__(
        self,
        preferred: Sequence[str],
        *,
        fall_back_after_s: float,
        return_after_s: float,
        now_s: float,
    ) -> None:
        self.active: str | None = None
        self._preferred = tuple(preferred)
        self._fall_back_after_s = fall_back_after_s
        self._return_after_s = return_after_s
        self._began_s = now_s
        self._fixes: dict[str, _Fixes] = {}

    def is_eligible(self, path: str) -> bool:
        """Whether the config lets it be used."""
        return not self._preferred or path in self._preferred

    @property
    def missed(self) -> str | None:
        """The most preferred one while another is in use."""
        first = self._preferred[0] if self._preferred else self.active
        return None if self.active in {None, first} else first

    def had_fix(self, path: str, now_s: float) -> None:
        """It gave a new fix."""
        if not self.is_eligible(path):
            return
        before = self._fixes.get(path)
        if before is None or now_s - before.newest_s > self._fall_back_after_s:
            self._fixes[path] = _Fixes(now_s, now_s)
        else:
            before.newest_s = now_s

    def gone(self, path: str) -> None:
        """It was unplugged: nothing is waited for."""
        self._fixes.pop(path, None)

    def choose(self, now_s: float) -> bool:
        """Look at what is known now; whether ``active`` has changed."""
        before = self.active
        giving = [path for path in self._fixes if self._gives(path, now_s)]
        if self.active is None or not self._gives(self.active, now_s):
            if giving and (self.active is not None or self._may_begin(giving, now_s)):
                self.active = min(giving, key=self._rank)
        else:
            better = [path for path in giving if self._rank(path) < self._rank(self.active)]
            steady = [path for path in better if self._is_steady(path, now_s)]
            self.active = min(steady, key=self._rank, default=self.active)
        return self.active != before

    def _gives(self, path: str, now_s: float) -> bool:
        fixes = self._fixes.get(path)
        return fixes is not None and now_s - fixes.newest_s <= self._fall_back_after_s

    def _is_steady(self, path: str, now_s: float) -> bool:
        return now_s - self._fixes[path].since_s >= self._return_after_s

    def _may_begin(self, giving: list[str], now_s: float) -> bool:
        """At the start the most preferred one has a moment to find its fix first."""
        return (
            not self._preferred
            or self._preferred[0] in giving
            or now_s - self._began_s >= self._fall_back_after_s
        )

    def _rank(self, path: str) -> int:
        return self._preferred.index(path) if self._preferred else 0
