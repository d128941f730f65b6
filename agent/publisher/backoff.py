"""When to connect again: exponential with full jitter, pure, randomness is passed in.

Full jitter (uniform between nothing and the ceiling) spreads a fleet that lost its
broker at one moment better than any other kind (AWS Architecture Blog, "Exponential
Backoff And Jitter"). A connection must hold for ``stable_s`` before the ceiling falls
again, or a broker that accepts and then kicks would be stormed.
"""

from __future__ import annotations

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


class Backoff:
    """Says how long to wait before the next attempt."""

    def __init__(self, settings: BackoffSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._failures = 0
        self._connected_at_s: float | None = None

    @property
    def failures(self) -> int:
        """Losses and failed attempts since the last stable connection."""
        return self._failures

    def connected(self, now_s: float) -> None:
        """A connection was made."""
        self._connected_at_s = now_s

    def lost(self, now_s: float, *, unauthorised: bool) -> float:
        """A connection or an attempt ended; seconds to wait before the next."""
        held_since, self._connected_at_s = self._connected_at_s, None
        if held_since is not None and now_s - held_since >= self._settings.stable_s:
            self._failures = 0
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
