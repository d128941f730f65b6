"""How a network is at one moment: a value, without behaviour.

A relay ends TCP on both sides, so it cannot lose a packet; what a lost packet does to
TCP, it can: the segment and all behind it come late, by a retransmission time-out that
doubles with each loss (RFC 6298). Real loss is made with ``tc netem``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

RETRANSMISSION_S: Final = 0.2
"""Linux' shortest retransmission time-out (TCP_RTO_MIN)."""

SETUP_RETRANSMISSION_S: Final = 1.0
"""The first one of a SYN (RFC 6298, section 2.1)."""

_MOST_LOSSES: Final = 6
"""In a row; more of them would be an outage, which has a name of its own."""


class Reach(Enum):
    """Whether connections and their bytes get through."""

    OPEN = "open"
    """All do. Whatever lost bytes before is reset: the hosts find out now."""

    CUT = "cut"
    """What is open is reset, what comes new is reset: the modem lost its carrier."""

    CLOSE = "close"
    """What is open is ended in order, what comes new is accepted and ended: a load
    balancer with nothing behind it."""

    HALF_OPEN = "half-open"
    """Bytes and ends vanish both ways, nobody hears of it; what comes new is accepted and
    gets no answer, in TLS neither."""

    ANSWERS_LOST = "answers-lost"
    """As half-open, from the target to the client only: what is sent arrives."""

    NAT_TIMEOUT = "nat-timeout"
    """What is open when it begins is half-open for ever; what comes new gets through."""

    STALL = "stall"
    """Nothing moves, nothing is lost: it goes on where it stood."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The network between two hosts. Delay and loss are of each direction."""

    reach: Reach = Reach.OPEN
    delay_s: float = 0.0
    loss: float = 0.0
    """Probability that a segment is lost, 0 to below 1."""
    rate_bytes_per_s: float | None = None
    """Of all connections together; None is no limit."""
    life_s: float | None = None
    """Every connection is reset when it is so old; None is never."""

    @property
    def shaped(self) -> bool:
        """Whether bytes travel otherwise than at once."""
        return self.delay_s > 0 or self.loss > 0 or self.rate_bytes_per_s is not None

    def transit_s(self, random: Random) -> float:
        """How long one segment takes to the other side."""
        return self.delay_s + _late_by(random, self.loss, RETRANSMISSION_S)

    def setup_s(self, random: Random) -> float:
        """How long TCP takes to connect: there and back."""
        return 2 * self.delay_s + _late_by(random, self.loss, SETUP_RETRANSMISSION_S)

    def and_also(self, other: Condition) -> Condition:
        """Both at once: the worse of each."""
        rates = [rate for rate in (self.rate_bytes_per_s, other.rate_bytes_per_s) if rate]
        lives = [life for life in (self.life_s, other.life_s) if life is not None]
        return Condition(
            reach=other.reach if self.reach is Reach.OPEN else self.reach,
            delay_s=self.delay_s + other.delay_s,
            loss=1 - (1 - self.loss) * (1 - other.loss),
            rate_bytes_per_s=min(rates, default=None),
            life_s=min(lives, default=None),
        )


CLEAR: Final = Condition()


def _late_by(random: Random, loss: float, timeout_s: float) -> float:
    late_s = 0.0
    for _ in range(_MOST_LOSSES):
        if random.random() >= loss:
            break
        late_s += timeout_s
        timeout_s *= 2
    return late_s
