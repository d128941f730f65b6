"""The transport on paho-mqtt 2: one client and one thread for each connection.

Is: a dial, a loop over one socket, and the mapping of PUBACKs to tokens. Is not: a queue,
a retry or a reconnect. paho keeps what is published while it is disconnected and sends
what was in flight again on its own reconnect; so a client lives for one connection only,
is used by its own thread only (which makes OpenSSL's one-thread rule hold too), and with
it goes everything that it might have kept. The session is in :mod:`paho_session`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.host import system_error_s
from agent.ports import Clock, PublishOutcome, TransportEvents
from agent.transport.endpoint import Endpoint, Will
from agent.transport.paho_session import FAREWELL_S, Publish, Session, Subscribe
from agent.transport.tls import Credentials, Failure, check_credentials, explain, make_context
from agent.transport.wire import WireMeter

_DIAL_TIMEOUT_S: Final = 10.0


class PahoTransport:
    """Implements ``agent.ports.Transport``. ``make_will`` is asked at each dial."""

    def __init__(
        self,
        *,
        clock: Clock,
        endpoint: Endpoint,
        credentials: Credentials,
        make_will: Callable[[], Will],
    ) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._credentials = credentials
        self._make_will = make_will
        self._events: TransportEvents | None = None
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._dialled = 0
        self._meter = WireMeter()

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
            self._dialled += 1
            session = self._session = Session(
                events,
                number=self._dialled,
                clock=self._clock,
                dial=self._dial,
                explain=self._explain,
                on_end=self._forget,
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

    def disconnect(self) -> None:
        """See the port. ``on_disconnected`` is enqueued before this returns."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.abandon()

    def wire_bytes(self) -> int | None:
        """See the port. From the kernel's count of each socket, failed dials included."""
        return self._meter.total()

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """See the port."""
        session = self._session
        if session is not None:
            session.finish(farewell)
            session.join(FAREWELL_S + 1.0)
        self.disconnect()

    # --- for the session's thread --------------------------------------------------

    def _dial(self, adopt: Callable[[mqtt.Client], None]) -> mqtt.Client:
        endpoint = self._endpoint
        check_credentials(self._credentials, warn=self._dialled == 1)
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            protocol=mqtt.MQTTv311,
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # no limit: the window is the publisher's
        client.connect_timeout = _DIAL_TIMEOUT_S
        # read anew at each dial, so a certificate that was replaced is used from then on
        client.tls_set_context(make_context(self._credentials, self._meter))
        will = self._make_will()
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        adopt(client)
        client.connect(endpoint.host, endpoint.port, keepalive=endpoint.keep_alive_s)
        return client

    def _explain(self, error: BaseException) -> Failure:
        return explain(
            error,
            self._credentials.server_name,
            self._clock.quality(),
            system_error_s(self._clock),
        )

    def _forget(self, session: Session) -> None:
        with self._lock:
            if self._session is session:
                self._session = None
