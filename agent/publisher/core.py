"""One round of the publisher: no thread, no wall time, no randomness of its own.

Order of sending: the status when it is due, events (live, then from disk) singly, live
samples, then the backlog in batches beside them. Every message keeps its identity
through any number of attempts; nothing is settled before its PUBACK.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, Final

from agent.config import DeliverySettings
from agent.outbox import Kind, Message, Outbox
from agent.ports import Clock, PublishOutcome, Transport
from agent.publisher.backoff import Backoff, BackoffSettings
from agent.publisher.bucket import TokenBucket
from agent.publisher.poison import Suspicion
from agent.publisher.schedule import StatusSchedule
from agent.publisher.sizing import BatchSizer
from contract import MessageKind, Topics, encode_batch_rows

LOG = logging.getLogger("agent.publisher")

IDLE_S: Final = 5.0
"""Longest wait between two rounds; each round counts as progress for the watchdog."""

_SLOW_LINK_BYTES_PER_S: Final = 2_000
"""A link this slow is still alive: what is in flight gets the time to go through it."""

_DISK_PAUSE_S: Final = 0.5
"""Before the backlog is read again after a read that gave nothing."""


@dataclass(frozen=True, slots=True)
class PublisherLimits:
    """Seconds, bytes and counts that the config does not name."""

    connect_timeout_s: float = 30.0
    ack_timeout_s: float = 20.0
    max_in_flight_bytes: int = 96 * 1024
    batch_rows: int = 512
    backoff: BackoffSettings = field(default_factory=BackoffSettings)


class Link(Enum):
    """The connection as the publisher sees it."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


class Lane(Enum):
    """What a hand-over is."""

    STATUS = "status"
    SINGLE = "single"
    BATCH = "batch"


@dataclass(slots=True)
class HandOver:
    """One publish without its PUBACK."""

    lane: Lane
    messages: list[Message]
    size: int
    sent_s: float

    @property
    def key(self) -> Hashable | None:
        """What it is blamed by; None where it cannot be blamed alone."""
        if self.lane is not Lane.SINGLE:
            return None
        return (self.messages[0].run_id, self.messages[0].sequence)


class Publisher:
    """Implements ``TransportEvents``; its callbacks only enqueue. ``step`` does the work."""

    def __init__(
        self,
        *,
        clock: Clock,
        random: Random,
        outbox: Outbox,
        transport: Transport,
        topics: Topics,
        settings: DeliverySettings,
        make_status: Callable[[], bytes],
        limits: PublisherLimits | None = None,
    ) -> None:
        self._clock = clock
        self._outbox = outbox
        self._transport = transport
        self._topics = topics
        self._settings = settings
        self._make_status = make_status
        self._limits = limits = limits or PublisherLimits()
        now_s = clock.monotonic_s()
        rate = settings.max_publishes_per_s
        self._publishes = TokenBucket(rate=rate, burst=max(4.0, rate / 4), now_s=now_s)
        self._bytes = TokenBucket(
            rate=settings.max_bytes_per_s, burst=settings.max_bytes_per_s / 4, now_s=now_s
        )
        self._backoff = Backoff(limits.backoff, random)
        self._sizer = BatchSizer(
            topic_bytes=len(topics.topic(MessageKind.BATCH)), max_rows=limits.batch_rows
        )
        self._suspicion = Suspicion()
        self._suspect: Message | None = None
        self._schedule = StatusSchedule()
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._in_flight: dict[int, HandOver] = {}
        self._in_flight_bytes = 0
        self._next_token = 1
        self._link = Link.DOWN
        self._link_since_s = now_s
        self._next_attempt_s = now_s
        self._last_ack_s = now_s
        self._failure_told: str | None = None
        self._drop_reason: str | None = None
        self._draining = False
        self._disk_pause_until_s = now_s
        self.bytes_published = 0
        self.publishes = 0
        self.on_first_ack: Callable[[], None] | None = None
        transport.start(self)

    # --- called from any thread ----------------------------------------------------

    def on_connected(self) -> None:
        """From the transport."""
        self._inbox.put(self._connected)

    def on_disconnected(self, reason: str, *, unauthorised: bool) -> None:
        """From the transport."""
        self._inbox.put(lambda: self._disconnected(reason, unauthorised=unauthorised))

    def on_outcome(self, token: int, outcome: PublishOutcome) -> None:
        """From the transport."""
        self._inbox.put(lambda: self._settle(token, outcome))

    def wake(self) -> None:
        """There is something new to send."""
        self._inbox.put(None)

    def request_status(self) -> None:
        """Send a status soon."""
        self._inbox.put(self._schedule.request)

    def drain(self) -> None:
        """Send what waits without gathering it into live batches first."""
        self._inbox.put(self._begin_drain)

    @property
    def connected(self) -> bool:
        """Whether the last thing heard was a CONNACK."""
        return self._link is Link.UP

    # --- one round -----------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Until something is enqueued, at most ``timeout_s``; it is handled then."""
        try:
            work = self._inbox.get(timeout=timeout_s)
        except Empty:
            return
        if work is not None:
            work()

    def step(self) -> float:
        """Handle what was enqueued, mind the connection, send; seconds until the next round."""
        while True:
            try:
                work = self._inbox.get_nowait()
            except Empty:
                break
            if work is not None:
                work()
        now_s = self._clock.monotonic_s()
        if self._link is Link.UP:
            return min(IDLE_S, self._mind_liveness(now_s), self._send_what_may_go(now_s))
        if self._link is Link.DOWN:
            if now_s < self._next_attempt_s:
                return min(IDLE_S, self._next_attempt_s - now_s)
            self._link, self._link_since_s = Link.CONNECTING, now_s
            self._transport.connect()
            return IDLE_S
        left_s = self._link_since_s + self._limits.connect_timeout_s - now_s
        if left_s <= 0:
            self._give_up(f"no answer for {self._limits.connect_timeout_s:.0f} s")
        return min(IDLE_S, max(left_s, 0.05))

    def _connected(self) -> None:
        now_s = self._clock.monotonic_s()
        self._link, self._link_since_s, self._last_ack_s = Link.UP, now_s, now_s
        self._backoff.connected(now_s)
        self._schedule.connected()
        self._suspicion.connected()
        self._failure_told = None
        self._outbox.hold_live_s = 2 * self._settings.batch_s
        LOG.info("connected to the broker; %d messages wait", self._outbox.waiting())

    def _disconnected(self, reason: str, *, unauthorised: bool) -> None:
        now_s = self._clock.monotonic_s()
        was_up = self._link is Link.UP
        by_us, self._drop_reason = self._drop_reason, None
        reason = by_us or reason
        self._link, self._link_since_s = Link.DOWN, now_s
        self._next_attempt_s = now_s + self._backoff.lost(now_s, unauthorised=unauthorised)
        self._blame(now_s, by_us=by_us is not None)
        lost = [message for over in self._in_flight.values() for message in over.messages]
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._outbox.give_back([message for message in lost if message is not self._suspect])
        self._outbox.hold_live_s = 0.0
        self._outbox.leave_live_to_disk()
        if was_up or reason != self._failure_told:
            LOG.warning(
                "%s: %s; trying again, keeping %d messages",
                "connection lost" if was_up else "cannot connect",
                reason,
                self._outbox.waiting(),
            )
        self._failure_told = reason

    def _blame(self, now_s: float, *, by_us: bool) -> None:
        if by_us or not self._in_flight:
            self._suspicion.lost(None, 0.0)
            return
        oldest = next(iter(self._in_flight.values()))
        if oldest.lane is Lane.BATCH:
            # a smaller batch next time: what is wrong with one row ends up alone
            self._sizer.max_rows = max(1, self._sizer.max_rows // 2)
        convicted = self._suspicion.lost(oldest.key, now_s - oldest.sent_s)
        if convicted is not None:
            self._set_aside(oldest.messages[0], "the broker closes the connection on it")
            self._suspect = None
        elif self._suspicion.suspect is not None and self._suspicion.suspect == oldest.key:
            self._suspect = oldest.messages[0]

    def _set_aside(self, message: Message, why: str) -> None:
        LOG.error(
            "%s %s/%d is set aside: %s", message.kind.value, message.run_id, message.sequence, why
        )
        self._outbox.refuse(message, why)

    def _mind_liveness(self, now_s: float) -> float:
        if not self._in_flight:
            return IDLE_S
        oldest = next(iter(self._in_flight.values()))
        limit_s = self._limits.ack_timeout_s + self._in_flight_bytes / _SLOW_LINK_BYTES_PER_S
        left_s = max(self._last_ack_s, oldest.sent_s) + limit_s - now_s
        if left_s <= 0 and self._drop_reason is None:
            self._give_up(f"no acknowledgement for {limit_s:.0f} s")
        return max(left_s, 0.05)

    def _give_up(self, reason: str) -> None:
        if self._drop_reason is None:
            self._drop_reason = reason
            self._transport.disconnect()

    def _settle(self, token: int, outcome: PublishOutcome) -> None:
        if outcome is PublishOutcome.CONNECTION_LOST:
            return  # on_disconnected voids everything in flight at once
        over = self._in_flight.pop(token, None)
        if over is None:
            return
        self._in_flight_bytes -= over.size
        if outcome is PublishOutcome.ACKNOWLEDGED:
            self._last_ack_s = self._clock.monotonic_s()
            self._suspicion.acknowledged(over.key)
            if self._suspect is not None and over.messages == [self._suspect]:
                self._suspect = None
            if over.lane is Lane.BATCH:
                self._sizer.max_rows = min(self._limits.batch_rows, self._sizer.max_rows * 2)
            self._outbox.acknowledge(over.messages)
            if self.on_first_ack is not None and over.messages:
                self.on_first_ack()
                self.on_first_ack = None
        elif over.lane is Lane.BATCH:
            self._sizer.max_rows = max(1, len(over.messages) // 2)
            self._outbox.give_back(over.messages)
        elif over.lane is Lane.SINGLE:
            self._set_aside(over.messages[0], "the transport cannot send it")

    def _begin_drain(self) -> None:
        self._draining = True
        self._next_attempt_s = min(self._next_attempt_s, self._clock.monotonic_s())

    # --- sending -------------------------------------------------------------------

    def _send_what_may_go(self, now_s: float) -> float:
        if self._drop_reason is not None:
            return IDLE_S
        backlog = self._backlog_exists()
        wait_s = self._schedule.due_in_s(now_s, backlog=backlog)
        if wait_s <= 0:
            self._send_status(now_s, backlog=backlog)
            wait_s = self._schedule.due_in_s(now_s, backlog=backlog)
        while not self._suspicion.on_trial and self._window_is_open():
            pause_s = max(self._publishes.wait_s(now_s), self._bytes.wait_s(now_s))
            if pause_s > 0:
                return min(wait_s, pause_s) if self._outbox.waiting() else wait_s
            if not self._send_next(now_s):
                break
        return min(wait_s, self._next_lane_s(now_s))

    def _window_is_open(self) -> bool:
        return (
            len(self._in_flight) < self._settings.in_flight
            and self._in_flight_bytes < self._limits.max_in_flight_bytes
        )

    def _send_next(self, now_s: float) -> bool:
        """Send one publish of the first lane that has any; whether there was one."""
        if self._suspect is not None and self._suspicion.may_try(in_flight=len(self._in_flight)):
            self._suspicion.tries((self._suspect.run_id, self._suspect.sequence))
            self._send_single(self._suspect, now_s)
            return True
        events = self._outbox.claim_live(Kind.EVENT) or self._outbox.claim_backlog(Kind.EVENT, 1)
        if events:
            self._send_single(events[0], now_s)
            return True
        if self._live_batch_in_s(now_s) is None:
            live = self._outbox.claim_live(Kind.SAMPLE)
            if live:
                self._send_single(live[0], now_s)
                return True
        elif self._live_batch_in_s(now_s) == 0.0:
            count, _ = self._outbox.live(Kind.SAMPLE)
            claimed = self._outbox.claim_live(Kind.SAMPLE, self._sizer.rows(count))
            return self._send_batch(claimed, count, now_s)
        return self._send_backlog(now_s)

    def _live_batch_in_s(self, now_s: float) -> float | None:
        """Seconds until the live batch is due; None when live samples go singly."""
        if self._settings.batch_s <= 0:
            return None
        count, oldest_s = self._outbox.live(Kind.SAMPLE)
        if not count:
            return IDLE_S
        if self._draining or count >= self._limits.batch_rows:
            return 0.0
        return max(0.0, oldest_s + self._settings.batch_s - now_s)

    def _backlog_exists(self) -> bool:
        return any(self._outbox.backlog(kind) > 0 for kind in Kind) or self._batches_in_flight() > 0

    def _batches_in_flight(self) -> int:
        return sum(1 for over in self._in_flight.values() if over.lane is Lane.BATCH)

    def _backlog_share(self) -> int:
        return max(1, self._settings.in_flight // 4)

    def _backlog_pause_s(self, now_s: float) -> float:
        """The backlog leaves a quarter of each burst to live samples and events."""
        return max(
            self._publishes.wait_s(now_s, self._publishes.burst / 4),
            self._bytes.wait_s(now_s, self._bytes.burst / 4),
            self._disk_pause_until_s - now_s,
        )

    def _send_backlog(self, now_s: float) -> bool:
        if self._batches_in_flight() >= self._backlog_share() or self._backlog_pause_s(now_s) > 0:
            return False
        waiting = self._outbox.backlog(Kind.SAMPLE)
        if waiting <= 0:
            return False
        claimed = self._outbox.claim_backlog(Kind.SAMPLE, self._sizer.rows(waiting))
        if not claimed:
            self._disk_pause_until_s = now_s + _DISK_PAUSE_S
        return self._send_batch(claimed, waiting, now_s)

    def _next_lane_s(self, now_s: float) -> float:
        """When a lane opens by time alone; PUBACKs and new messages wake the thread."""
        wait_s = IDLE_S
        live_s = self._live_batch_in_s(now_s)
        if live_s is not None and self._window_is_open():
            wait_s = min(wait_s, max(live_s, 0.02))
        if (
            self._outbox.backlog(Kind.SAMPLE) > 0
            and self._batches_in_flight() < self._backlog_share()
        ):
            wait_s = min(wait_s, max(self._backlog_pause_s(now_s), 0.02))
        return wait_s

    def _send_single(self, message: Message, now_s: float) -> None:
        kind = MessageKind.EVENTS if message.kind is Kind.EVENT else MessageKind.TELEMETRY
        over = HandOver(Lane.SINGLE, [message], len(message.payload), now_s)
        self._hand_over(over, self._topics.topic(kind), message.payload)

    def _send_batch(self, claimed: list[Message], waiting: int, now_s: float) -> bool:
        """Send as many of the claimed as fit into one message; the others wait again."""
        messages, rows = self._parsed(claimed)
        if not messages:
            return bool(claimed)
        if len(messages) == 1:
            self._send_single(messages[0], now_s)
            return True
        count = len(rows)
        payload = encode_batch_rows(rows)
        while not self._sizer.fits(count, len(payload), waiting):
            self._sizer.learn(count, len(payload))
            count = self._sizer.fewer(count, len(payload), waiting)
            payload = encode_batch_rows(rows[:count])
        self._sizer.learn(count, len(payload))
        self._outbox.give_back(messages[count:])
        over = HandOver(Lane.BATCH, messages[:count], len(payload), now_s)
        self._hand_over(over, self._topics.topic(MessageKind.BATCH), payload)
        return True

    def _parsed(self, claimed: list[Message]) -> tuple[list[Message], list[dict[str, Any]]]:
        messages: list[Message] = []
        rows: list[dict[str, Any]] = []
        for message in claimed:
            try:
                rows.append(json.loads(message.payload))
            except ValueError:
                self._set_aside(message, "its row is damaged")
            else:
                messages.append(message)
        return messages, rows

    def _send_status(self, now_s: float, *, backlog: bool) -> None:
        self._schedule.sent(now_s, backlog=backlog)
        payload = self._make_status()
        over = HandOver(Lane.STATUS, [], len(payload), now_s)
        topic = self._topics.topic(MessageKind.STATUS)
        self._hand_over(over, topic, payload, retain=self._topics.may_retain())

    def _hand_over(
        self, over: HandOver, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        token = self._next_token
        self._next_token += 1
        self._in_flight[token] = over
        self._in_flight_bytes += over.size
        self._publishes.take(over.sent_s, 1)
        self._bytes.take(over.sent_s, over.size)
        self.bytes_published += over.size
        self.publishes += 1
        self._transport.publish(token, topic, payload, retain=retain)
