"""Which message is to blame when the broker ends the connection again and again.

MQTT 3.1.1 has no way to refuse one publish: a broker that dislikes a message closes the
connection, and the message would come first again after it. So the oldest message in
flight at an early loss becomes the suspect. It waits while others go; once another was
acknowledged on this connection, which shows that the way is free, the suspect is tried
alone. Only a loss in that state counts against it, so a bad network or a broker that is
down blames nobody. A broker may also keep a PUBACK back for ever; a message that later ones
overtook is a suspect too, and silence at its trial counts as a loss.

A connection may end during a trial for another reason, e.g. a second client that keeps
taking the client id. So each trial but the first waits until the connection has held for a
while, which such a connection does not, and any loss outside a trial, which shows that
connections end without the suspect too, makes all its strikes void.

Pure; time is passed in, keys are whatever identifies a message.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

STRIKES: Final = 4
_PROMPT_S: Final = 10.0
"""A broker that dislikes a message closes at once; a later loss has another cause."""


class Suspicion:
    """The suspect, and how often it was found alone at the scene."""

    def __init__(self, mature_s: float = 10.0) -> None:
        self._mature_s = mature_s
        self._connected_s: float | None = None
        self._strikes: dict[Hashable, int] = {}
        self._proven = False
        self._trial: Hashable | None = None

    @property
    def suspect(self) -> Hashable | None:
        """The one that waits for its trial, or is in it."""
        return next(iter(self._strikes), None)

    def connected(self, now_s: float) -> None:
        """A new connection: nothing is proven on it yet."""
        self._connected_s = now_s
        self._proven = False
        self._trial = None

    def suspects(self, key: Hashable) -> None:
        """Others were acknowledged before it, although it was sent first."""
        self._strikes.setdefault(key, 0)

    def may_try(self, now_s: float, *, in_flight: int) -> bool:
        """Whether the suspect may go now: alone, on a connection that works."""
        if not self._proven or in_flight or self._trial is not None or self._connected_s is None:
            return False
        return not self._strikes.get(self.suspect) or now_s - self._connected_s >= self._mature_s

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

    def abandoned(self) -> None:
        """The connection was given up by this side; it says nothing of any message."""
        self._trial = self._connected_s = None

    def lost(self, oldest: Hashable | None, in_flight_s: float) -> Hashable | None:
        """The connection ended with ``oldest`` in flight; the key now convicted, or None."""
        trial, connected_s = self._trial, self._connected_s
        self.abandoned()
        if connected_s is not None and trial is None:
            self._strikes = dict.fromkeys(self._strikes, 0)
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
