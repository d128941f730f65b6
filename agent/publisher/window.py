"""What is out and not acknowledged yet, and what may go out now.

The window is ours because MQTT 3.1.1 has none that both sides know of; the two token
buckets keep the connection below what AWS IoT Core serves. Not thread-safe: the publisher
owns it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.config import DeliverySettings
from agent.outbox import Message
from agent.ports import Allowance, Transport
from agent.publisher.bucket import TokenBucket
from agent.publisher.exchange import ControlChannel
from agent.publisher.spending import PUBLISH_OVERHEAD_BYTES, Spending

_SLOW_LINK_BYTES_PER_S: Final = 2_000
"""A link this slow is still alive: what is in flight gets the time to go through it."""


class Lane(Enum):
    """What a hand-over is."""

    STATUS = "status"
    CONTROL = "control"
    SINGLE = "single"
    BATCH = "batch"


@dataclass(slots=True)
class HandOver:
    """One publish without its PUBACK."""

    lane: Lane
    messages: list[Message]
    size: int
    sent_s: float
    overtaken_s: float | None = None
    """When a later one was acknowledged first. Brokers answer in order (MQTT 3.1.1,
    [MQTT-4.6.0-2]), so this one's PUBACK is hardly still to come."""

    channel: ControlChannel | None = None
    """Whose it is, on the control lane."""

    number: int = 0
    """In the order of handing over; the window gives it."""

    @property
    def key(self) -> Hashable | None:
        """What it is blamed by; None where it cannot be blamed alone."""
        if self.lane is not Lane.SINGLE:
            return None
        return (self.messages[0].run_id, self.messages[0].sequence)


class Window:
    """The only caller of ``Transport.publish``; counts what it hands over.

    ``most_bytes`` bounds what is in flight beside ``settings.in_flight``, the count.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        settings: DeliverySettings,
        most_bytes: int,
        ack_timeout_s: float,
        now_s: float,
    ) -> None:
        self._transport = transport
        self._most = settings.in_flight
        self._most_bytes = most_bytes
        self._ack_timeout_s = ack_timeout_s
        publishes, size = _rates(settings)
        self._publishes = TokenBucket(**publishes, now_s=now_s)
        self._bytes = TokenBucket(**size, now_s=now_s)
        self._in_flight: dict[int, HandOver] = {}
        self._in_flight_bytes = 0
        self._next_token = 1
        self._last_ack_s = now_s
        self.spending = Spending()
        self.bytes_published = 0
        self.publishes = 0

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def is_open(self) -> bool:
        """Whether one more may be in flight."""
        return len(self._in_flight) < self._most and self._in_flight_bytes < self._most_bytes

    def room(self, now_s: float) -> int:
        """How many small messages may go at once, about; each still asks ``is_open``."""
        return min(self._most - len(self._in_flight), self._publishes.whole(now_s))

    @property
    def oldest(self) -> HandOver | None:
        """The one that was handed over first of those in flight."""
        return next(iter(self._in_flight.values()), None)

    @property
    def overtaken(self) -> list[HandOver]:
        """Those that later ones were acknowledged before."""
        return [over for over in self._in_flight.values() if over.overtaken_s is not None]

    def count(self, lane: Lane) -> int:
        """How many of a lane are in flight."""
        return sum(1 for over in self._in_flight.values() if over.lane is lane)

    def pause_s(self, now_s: float) -> float:
        """Seconds until the rate allows the next publish."""
        return max(self._publishes.wait_s(now_s), self._bytes.wait_s(now_s))

    def backlog_pause_s(self, now_s: float) -> float:
        """The same for the backlog, which leaves a quarter of each burst to what is live."""
        return max(
            self._publishes.wait_s(now_s, self._publishes.burst / 4),
            self._bytes.wait_s(now_s, self._bytes.burst / 4),
        )

    def hand_over(self, over: HandOver, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish; the caller has asked ``is_open`` and ``pause_s`` where they apply."""
        token = self._next_token
        self._next_token += 1
        over.number = token
        self._in_flight[token] = over
        self._in_flight_bytes += over.size
        self._publishes.take(over.sent_s, 1)
        self._bytes.take(over.sent_s, over.size)
        self.spending.spend(over.size)
        self.bytes_published += over.size
        self.publishes += 1
        self._transport.publish(token, topic, payload, retain=retain)

    def apply(self, settings: DeliverySettings, now_s: float) -> None:
        """Other rates from now on; what is in flight stays."""
        publishes, size = _rates(settings)
        self._publishes.change(**publishes, now_s=now_s)
        self._bytes.change(**size, now_s=now_s)

    def allow(self, allowance: Allowance) -> None:
        """What the day's data budget lets go from now on."""
        overhead = len(self._in_flight) * PUBLISH_OVERHEAD_BYTES
        self.spending.allow(allowance, in_flight_bytes=self._in_flight_bytes + overhead)

    def connected(self, now_s: float) -> None:
        """A new connection: it is judged from now on."""
        self._last_ack_s = now_s

    def acknowledged(self, acknowledged: HandOver, now_s: float) -> None:
        """Its PUBACK came: the connection is alive, and what was sent before it is overtaken."""
        self._last_ack_s = now_s
        for over in self._in_flight.values():
            if over.number > acknowledged.number:
                break
            if over.overtaken_s is None:
                over.overtaken_s = now_s

    def lane_of(self, token: int) -> Lane | None:
        """Which lane it went on; None for a token that was void already."""
        over = self._in_flight.get(token)
        return None if over is None else over.lane

    def settle(self, token: int) -> HandOver | None:
        """Free the slot; None for a token that was void already."""
        over = self._in_flight.pop(token, None)
        if over is not None:
            self._in_flight_bytes -= over.size
        return over

    def void(self) -> list[HandOver]:
        """The connection ended: empty the window; what was in it, oldest first."""
        lost = list(self._in_flight.values())
        self._in_flight.clear()
        self._in_flight_bytes = 0
        return lost

    @property
    def patience_s(self) -> float:
        """How long no PUBACK at all may come while something is in flight."""
        return self._ack_timeout_s + self._in_flight_bytes / _SLOW_LINK_BYTES_PER_S

    def overdue_in_s(self, now_s: float) -> float | None:
        """Seconds until the connection is given up; None with nothing in flight.

        It counts as dead when no PUBACK comes at all, and must be made anew, for only then
        a message may be sent again, when one is left out.
        """
        oldest = self.oldest
        if oldest is None:
            return None
        since_s = oldest.overtaken_s
        if since_s is None:
            since_s = max(self._last_ack_s, oldest.sent_s)
        return since_s + self.patience_s - now_s


def _rates(settings: DeliverySettings) -> tuple[dict[str, float], dict[str, float]]:
    """Rate and burst of publishes, and of bytes, a second."""
    publishes, size = settings.max_publishes_per_s, settings.max_bytes_per_s
    return (
        {"rate": publishes, "burst": max(4.0, publishes / 4)},
        {"rate": size, "burst": size / 4},
    )
