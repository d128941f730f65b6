"""A transport that makes a new session, with everything in it, for each connection.

What hung or died in the library goes with its session, and no queue, retry or reconnect of
the library's own lives long enough to act. ``PahoTransport`` and ``CrtTransport`` differ
only in the session that they make.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.ports import PublishOutcome, TransportEvents
from agent.transport.credentials import Credentials
from agent.transport.tls import Failure

FAREWELL_S: Final = 2.0
"""For the farewell and what is in flight to be acknowledged at an orderly end."""

DROPPED: Final = Failure("dropped by the agent", unauthorised=False)
DIED: Final = Failure("the MQTT thread ended", unauthorised=False)
CLOSED: Final = Failure("closed", unauthorised=False)
DIAL_TIMEOUT_S: Final = 30.0
"""Of one step: TCP, a read of TLS, CONNACK. With 5 s each way an answer takes 10 s."""


@dataclass(frozen=True, slots=True)
class Publish:
    """See ``Transport.publish``."""

    token: int
    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class Subscribe:
    """See ``Transport.subscribe``."""

    filters: tuple[str, ...]


class Session(Protocol):
    """One connection, in a thread of its own; no call but ``join`` waits for anything."""

    def start(self) -> None:
        """Begin to dial."""
        ...

    def hand_over(self, work: Publish | Subscribe) -> None:
        """Send it, in the order of the calls."""
        ...

    def abandon(self) -> None:
        """Report the end before this returns; the thread follows when the system lets it."""
        ...

    def finish(self, farewell: tuple[str, bytes] | None) -> None:
        """Say the farewell, wait for what is in flight, disconnect in order."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        ...


class SessionTransport:
    """Implements ``agent.ports.Transport``.

    ``open_session`` is given the receiver of reports, the session's number from 1, the
    credentials to show, and what to call when the session has ended, before the end is
    reported.
    """

    def __init__(
        self,
        open_session: Callable[
            [TransportEvents, int, Credentials, Callable[[Session], None]], Session
        ],
        credentials: Credentials,
    ) -> None:
        self._open_session = open_session
        self._credentials = credentials
        self._events: TransportEvents | None = None
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._opened = 0

    def start(self, events: TransportEvents) -> None:
        """See the port."""
        self._events = events

    def connect(self) -> None:
        """See the port. Dials in a thread of its own: a name lookup cannot be cut short."""
        events = self._events
        if events is None:
            raise RuntimeError("start() comes before connect()")
        with self._lock:
            if self._session is not None:
                return
            self._opened += 1
            session = self._session = self._open_session(
                events, self._opened, self._credentials, self._forget
            )
        session.start()

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """See the port."""
        session = self._session
        if session is not None:
            session.hand_over(Publish(token, topic, payload, retain))
        elif self._events is not None:
            self._events.on_outcome(token, PublishOutcome.CONNECTION_LOST)

    def subscribe(self, filters: Sequence[str]) -> None:
        """See the port."""
        session = self._session
        if session is not None:
            session.hand_over(Subscribe(tuple(filters)))

    def present(self, credentials: Credentials) -> None:
        """See the port."""
        self._credentials = credentials

    def leave(self) -> None:
        """See the port."""
        session = self._session
        if session is not None:
            session.finish(None)

    def wire_bytes(self) -> int | None:
        """See the port. Not known, unless the library's sockets can be asked."""
        return None

    def disconnect(self) -> None:
        """See the port."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.abandon()

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """See the port."""
        session = self._session
        if session is not None:
            session.finish(farewell)
            session.join(FAREWELL_S + 1.0)
        self.disconnect()

    def _forget(self, session: Session) -> None:
        with self._lock:
            if self._session is session:
                self._session = None
