"""From one certificate to another: the other is tried, and kept or left again.

The vehicle has one client id, so both are never connected at once: the present connection
ends in order, the other certificate dials. Once it is connected only the order's channel
goes, until whoever gave the order says ``keep`` or ``give_up``: nothing that the cloud
takes for the vehicle's settling on the new certificate, its status above all, may leave
before that. Samples wait in the outbox meanwhile.

Where the other does not get a connection in some attempts, the present one is dialled again.
If that one fails too, the fault is shared (no network, say): both are tried by turns until
one connects, so there is never a state in which a certificate that works is not tried.
Dials of the other have a back-off of their own; the present one's is as it was.

Not thread-safe: the publisher owns it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import TYPE_CHECKING

from agent.ports import Transport
from agent.publisher.backoff import Backoff, BackoffSettings
from agent.publisher.exchange import ControlChannel, ControlLane
from agent.publisher.link import Link, Loss

if TYPE_CHECKING:
    from agent.transport.credentials import Credentials

LOG = logging.getLogger("agent.publisher")


@dataclass(frozen=True, slots=True)
class ChangeoverLimits:
    """How the other certificate is tried."""

    attempts: int = 3
    backoff: BackoffSettings = field(
        default_factory=lambda: BackoffSettings(
            base_s=2.0, cap_s=10.0, refused_base_s=5.0, refused_cap_s=10.0
        )
    )
    """A certificate that was registered a moment ago may take AWS some seconds to know."""

    word_timeout_s: float = 300.0
    """Samples wait on probation; whoever gave the order and is silent so long is broken."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a changeover ended."""

    kept: bool
    reason: str = ""
    refused: bool = False
    """Each attempt was refused for its certificate; the present one connected after that."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to try, what to go back to, and who proves that it works.

    ``on_connected`` and ``on_end`` are called on the publisher's thread: the one for each
    connection of the other, before its channel hears of it, the other once.
    """

    other: Credentials
    present: Credentials
    channel: ControlChannel
    on_connected: Callable[[], None]
    on_end: Callable[[Verdict], None]


class _Stage(Enum):
    TRYING = "trying"
    """The other is, or will be, dialled."""

    PROBATION = "probation"
    """The other is connected and waits for the word."""

    RETURNING = "returning"
    """The present one is, or will be, dialled again."""


class Changeover:
    """One order at a time."""

    def __init__(
        self,
        *,
        transport: Transport,
        link: Link,
        exchange: ControlLane,
        backoff: Backoff,
        random: Random,
        limits: ChangeoverLimits,
    ) -> None:
        self._transport = transport
        self._link = link
        self._exchange = exchange
        self._ordinary = backoff
        self._random = random
        self._limits = limits
        self._order: Order | None = None
        self._stage = _Stage.TRYING
        self._left = 0
        self._refused = True
        self._reason = ""
        self._since_s = 0.0

    @property
    def under_way(self) -> bool:
        """Whether an order is not settled yet."""
        return self._order is not None

    @property
    def on_probation(self) -> bool:
        """Whether only the order's channel may send."""
        return self._order is not None and self._stage is _Stage.PROBATION

    def begin(self, order: Order, now_s: float) -> None:
        """Try the other one, now."""
        self._order = order
        self._left, self._refused, self._reason = self._limits.attempts, True, ""
        self._exchange.only = None
        self._link.wait_by(Backoff(self._limits.backoff, self._random))
        self._try_other()
        self._link.leave("another certificate is tried", now_s)
        self._link.hurry(now_s)

    def keep(self, order: Order, kept: Credentials, now_s: float) -> None:
        """The other one is the vehicle's from now on, wherever the changeover stands.

        ``kept`` is the same certificate, where it stands from now on.
        """
        returned = self._order is not order or self._stage is _Stage.RETURNING
        self._transport.present(kept)
        self._settle(order, Verdict(kept=True))
        if returned:  # it went back while the word was on its way
            self._link.leave("the other certificate was kept", now_s)

    def give_up(self, order: Order, reason: str, now_s: float) -> None:
        """The other one connects, but is no good: back to the present one."""
        if self._order is not order or self._stage is _Stage.RETURNING:
            return
        self._refused, self._reason = False, reason
        self._return(now_s)
        self._link.leave(reason, now_s)

    # --- what the connection tells --------------------------------------------------

    def connected(self, now_s: float) -> None:
        """CONNACK accepted the session."""
        order = self._order
        if order is None:
            return
        if self._stage is _Stage.RETURNING:
            self._settle(order, Verdict(kept=False, reason=self._reason, refused=self._refused))
        else:
            self._stage, self._since_s = _Stage.PROBATION, now_s
            order.on_connected()

    def mind(self, now_s: float) -> None:
        """On probation: see that it comes to an end."""
        order = self._order
        if order is not None and now_s - self._since_s >= self._limits.word_timeout_s:
            self.give_up(order, "nobody says whether the certificate works", now_s)

    def lost(self, loss: Loss, now_s: float, *, unauthorised: bool) -> None:
        """A connection, or an attempt, ended."""
        if self._order is None or loss.left:
            return
        if self._stage is _Stage.RETURNING:
            # the fault is shared, or the present one is no good any more
            self._left = 1
            self._try_other()
            return
        self._left -= 1
        self._reason = loss.reason
        self._refused &= unauthorised
        if self._left > 0:
            self._try_other()
        else:
            LOG.warning(
                "the other certificate does not connect (%s); back to the present one", loss.reason
            )
            self._return(now_s)

    # --- inside ---------------------------------------------------------------------

    def _try_other(self) -> None:
        assert self._order is not None  # noqa: S101  the callers looked
        self._stage = _Stage.TRYING
        self._transport.present(self._order.other)
        self._exchange.only = self._order.channel

    def _return(self, now_s: float) -> None:
        assert self._order is not None  # noqa: S101  the callers looked
        self._stage = _Stage.RETURNING
        self._exchange.only = None
        self._transport.present(self._order.present)
        self._link.wait_by(self._ordinary)
        self._link.hurry(now_s)

    def _settle(self, order: Order, verdict: Verdict) -> None:
        if self._order is not order:
            return
        self._order = None
        self._exchange.only = None
        self._link.wait_by(self._ordinary)
        order.on_end(verdict)
