"""Which message is to blame when the broker ends the connection again and again.

MQTT 3.1.1 has no way to refuse one publish: a broker that dislikes a message closes the
connection, and the message would come first again after it. So the oldest message in
flight at an early loss becomes the suspect. It waits while others go; once another was
acknowledged on this connection, which shows that the way is free, the suspect is tried
alone. Only a loss in that state counts against it, so a bad network or a broker that is
down blames nobody. Pure; keys are whatever identifies a message.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

STRIKES: Final = 4
_PROMPT_S: Final = 10.0
"""A broker that dislikes a message closes at once; a later loss has another cause."""


class Suspicion:
    """The suspect, and how often it was found alone at the scene."""

    def __init__(self) -> None:
        self._strikes: dict[Hashable, int] = {}
        self._proven = False
        self._trial: Hashable | None = None

    @property
    def suspect(self) -> Hashable | None:
        """The one that waits for its trial, or is in it."""
        return next(iter(self._strikes), None)

    def connected(self) -> None:
        """A new connection: nothing is proven on it yet."""
        self._proven = False
        self._trial = None

    def may_try(self, *, in_flight: int) -> bool:
        """Whether the suspect may go now: alone, on a connection that works."""
        return self._proven and in_flight == 0 and self._trial is None

    def tries(self, key: Hashable) -> None:
        """The suspect is sent."""
        self._trial = key

    @property
    def on_trial(self) -> bool:
        """Nothing else may be sent meanwhile."""
        return self._trial is not None

    def acknowledged(self, key: Hashable) -> None:
        """A message came through; it is innocent."""
        self._proven = True
        self._strikes.pop(key, None)
        if self._trial == key:
            self._trial = None

    def lost(self, oldest: Hashable | None, in_flight_s: float) -> Hashable | None:
        """The connection ended with ``oldest`` in flight; the key now convicted, or None."""
        trial, self._trial = self._trial, None
        if oldest is None or in_flight_s > _PROMPT_S:
            return None
        if trial is not None and trial == oldest:
            self._strikes[trial] += 1
            if self._strikes[trial] >= STRIKES:
                del self._strikes[trial]
                return trial
        elif not self._strikes:
            self._strikes[oldest] = 0
        return None
