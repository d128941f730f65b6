"""The connection as the publisher sees it: when to dial, when to give up.

Not thread-safe: the publisher owns it. The transport never reconnects by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.ports import Transport
from agent.publisher.backoff import Backoff

LEAVE_S: Final = 5.0
"""For an end in order; a transport needs 2 s, and a library that hangs is not waited for."""


class LinkState(Enum):
    """Where the connection stands."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Loss:
    """How a connection, or an attempt to make one, ended."""

    reason: str
    was_up: bool
    by_us: bool
    """Given up by the publisher: nobody on the other side can be blamed."""

    left: bool
    """Ended in order by the publisher, which will dial again."""

    news: bool
    """Whether an operator has not been told of it yet."""

    short_lived: int
    """Connections in a row that the other side ended before they were stable, with this one."""


class Link:
    """Dials when the back-off allows it, gives up an attempt that gets no answer."""

    def __init__(
        self, *, transport: Transport, backoff: Backoff, connect_timeout_s: float, now_s: float
    ) -> None:
        self._transport = transport
        self._backoff = backoff
        self._connect_timeout_s = connect_timeout_s
        self._since_s = now_s
        self._next_attempt_s = now_s
        self._drop_reason: str | None = None
        self._drop_unauthorised = False
        self._leaves_until_s: float | None = None
        self._told: str | None = None
        self._short_lived = 0
        self.state = LinkState.DOWN

    @property
    def dropping(self) -> bool:
        """Whether it was given up and the transport has not confirmed it yet."""
        return self._drop_reason is not None

    def connected(self, now_s: float) -> None:
        """CONNACK accepted the session."""
        self.state, self._since_s = LinkState.UP, now_s
        self._backoff.connected(now_s)
        self._told = None

    def lost(self, now_s: float, reason: str, *, unauthorised: bool) -> Loss:
        """It ended, or could not be made; the next attempt is planned."""
        was_up = self.state is LinkState.UP
        by_us, self._drop_reason = self._drop_reason, None
        unauthorised = self._drop_unauthorised if by_us else unauthorised
        reason = by_us or reason
        self.state, self._since_s = LinkState.DOWN, now_s
        if self._leaves_until_s is not None:
            self._leaves_until_s = None
            self._next_attempt_s = max(now_s, self._backoff.earliest_s)
            return Loss(reason, was_up, by_us=True, left=True, news=False, short_lived=0)
        self._next_attempt_s = now_s + self._backoff.lost(now_s, unauthorised=unauthorised)
        news = was_up or reason != self._told
        self._told = reason
        if self._backoff.failures == 1 or by_us is not None:
            self._short_lived = 0
        if was_up and by_us is None:
            self._short_lived += 1
        return Loss(
            reason,
            was_up,
            by_us=by_us is not None,
            left=False,
            news=news,
            short_lived=self._short_lived,
        )

    def mind(self, now_s: float) -> float:
        """Dial, wait or give up while it is not up; seconds until the next look."""
        if self.state is LinkState.DOWN:
            if now_s < self._next_attempt_s:
                return self._next_attempt_s - now_s
            self.state, self._since_s = LinkState.CONNECTING, now_s
            self._backoff.attempts(now_s)
            self._transport.connect()
            return self._connect_timeout_s
        left_s = self._since_s + self._connect_timeout_s - now_s
        if left_s <= 0:
            self.drop(f"no answer for {self._connect_timeout_s:.0f} s")
        return max(left_s, 0.05)

    def drop(self, reason: str, *, unauthorised: bool = False) -> None:
        """Give it up; the transport confirms by ``on_disconnected``."""
        if self._drop_reason is None:
            self._drop_reason, self._drop_unauthorised = reason, unauthorised
            self._transport.disconnect()

    def leave(self, reason: str, now_s: float) -> None:
        """End it in order, to dial again at once; what is not up yet is given up."""
        if self.state is LinkState.DOWN or self._leaves_until_s is not None:
            return
        self._drop_reason = self._drop_reason or reason
        self._leaves_until_s = now_s + LEAVE_S
        if self.state is LinkState.UP:
            self._transport.leave()
        else:
            self._transport.disconnect()

    def mind_leaving(self, now_s: float) -> float:
        """See that an end in order comes to an end; seconds until the next look."""
        if self._leaves_until_s is None:
            return math.inf
        if now_s >= self._leaves_until_s:
            self._transport.disconnect()
        return max(self._leaves_until_s - now_s, 0.05)

    def wait_by(self, backoff: Backoff) -> None:
        """Let another back-off say from now on when to dial; the least gap holds for both."""
        backoff.earliest_s = max(backoff.earliest_s, self._backoff.earliest_s)
        self._backoff = backoff

    def hurry(self, now_s: float) -> None:
        """Dial as soon as the broker may be asked again, whatever the jitter says."""
        self._next_attempt_s = min(self._next_attempt_s, max(now_s, self._backoff.earliest_s))
