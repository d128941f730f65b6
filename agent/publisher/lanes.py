"""What goes next: the order of sending, and how samples become batches.

The status when it is due, requests of the control lane, events (live, then from disk)
singly, live samples, then the backlog in batches beside them; where a data budget is used
up, of the samples one now and then. Not thread-safe: the publisher owns it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable
from typing import Any, Final

from agent.config import DeliverySettings
from agent.outbox import Kind, Message, Outbox
from agent.ports import Flow
from agent.publisher.exchange import ControlLane, Request
from agent.publisher.poison import Suspicion
from agent.publisher.schedule import StatusSchedule
from agent.publisher.sizing import BatchSizer
from agent.publisher.spending import GATHER_S
from agent.publisher.window import HandOver, Lane, Window
from contract import MessageKind, Topics, encode_batch_rows

LOG = logging.getLogger("agent.publisher")

IDLE_S: Final = 5.0
"""Longest wait between two rounds; each round counts as progress for the watchdog."""

_DISK_PAUSE_S: Final = 0.5
"""Before the backlog is read again after a read that gave nothing."""

_SOON_S: Final = 0.02
"""Shortest wait for a lane that opens by time."""


class Lanes:
    """Takes from the outbox whatever the window and the rate let go."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        window: Window,
        exchange: ControlLane,
        topics: Topics,
        settings: DeliverySettings,
        make_status: Callable[[], bytes],
        batch_rows: int,
        mature_s: float,
        now_s: float,
    ) -> None:
        self._outbox = outbox
        self._window = window
        self._exchange = exchange
        self._topics = topics
        self._settings = settings
        self._make_status = make_status
        self._batch_rows = batch_rows
        self._disk_pause_until_s = now_s
        self.sizer = BatchSizer(
            topic_bytes=len(topics.topic(MessageKind.BATCH)), max_rows=batch_rows
        )
        self.schedule = StatusSchedule()
        self.suspicion = Suspicion(mature_s)
        self.suspects: dict[Hashable, Message] = {}
        """Held back until each can be tried alone; the keys are those of ``suspicion``."""

        self.draining = False
        """Send what waits without gathering it into live batches first."""

    def apply(self, settings: DeliverySettings) -> None:
        """Other settings from now on."""
        self._settings = settings

    def send(self, now_s: float) -> float:
        """Send all that may go; seconds until a lane opens by time alone."""
        backlog = self._backlog_exists()
        spending = self._window.spending
        sparing_s = spending.trickle_s if self._flow is Flow.TRICKLE else 0.0
        wait_s = self.schedule.due_in_s(now_s, backlog=backlog, sparing_s=sparing_s)
        if wait_s <= 0:
            self._send_status(now_s, backlog=backlog)
            wait_s = self.schedule.due_in_s(now_s, backlog=backlog, sparing_s=sparing_s)
        while not self.suspicion.on_trial and self._window.is_open:
            if not self._has_work():
                return min(wait_s, IDLE_S)
            pause_s = self._window.pause_s(now_s)
            if pause_s > 0:
                return min(wait_s, pause_s)
            if not self._send_next(now_s):
                break
        return min(wait_s, self._next_lane_s(now_s))

    def send_requests(self, now_s: float) -> float:
        """Send what the control lane has, and nothing else; seconds until it may send more."""
        while self._window.is_open:
            pause_s = self._window.pause_s(now_s)
            if pause_s > 0:
                return pause_s if self._exchange.waits else IDLE_S
            request = self._exchange.take()
            if request is None:
                break
            self._send_request(request, now_s)
        return IDLE_S

    def set_aside(self, message: Message, why: str) -> None:
        """Give up one message that can never be delivered, and say so."""
        LOG.error(
            "%s %s/%d is set aside: %s", message.kind.value, message.run_id, message.sequence, why
        )
        self._outbox.refuse(message, why)

    def _has_work(self) -> bool:
        """Whether any lane has something, be it that it may not go yet.

        Most rounds are for a PUBACK and have nothing, and they are most of what sending costs.
        """
        return bool(self.suspects) or self._exchange.waits or self._outbox.offers()

    def _send_next(self, now_s: float) -> bool:
        """Send one publish of the first lane that has any; whether there was one."""
        in_flight = len(self._window) + self._exchange.asking
        suspect = self.suspicion.suspect
        if suspect in self.suspects and self.suspicion.may_try(now_s, in_flight=in_flight):
            self.suspicion.tries(suspect)
            self._send_single(self.suspects[suspect], now_s)
            return True
        request = self._exchange.take()
        if request is not None:
            self._send_request(request, now_s)
            return True
        events = self._outbox.claim_live(Kind.EVENT) or self._outbox.claim_backlog(Kind.EVENT, 1)
        if events:
            self._send_single(events[0], now_s)
            return True
        if self._flow is Flow.TRICKLE:
            return self._send_trickle(now_s)
        live_batch_in_s = self._live_batch_in_s(now_s)
        if live_batch_in_s is None:
            if self._send_live(now_s):
                return True
        elif live_batch_in_s == 0.0:
            count, _ = self._outbox.live(Kind.SAMPLE)
            claimed = self._outbox.claim_live(Kind.SAMPLE, self.sizer.rows(count))
            return self._send_batch(claimed, count, now_s)
        return self._send_backlog(now_s)

    def _send_live(self, now_s: float) -> bool:
        """Live samples singly, as many as may go at once; whether there was one."""
        live = self._outbox.claim_live(Kind.SAMPLE, max(1, self._window.room(now_s)))
        for index, message in enumerate(live):
            if index and not self._next_live_may_go(now_s):
                self._outbox.give_back(live[index:])
                break
            self._send_single(message, now_s)
        return bool(live)

    def _next_live_may_go(self, now_s: float) -> bool:
        free = self._flow is not Flow.TRICKLE and self.batch_s <= 0
        return free and self._window.is_open and self._window.pause_s(now_s) <= 0

    @property
    def _flow(self) -> Flow:
        return self._window.spending.flow

    @property
    def batch_s(self) -> float:
        """Seconds of live samples that one message gathers; 0 sends each singly."""
        least_s = GATHER_S if self._flow is Flow.GATHER else 0.0
        return max(self._settings.batch_s, least_s)

    def _send_trickle(self, now_s: float) -> bool:
        """The newest position now and then; the live lane is never older than a flush here."""
        if self._window.spending.trickle_in_s(now_s) > 0:
            return False
        live = self._outbox.claim_live(Kind.SAMPLE)
        if not live:
            return False
        self._window.spending.trickled(now_s)
        self._send_single(live[0], now_s)
        return True

    def _live_batch_in_s(self, now_s: float) -> float | None:
        """Seconds until the live batch is due; None when live samples go singly."""
        if self.batch_s <= 0:
            return None
        count, oldest_s = self._outbox.live(Kind.SAMPLE)
        if not count:
            return IDLE_S
        if self.draining or count >= self._batch_rows:
            return 0.0
        return max(0.0, oldest_s + self.batch_s - now_s)

    def _backlog_exists(self) -> bool:
        return (
            any(self._outbox.backlog(kind) > 0 for kind in Kind)
            or self._window.count(Lane.BATCH) > 0
        )

    def _backlog_may_go_in_s(self, now_s: float) -> float | None:
        """Seconds until the next backlog batch may go; None while its share is in flight."""
        if self._window.count(Lane.BATCH) >= max(1, self._settings.in_flight // 4):
            return None
        return max(0.0, self._window.backlog_pause_s(now_s), self._disk_pause_until_s - now_s)

    def _send_backlog(self, now_s: float) -> bool:
        if self._backlog_may_go_in_s(now_s) != 0.0:
            return False
        waiting = self._outbox.backlog(Kind.SAMPLE)
        if waiting <= 0:
            return False
        claimed = self._outbox.claim_backlog(Kind.SAMPLE, self.sizer.rows(waiting))
        if not claimed:
            self._disk_pause_until_s = now_s + _DISK_PAUSE_S
        return self._send_batch(claimed, waiting, now_s)

    def _next_lane_s(self, now_s: float) -> float:
        """When a lane opens by time alone; PUBACKs and new messages wake the thread."""
        wait_s = IDLE_S
        if self._flow is Flow.TRICKLE:
            count, _ = self._outbox.live(Kind.SAMPLE)
            trickle_s = self._window.spending.trickle_in_s(now_s)
            return min(wait_s, max(trickle_s, _SOON_S)) if count else wait_s
        live_s = self._live_batch_in_s(now_s)
        if live_s is not None and self._window.is_open:
            wait_s = min(wait_s, max(live_s, _SOON_S))
        if self._outbox.backlog(Kind.SAMPLE) > 0:
            backlog_s = self._backlog_may_go_in_s(now_s)
            if backlog_s is not None:
                wait_s = min(wait_s, max(backlog_s, _SOON_S))
        return wait_s

    def _send_request(self, request: Request, now_s: float) -> None:
        over = HandOver(Lane.CONTROL, [], len(request.payload), now_s, channel=request.channel)
        self._window.hand_over(over, request.topic, request.payload, retain=False)

    def _send_single(self, message: Message, now_s: float) -> None:
        kind = MessageKind.EVENTS if message.kind is Kind.EVENT else MessageKind.TELEMETRY
        over = HandOver(Lane.SINGLE, [message], len(message.payload), now_s)
        self._window.hand_over(over, self._topics.topic(kind), message.payload, retain=False)

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
        while not self.sizer.fits(count, len(payload), waiting):
            self.sizer.learn(count, len(payload))
            count = self.sizer.fewer(count, len(payload), waiting)
            payload = encode_batch_rows(rows[:count])
        self.sizer.learn(count, len(payload))
        self._outbox.give_back(messages[count:])
        over = HandOver(Lane.BATCH, messages[:count], len(payload), now_s)
        topic = self._topics.topic(MessageKind.BATCH)
        self._window.hand_over(over, topic, payload, retain=False)
        return True

    def _parsed(self, claimed: list[Message]) -> tuple[list[Message], list[dict[str, Any]]]:
        messages: list[Message] = []
        rows: list[dict[str, Any]] = []
        for message in claimed:
            try:
                rows.append(json.loads(message.payload))
            except ValueError:
                self.set_aside(message, "its row is damaged")
            else:
                messages.append(message)
        return messages, rows

    def _send_status(self, now_s: float, *, backlog: bool) -> None:
        self.schedule.sent(now_s, backlog=backlog)
        payload = self._make_status()
        over = HandOver(Lane.STATUS, [], len(payload), now_s)
        topic = self._topics.topic(MessageKind.STATUS)
        self._window.hand_over(over, topic, payload, retain=self._topics.may_retain())
