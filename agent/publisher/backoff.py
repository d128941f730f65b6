"""When to connect again: exponential with full jitter, pure, randomness is passed in.

Full jitter (uniform between nothing and the ceiling) spreads a fleet that lost its
broker at one moment better than any other kind (AWS Architecture Blog, "Exponential
Backoff And Jitter"). A connection must hold for ``stable_s`` before the ceiling falls
again, or a broker that accepts and then kicks would be stormed.

AWS IoT Core takes one CONNECT a second from a client id, in practice as few as one in ten
seconds. ``least_gap_s`` keeps the first, at any draw; the ceilings, with a mean of 15 s
from the sixth attempt on, keep the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

_LARGEST_EXPONENT: Final = 16


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Seconds, each. ``refused_*`` are used after the broker refused the vehicle's identity."""

    base_s: float = 1.0
    cap_s: float = 30.0
    stable_s: float = 30.0
    refused_base_s: float = 20.0
    refused_cap_s: float = 600.0
    least_gap_s: float = 1.0
    """From one attempt's beginning to the next, whatever the jitter says."""


class Backoff:
    """Says how long to wait before the next attempt."""

    def __init__(self, settings: BackoffSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._failures = 0
        self._connected_at_s: float | None = None
        self.earliest_s = -math.inf
        """No attempt may begin before, whoever is in a hurry (monotonic)."""

    @property
    def failures(self) -> int:
        """Losses and failed attempts since the last stable connection."""
        return self._failures

    def attempts(self, now_s: float) -> None:
        """An attempt begins."""
        self.earliest_s = now_s + self._settings.least_gap_s

    def connected(self, now_s: float) -> None:
        """A connection was made."""
        self._connected_at_s = now_s

    def lost(self, now_s: float, *, unauthorised: bool) -> float:
        """A connection or an attempt ended; seconds to wait before the next."""
        held_since, self._connected_at_s = self._connected_at_s, None
        if held_since is not None and now_s - held_since >= self._settings.stable_s:
            self._failures = 0
        return max(self.earliest_s - now_s, self._draw_s(unauthorised=unauthorised))

    def _draw_s(self, *, unauthorised: bool) -> float:
        exponent = min(self._failures, _LARGEST_EXPONENT)
        self._failures += 1
        if unauthorised:
            ceiling = min(
                self._settings.refused_cap_s, self._settings.refused_base_s * 2.0**exponent
            )
            # asking again at once cannot help: a person has to act first
            return self._random.uniform(ceiling / 2, ceiling)
        ceiling = min(self._settings.cap_s, self._settings.base_s * 2.0**exponent)
        return self._random.uniform(0.0, ceiling)
