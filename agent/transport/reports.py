"""What one connection reports: each outcome once, the end once, nothing after the end.

Libraries call back late, twice or never when a connection dies under them. Here is what
the port promises instead; every transport makes one of these for each connection.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from agent.ports import PublishOutcome, TransportEvents
from agent.transport.tls import Failure
from contract.json_codec import MAX_MESSAGE_BYTES

LOG = logging.getLogger("agent.transport")


class Reports:
    """One connection's; thread-safe.

    The receiver is called under the lock, which keeps the order: it only enqueues.
    """

    def __init__(self, events: TransportEvents) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the end was reported; nothing is reported any more."""
        return self._ended

    @property
    def in_flight(self) -> int:
        """How many tokens have no outcome yet."""
        return len(self._open)

    def take(self, token: int) -> bool:
        """A message was handed over; False when the connection has ended, which is reported."""
        with self._lock:
            if not self._ended:
                self._open.add(token)
                return True
            self._events.on_outcome(token, PublishOutcome.CONNECTION_LOST)
            return False

    def outcome(self, token: int, outcome: PublishOutcome) -> None:
        """How a message ended; a second outcome for it goes nowhere."""
        with self._lock:
            if token in self._open:
                self._open.remove(token)
                self._events.on_outcome(token, outcome)

    def acknowledged(self, tokens: Iterable[int]) -> None:
        """The broker has these."""
        with self._lock:
            for token in tokens:
                if token in self._open:
                    self._open.remove(token)
                    self._events.on_outcome(token, PublishOutcome.ACKNOWLEDGED)

    def connected(self) -> None:
        """CONNACK accepted the session."""
        with self._lock:
            if not self._ended:
                self._events.on_connected()

    def subscribed(self, topic_filter: str, refusal: str | None) -> None:
        """The broker's answer to one filter."""
        with self._lock:
            if not self._ended:
                self._events.on_subscribed(topic_filter, refusal)

    def message(self, topic: str, payload: bytes) -> None:
        """Something came in; larger than AWS IoT Core allows is dropped and said."""
        if len(payload) > MAX_MESSAGE_BYTES:
            LOG.warning(
                "dropped an incoming message of %d bytes on %s: at most %d are taken",
                len(payload),
                topic,
                MAX_MESSAGE_BYTES,
            )
            return
        with self._lock:
            if not self._ended:
                self._events.on_message(topic, payload)

    def end(self, failure: Failure) -> None:
        """The connection ended, or could not be made; what was in flight is void."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            tokens, self._open = sorted(self._open), set()
            for token in tokens:
                self._events.on_outcome(token, PublishOutcome.CONNECTION_LOST)
            self._events.on_disconnected(failure.reason, unauthorised=failure.unauthorised)
