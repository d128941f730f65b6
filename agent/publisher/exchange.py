"""The control lane: a few requests and answers beside the samples, e.g. the device shadow.

Nothing here is durable: a channel starts anew on each connection, and a disconnect voids
what it had queued or was about to hear. And nothing here may keep samples from going:
queues are bounded, and because a broker that dislikes a subscription or a topic may close
the connection instead of refusing it (AWS IoT Core does for want of a policy), channels
are opened one after the other and the one that was waiting for the broker when it closed
is left out for a while after ``STRIKES`` times in a row.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from agent.ports import ExchangeListener, Transport
from contract.json_codec import MAX_MESSAGE_BYTES

LOG = logging.getLogger("agent.publisher")

MOST_FILTERS: Final = 8
"""In one SUBSCRIBE; AWS IoT Core, "Message broker and protocol limits and quotas"."""

MOST_QUEUED: Final = 32
"""Messages of one channel that wait to go."""

MOST_ARRIVED: Final = 64
"""Messages from the broker that wait for the publisher's thread."""

STRIKES: Final = 3
LEFT_OUT_S: Final = 3_600.0
_PROMPT_S: Final = 10.0
"""A broker that dislikes something closes at once; a later loss has another cause."""

_LEFT_OUT: Final = (
    f"the broker closes the connection on it; tried again after {LEFT_OUT_S / 60:.0f} min:"
    " check the vehicle's policy there"
)


class _State(Enum):
    CLOSED = "closed"
    ASKED = "asked"
    OPEN = "open"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a channel on its way out."""

    channel: ControlChannel
    topic: str
    payload: bytes


class ControlChannel:
    """Implements ``agent.ports.Channel``; made by ``ControlLane.register``."""

    def __init__(
        self,
        filters: tuple[str, ...],
        listener: ExchangeListener,
        wake: Callable[[], None],
        *,
        wanted: bool,
    ) -> None:
        self.filters = filters
        self.listener = listener
        self.wanted = wanted
        self.renewed = False
        """Wanted anew: what it was refused before is to be tried again."""
        self.state = _State.CLOSED
        self.unanswered: set[str] = set()
        self.asked_s = 0.0
        self.strikes = 0
        self.left_out_until_s = 0.0
        self._wake = wake
        self._lock = threading.Lock()
        self._queue: deque[Request] = deque()
        self._is_open = False
        self._refusal: str | None = None

    @property
    def refusal(self) -> str | None:
        """See the port."""
        return self._refusal

    def want(self, *, wanted: bool) -> None:
        """See the port."""
        self.wanted = self.renewed = wanted
        self._wake()

    def send(self, topic: str, payload: bytes) -> bool:
        """See the port."""
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"{len(payload)} bytes for {topic}: the broker takes {MAX_MESSAGE_BYTES}"
            )
        with self._lock:
            if not self._is_open or len(self._queue) >= MOST_QUEUED:
                return False
            self._queue.append(Request(self, topic, payload))
        self._wake()
        return True

    # --- the lane's, on the publisher's thread -------------------------------------

    def open(self) -> None:
        """From now on it takes messages."""
        self.state, self._refusal = _State.OPEN, None
        with self._lock:
            self._is_open = True

    def refuse(self, why: str) -> None:
        """It stays shut on this connection."""
        self.state = _State.REFUSED
        self.complain(why)

    def renew(self) -> None:
        """Forget why it was shut."""
        self.renewed = False
        self._refusal = None
        if self.state is _State.REFUSED:
            self.state = _State.CLOSED

    def complain(self, why: str) -> None:
        """Say why it is shut, once."""
        if self._refusal != why:
            LOG.warning("%s: %s", ", ".join(self.filters), why)
        self._refusal = why

    def shut(self) -> bool:
        """The connection ended; whether it was open."""
        was_open = self.state is _State.OPEN
        self.state = _State.CLOSED
        with self._lock:
            self._is_open = False
            self._queue.clear()
        return was_open

    def take(self) -> Request | None:
        """The next message to send."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    @property
    def waits(self) -> bool:
        """Whether a message waits to go."""
        return bool(self._queue)


class ControlLane:
    """Implements ``agent.ports.Exchange``. All but ``arrived`` is the publisher's to call."""

    def __init__(
        self, *, transport: Transport, wake: Callable[[], None], answer_timeout_s: float
    ) -> None:
        self._transport = transport
        self._wake = wake
        self._answer_timeout_s = answer_timeout_s
        self._channels: list[ControlChannel] = []
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._overflowed = False
        self.only: ControlChannel | None = None
        """While there is one, no other channel is opened or sends."""

    def register(
        self, filters: Sequence[str], listener: ExchangeListener, *, on_demand: bool = False
    ) -> ControlChannel:
        """See the port."""
        if not 0 < len(filters) <= MOST_FILTERS:
            raise ValueError(f"{len(filters)} filters: one SUBSCRIBE takes 1 to {MOST_FILTERS}")
        channel = ControlChannel(tuple(filters), listener, self._wake, wanted=not on_demand)
        self._channels.append(channel)
        return channel

    # --- from the transport's thread -----------------------------------------------

    def arrived(self, topic: str, payload: bytes) -> None:
        """A message came in; never blocks, drops it when too many wait."""
        if len(self._arrived) >= MOST_ARRIVED:
            self._overflowed = True
            return
        self._arrived.append((topic, payload))
        self._wake()

    # --- one round -----------------------------------------------------------------

    def deliver(self) -> None:
        """Give the listeners what arrived."""
        if self._overflowed:
            self._overflowed = False
            LOG.warning("messages from the broker came too fast; some were dropped")
        while self._arrived:
            topic, payload = self._arrived.popleft()
            for channel in self._channels:
                if channel.state is _State.OPEN and any(
                    filter_matches(one, topic) for one in channel.filters
                ):
                    _tell(channel.listener.received, topic, payload)

    def open_channels(self, now_s: float) -> float | None:
        """While connected: subscribe for the next one; seconds until the next look."""
        asked = self._asked
        if asked is not None:
            left_s = asked.asked_s + self._answer_timeout_s - now_s
            if left_s > 0:
                return left_s
            asked.refuse("the broker does not answer the subscription")
        return self._open_next(now_s)

    def subscribed(self, topic_filter: str, refusal: str | None) -> None:
        """The broker's answer to one filter."""
        channel = self._asked
        if channel is None or topic_filter not in channel.unanswered:
            return
        channel.unanswered.discard(topic_filter)
        if refusal is not None:
            channel.refuse(f"the broker refuses the subscription to {topic_filter}: {refusal}")
        elif not channel.unanswered:
            channel.open()
            _tell(channel.listener.connected)

    def disconnected(self, guilty: ControlChannel | None, now_s: float) -> None:
        """The connection ended, for what ``guilty`` asked if it is one."""
        self._arrived.clear()
        for channel in self._channels:
            was_open = channel.shut()
            if channel is guilty:
                channel.strikes += 1
                if channel.strikes >= STRIKES:
                    channel.left_out_until_s = now_s + LEFT_OUT_S
                    channel.complain(_LEFT_OUT)
            elif was_open:
                channel.strikes = 0
            if was_open:
                _tell(channel.listener.disconnected)

    def suspect(
        self, channel: ControlChannel | None, sent_s: float, now_s: float
    ) -> ControlChannel | None:
        """The channel for whose subscription or message the broker may have closed.

        ``channel`` and ``sent_s`` are of the oldest publish in flight: the broker was busy
        with whatever has waited longest.
        """
        asked = self._asked
        if asked is not None and asked.asked_s <= sent_s:
            channel, sent_s = asked, asked.asked_s
        return channel if now_s - sent_s <= _PROMPT_S else None

    def take(self) -> Request | None:
        """The next message to send, of any channel."""
        for channel in self._served:
            request = channel.take()
            if request is not None:
                return request
        return None

    @property
    def waits(self) -> bool:
        """Whether a message waits to go."""
        return any(channel.waits for channel in self._served)

    @property
    def asking(self) -> bool:
        """Whether a subscription is not answered yet."""
        return self._asked is not None

    @property
    def _asked(self) -> ControlChannel | None:
        return next((one for one in self._channels if one.state is _State.ASKED), None)

    @property
    def _served(self) -> list[ControlChannel]:
        return self._channels if self.only is None else [self.only]

    def _open_next(self, now_s: float) -> float | None:
        wait_s: float | None = None
        for channel in self._served:
            if not channel.wanted:
                continue
            if channel.renewed:
                channel.renew()
            if channel.left_out_until_s > now_s:
                channel.complain(_LEFT_OUT)
                left_s = channel.left_out_until_s - now_s
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
            elif channel.state is _State.CLOSED:
                channel.state, channel.asked_s = _State.ASKED, now_s
                channel.unanswered = set(channel.filters)
                self._transport.subscribe(channel.filters)
                return self._answer_timeout_s
        return wait_s


def filter_matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription takes a topic (MQTT 3.1.1, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in {"+", levels[position]}:
            return False
    return len(wanted) == len(levels)


def _tell(call: Callable[..., None], *args: Any) -> None:
    try:
        call(*args)
    except Exception:
        # a defect of one feature must not keep samples from going
        LOG.exception("%s failed", getattr(call, "__qualname__", call))
