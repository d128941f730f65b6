"""One round of the publisher: no thread, no wall time, no randomness of its own.

Every message keeps its identity through any number of attempts; nothing is settled before
its PUBACK. ``link`` minds the connection, ``window`` what is in flight, ``lanes`` the order
of sending, ``exchange`` the requests of features, ``blame`` what the end of a connection
says of a message, ``changeover`` the way to another certificate; here their events meet.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from random import Random
from typing import TYPE_CHECKING, Final

from agent.config import DeliverySettings
from agent.outbox import Message, Outbox
from agent.ports import Allowance, Clock, Flow, PublishOutcome, Transport
from agent.publisher.backoff import Backoff
from agent.publisher.blame import Blame
from agent.publisher.changeover import Changeover, Order
from agent.publisher.exchange import ControlLane
from agent.publisher.lanes import IDLE_S, Lanes
from agent.publisher.limits import PublisherLimits
from agent.publisher.link import Link, LinkState
from agent.publisher.spending import PUBLISH_OVERHEAD_BYTES
from agent.publisher.window import Lane, Window
from contract import Topics

if TYPE_CHECKING:
    from agent.transport.credentials import Credentials

LOG = logging.getLogger("agent.publisher")

_FIRST_DIAL_S: Final = 5.0
"""What is younger when the first connection comes goes live."""

_SUSPICIOUSLY_SHORT_LIVED: Final = 5


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
        self._limits = limits = limits or PublisherLimits()
        now_s = clock.monotonic_s()
        backoff = Backoff(limits.backoff, random)
        self._link = Link(
            transport=transport,
            backoff=backoff,
            connect_timeout_s=limits.connect_timeout_s,
            now_s=now_s,
        )
        self._window = Window(
            transport=transport,
            settings=settings,
            most_bytes=limits.max_in_flight_bytes,
            ack_timeout_s=limits.ack_timeout_s,
            now_s=now_s,
        )
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.exchange = ControlLane(
            transport=transport, wake=self.wake, answer_timeout_s=limits.ack_timeout_s
        )
        self._changeover = Changeover(
            transport=transport,
            link=self._link,
            exchange=self.exchange,
            backoff=backoff,
            random=random,
            limits=limits.changeover,
        )
        self._lanes = Lanes(
            outbox=outbox,
            window=self._window,
            exchange=self.exchange,
            topics=topics,
            settings=settings,
            make_status=make_status,
            batch_rows=limits.batch_rows,
            mature_s=limits.trial_after_s,
            now_s=now_s,
        )
        self._blame = Blame(self._lanes, self._window, self.exchange, batch_rows=limits.batch_rows)
        self._acknowledged: deque[int] = deque()
        self._woken = False
        self.on_first_ack: Callable[[], None] | None = None
        """Whatever it was for; a status goes out on each connection, also while samples wait."""
        self.on_first_delivery: Callable[[], None] | None = None
        """The first message of the outbox was acknowledged."""
        self._dials_first = True
        self._hold_live()
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
        if outcome is PublishOutcome.ACKNOWLEDGED:
            # they come in bursts: one wake, one look at the outbox for all
            self._acknowledged.append(token)
            self.wake()
        else:
            self._inbox.put(lambda: self._settle(token, outcome))

    def on_subscribed(self, topic_filter: str, refusal: str | None) -> None:
        """From the transport."""
        self._inbox.put(lambda: self.exchange.subscribed(topic_filter, refusal))

    def on_message(self, topic: str, payload: bytes) -> None:
        """From the transport."""
        self.exchange.arrived(topic, payload)

    def wake(self) -> None:
        """There is something new to send."""
        # one that was not answered yet does for this one too
        if not self._woken:
            self._woken = True
            self._inbox.put(None)

    def request_status(self) -> None:
        """Send a status soon."""
        self._inbox.put(self._lanes.schedule.request)

    def apply(self, settings: DeliverySettings) -> None:
        """Batches and rates are others from now on."""
        self._inbox.put(lambda: self._apply(settings))

    def drain(self) -> None:
        """Send what waits without gathering it into live batches first."""
        self._inbox.put(self._begin_drain)

    def allow(self, allowance: Allowance) -> None:
        """What the day's data budget lets go from now on."""
        self._inbox.put(lambda: self._allow(allowance))

    def change_over(self, order: Order) -> None:
        """Connect with another certificate; see ``changeover``. It ends in its ``on_end``."""
        self._inbox.put(lambda: self._changeover.begin(order, self._clock.monotonic_s()))

    def keep(self, order: Order, kept: Credentials) -> None:
        """The order's certificate is the vehicle's now, and stands where ``kept`` says."""
        self._inbox.put(lambda: self._changeover.keep(order, kept, self._clock.monotonic_s()))

    def give_up(self, order: Order, reason: str) -> None:
        """The order's certificate connects and yet is no good: back to the present one."""
        self._inbox.put(lambda: self._changeover.give_up(order, reason, self._clock.monotonic_s()))

    @property
    def holds_back(self) -> bool:
        """Whether the data budget keeps samples from being sent."""
        return self._window.spending.flow is Flow.TRICKLE

    @property
    def estimated_wire_bytes(self) -> int:
        """What the publishes took on the wire, for a transport that cannot say."""
        return self.bytes_published + self.publishes * PUBLISH_OVERHEAD_BYTES

    @property
    def link_state(self) -> LinkState:
        """Where the connection stands."""
        return self._link.state

    @property
    def connected(self) -> bool:
        """Whether the last thing heard was a CONNACK."""
        return self._link.state is LinkState.UP

    @property
    def publishes(self) -> int:
        """Publishes handed over since the start, of any kind."""
        return self._window.publishes

    @property
    def bytes_published(self) -> int:
        """Their payload bytes."""
        return self._window.bytes_published

    # --- one round -----------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Until something is enqueued, at most ``timeout_s``; it is handled then."""
        try:
            work = self._inbox.get(timeout=timeout_s)
        except Empty:
            return
        self._do(work)

    def _do(self, work: Callable[[], None] | None) -> None:
        if work is None:
            self._woken = False
        else:
            work()

    def step(self) -> float:
        """Handle what was enqueued, mind the connection, send; seconds until the next round."""
        while True:
            try:
                work = self._inbox.get_nowait()
            except Empty:
                break
            self._do(work)
        self._settle_acknowledged()
        now_s = self._clock.monotonic_s()
        if not self.connected:
            return min(IDLE_S, self._link.mind(now_s))
        wait_s = min(IDLE_S, self._mind_liveness(now_s))
        if self._link.dropping:
            return min(wait_s, self._link.mind_leaving(now_s))
        self.exchange.deliver()
        if self._changeover.on_probation:
            self._changeover.mind(now_s)
            wait_s = min(wait_s, self.exchange.open_channels(now_s) or IDLE_S)
            return min(wait_s, self._lanes.send_requests(now_s))
        if not self._lanes.suspicion.on_trial:
            wait_s = min(wait_s, self.exchange.open_channels(now_s) or IDLE_S)
        return min(wait_s, self._lanes.send(now_s))

    def _connected(self) -> None:
        now_s = self._clock.monotonic_s()
        self._dials_first = False
        self._link.connected(now_s)
        self._window.connected(now_s)
        self._lanes.schedule.connected()
        self._lanes.suspicion.connected(now_s)
        self._hold_live()
        self._changeover.connected(now_s)
        LOG.info("connected to the broker; %d messages wait", self._outbox.waiting())

    def _disconnected(self, reason: str, *, unauthorised: bool) -> None:
        self._settle_acknowledged()
        self._dials_first = False
        now_s = self._clock.monotonic_s()
        loss = self._link.lost(now_s, reason, unauthorised=unauthorised)
        guilty = None
        if loss.left:
            self._lanes.suspicion.abandoned()
        elif loss.by_us:
            self._blame.given_up()
        else:
            guilty = self._blame.lost(now_s)
        lost = [message for over in self._window.void() for message in over.messages]
        held = self._lanes.suspects.values()
        self._outbox.give_back([message for message in lost if message not in held])
        self._outbox.hold_live_s = 0.0
        self._outbox.leave_live_to_disk()
        if loss.news:
            LOG.warning(
                "%s: %s; trying again, keeping %d messages",
                "connection lost" if loss.was_up else "cannot connect",
                loss.reason,
                self._outbox.waiting(),
            )
        if loss.short_lived == _SUSPICIOUSLY_SHORT_LIVED:
            LOG.warning(
                "%d connections in a row did not last: if the network is good, another client may"
                " use this vehicle's id, or the broker's policy may forbid one of its topics",
                loss.short_lived,
            )
        self.exchange.disconnected(guilty, now_s)
        self._changeover.lost(loss, now_s, unauthorised=unauthorised)

    def _mind_liveness(self, now_s: float) -> float:
        left_s = self._window.overdue_in_s(now_s)
        if left_s is None:
            return IDLE_S
        if left_s <= 0:
            oldest = self._window.oldest
            what = " of one message" if oldest is not None and oldest.overtaken_s else ""
            self._link.drop(f"no acknowledgement{what} for {self._window.patience_s:.0f} s")
        return max(left_s, 0.05)

    def _settle(self, token: int, outcome: PublishOutcome) -> None:
        if outcome is PublishOutcome.CONNECTION_LOST:
            return  # on_disconnected voids everything in flight at once
        if outcome is PublishOutcome.DENIED and self._window.lane_of(token) is not Lane.CONTROL:
            # it would fare no better as another message: keep all of them and slow down
            self._link.drop(
                "the broker denies this vehicle its own topics: check its policy there",
                unauthorised=True,
            )
            return
        over = self._window.settle(token)
        if over is None:
            return
        if over.lane is Lane.BATCH:
            self._lanes.sizer.max_rows = max(1, len(over.messages) // 2)
            self._outbox.give_back(over.messages)
        elif over.lane is Lane.SINGLE:
            self._lanes.set_aside(over.messages[0], "the transport cannot send it")
        elif over.lane is Lane.CONTROL:
            LOG.error("a request of %d bytes was not taken: %s", over.size, outcome.value)

    def _settle_acknowledged(self) -> None:
        settled: list[Message] = []
        while self._acknowledged:
            over = self._window.settle(self._acknowledged.popleft())
            if over is not None:
                self._window.acknowledged(over, self._clock.monotonic_s())
                self._blame.acknowledged(over)
                settled += over.messages
                if self.on_first_ack is not None:
                    self.on_first_ack()
                    self.on_first_ack = None
        if settled:
            self._outbox.acknowledge(settled)
            if self.on_first_delivery is not None:
                self.on_first_delivery()
                self.on_first_delivery = None

    def _hold_live(self) -> None:
        """Live batches gather in memory what is on disk too, and so does the first dial."""
        if self._dials_first:
            # it is news, though a chore of the outbox's start wrote it
            self._outbox.hold_live_s = _FIRST_DIAL_S
            return
        holds = self.connected and not self.holds_back
        self._outbox.hold_live_s = 2 * self._lanes.batch_s if holds else 0.0

    def _allow(self, allowance: Allowance) -> None:
        self._window.allow(allowance)
        self._hold_live()
        if self.holds_back:
            self._outbox.leave_live_to_disk()

    def _apply(self, settings: DeliverySettings) -> None:
        self._window.apply(settings, self._clock.monotonic_s())
        self._lanes.apply(settings)
        self._hold_live()

    def _begin_drain(self) -> None:
        self._lanes.draining = True
        self._link.hurry(self._clock.monotonic_s())
