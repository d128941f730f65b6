"""The transport on paho-mqtt 2: one client and one thread for each connection.

Is: a dial, a loop over one socket, and the mapping of PUBACKs to tokens. Is not: a queue,
a retry or a reconnect. paho keeps what is published while it is disconnected and sends
what was in flight again on its own reconnect; so a client lives for one connection only,
is used by its own thread only (which makes OpenSSL's one-thread rule hold too), and with
it goes everything that it might have kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.errors import IdentityError
from agent.host import system_error_s
from agent.ports import Clock, PublishOutcome, TransportEvents
from agent.transport.tls import Credentials, Failure, check_credentials, explain, make_context
from contract.json_codec import MAX_MESSAGE_BYTES

LOG = logging.getLogger("agent.transport")

_DIAL_TIMEOUT_S: Final = 10.0
_FAREWELL_S: Final = 2.0
_LONGEST_WAIT_S: Final = 5.0
"""paho's keep-alive looks at its clock when it is called, so it must be now and then."""

_UNAUTHORISED: Final = frozenset({"Not authorized", "Bad user name or password", "Banned"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to dial and as whom."""

    host: str
    port: int
    client_id: str
    keep_alive_s: int


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection ends without a word."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class _Publish:
    token: int
    topic: str
    payload: bytes
    retain: bool


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
        self._session: _Session | None = None
        self._dialled = 0

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
            session = self._session = _Session(self, events, self._dialled)
        session.thread.start()

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """See the port."""
        with self._lock:
            session = self._session
            if session is not None:
                session.enqueue(_Publish(token, topic, payload, retain))
                return
        if self._events is not None:
            self._events.on_outcome(token, PublishOutcome.CONNECTION_LOST)

    def disconnect(self) -> None:
        """See the port. ``on_disconnected`` is enqueued before this returns."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.abandon()

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """See the port."""
        with self._lock:
            session = self._session
        if session is not None:
            session.finish(farewell)
            session.thread.join(_FAREWELL_S + 1.0)
        self.disconnect()

    # --- for the session's thread --------------------------------------------------

    def _dial(self, client_of: Callable[[mqtt.Client], None]) -> mqtt.Client:
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
        client.tls_set_context(make_context(self._credentials))
        will = self._make_will()
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client_of(client)
        client.connect(endpoint.host, endpoint.port, keepalive=endpoint.keep_alive_s)
        return client

    def _explain(self, error: BaseException) -> Failure:
        return explain(
            error,
            self._credentials.server_name,
            self._clock.quality(),
            system_error_s(self._clock),
        )

    def _forget(self, session: _Session) -> None:
        with self._lock:
            if self._session is session:
                self._session = None


class _Session:
    """One connection from dial to end. Everything of paho happens in ``thread``."""

    def __init__(self, transport: PahoTransport, events: TransportEvents, number: int) -> None:
        self._transport = transport
        self._events = events
        self._lock = threading.Lock()
        self._ended = False
        self._queue: deque[_Publish] = deque()
        self._tokens: dict[int, int] = {}
        self._farewell: tuple[str, bytes] | None = None
        self._finishing = threading.Event()
        self._accepted = False
        self._refusal: str | None = None
        self._sock: Any = None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.thread = threading.Thread(target=self._run, name=f"mqtt-{number}", daemon=True)

    # --- from other threads --------------------------------------------------------

    def enqueue(self, publish: _Publish) -> None:
        with self._lock:
            if not self._ended:
                self._queue.append(publish)
                self._wake()
                return
        self._events.on_outcome(publish.token, PublishOutcome.CONNECTION_LOST)

    def abandon(self) -> None:
        """Report the end now; the thread follows when the system lets it."""
        self._end(Failure("dropped by the agent", unauthorised=False))

    def finish(self, farewell: tuple[str, bytes] | None) -> None:
        with self._lock:
            self._farewell = farewell
            self._finishing.set()
            if not self._ended:
                self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _end(self, failure: Failure) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            tokens = [*self._tokens.values(), *(publish.token for publish in self._queue)]
            self._tokens.clear()
            self._queue.clear()
            self._wake()
        for token in tokens:
            self._events.on_outcome(token, PublishOutcome.CONNECTION_LOST)
        self._events.on_disconnected(failure.reason, unauthorised=failure.unauthorised)

    # --- the thread ----------------------------------------------------------------

    def _run(self) -> None:
        client: mqtt.Client | None = None
        try:
            client = self._transport._dial(self._adopt)  # noqa: SLF001  one unit in two classes
            failure = self._loop(client)
        except (IdentityError, OSError, ValueError) as error:
            failure = self._transport._explain(error)  # noqa: SLF001  as above
        except Exception as error:
            # a defect in paho or here must end the connection, not the thread without a word
            LOG.exception("the MQTT loop failed")
            failure = Failure(f"internal error: {error}", unauthorised=False)
        self._transport._forget(self)  # noqa: SLF001  as above
        self._end(failure)
        if client is not None:
            sock = client.socket()
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()
        with self._lock:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _adopt(self, client: mqtt.Client) -> None:
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open

    def _on_socket_open(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._sock = sock
        # paho sends CONNECT next; one that was given up meanwhile would push out its successor
        if self._ended:
            raise ConnectionAbortedError("dropped by the agent")

    def _on_connect(
        self, _client: Any, _userdata: Any, _flags: Any, reason_code: Any, _properties: Any
    ) -> None:
        if reason_code.is_failure:
            self._refusal = str(reason_code)
            return
        self._accepted = True
        with self._lock:
            if self._ended:
                return
        self._events.on_connected()

    def _on_publish(
        self, _client: Any, _userdata: Any, mid: int, _reason_code: Any, _properties: Any
    ) -> None:
        with self._lock:
            token = self._tokens.pop(mid, None)
        if token is not None:
            self._events.on_outcome(token, PublishOutcome.ACKNOWLEDGED)

    def _loop(self, client: mqtt.Client) -> Failure:
        sock = self._sock
        if client.socket() is None:
            return self._why_lost(sock)
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        poll.register(sock, select.POLLIN)
        writing = False
        farewell_until_s: float | None = None
        while not self._ended:
            wants_write = client.want_write()
            if wants_write is not writing:
                writing = wants_write
                poll.modify(sock, select.POLLIN | (select.POLLOUT if writing else 0))
            wait_s = 0.05 if farewell_until_s is not None else _LONGEST_WAIT_S
            ready = {fd for fd, _ in poll.poll(wait_s * 1000)}
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            if ready - {self._wake_fd} or sock.pending():
                self._read(client, sock)
            if self._refusal is not None:
                return Failure(
                    f"the broker refuses this vehicle: {self._refusal}",
                    unauthorised=self._refusal in _UNAUTHORISED,
                )
            if self._accepted:
                self._publish_queued(client)
            if client.socket() is not None and client.want_write():
                client.loop_write()
            if client.socket() is None or client.loop_misc() != mqtt.MQTT_ERR_SUCCESS:
                return self._why_lost(sock)
            if self._finishing.is_set():
                now_s = self._transport._clock.monotonic_s()  # noqa: SLF001  as above
                if farewell_until_s is None:
                    farewell_until_s = now_s + _FAREWELL_S
                    self._say_farewell(client)
                elif not self._tokens or now_s > farewell_until_s:
                    client.disconnect()
                    client.loop_write()
                    return Failure("closed", unauthorised=False)
        return Failure("dropped by the agent", unauthorised=False)

    def _read(self, client: mqtt.Client, sock: Any) -> None:
        # paho reads a bounded number of packets a call, and what OpenSSL has decrypted
        # already never wakes the poll again
        while client.socket() is not None:
            client.loop_read()
            if client.socket() is None or not sock.pending():
                return

    def _why_lost(self, sock: Any) -> Failure:
        error = getattr(sock, "last_error", None)
        if error is not None:
            return self._transport._explain(error)  # noqa: SLF001  as above
        if not self._accepted:
            return Failure(
                "the broker ended the connection before it accepted the vehicle:"
                " check its certificate, policy and client id there",
                unauthorised=True,
            )
        return Failure("the broker or the network ended the connection", unauthorised=False)

    def _publish_queued(self, client: mqtt.Client) -> None:
        while True:
            with self._lock:
                if not self._queue or self._ended:
                    return
                publish = self._queue.popleft()
                # noted before the PUBACK can come: both happen in this thread
                mid = self._hand_to_paho(client, publish)
                if mid is not None:
                    self._tokens[mid] = publish.token
                    continue
            self._events.on_outcome(publish.token, PublishOutcome.REFUSED)

    def _hand_to_paho(self, client: mqtt.Client, publish: _Publish) -> int | None:
        if len(publish.payload) > MAX_MESSAGE_BYTES:
            return None
        try:
            info = client.publish(publish.topic, publish.payload, qos=1, retain=publish.retain)
        except ValueError as error:
            LOG.error("a message cannot be sent: %s", error)  # noqa: TRY400  the text says it all
            return None
        return int(info.mid)

    def _say_farewell(self, client: mqtt.Client) -> None:
        if self._farewell is None or not self._accepted:
            return
        topic, payload = self._farewell
        info = client.publish(topic, payload, qos=1, retain=not topic.startswith("$aws/"))
        with self._lock:
            self._tokens[info.mid] = -1
