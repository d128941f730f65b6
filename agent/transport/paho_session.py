"""One connection of paho-mqtt from dial to end; everything of paho happens in its thread.

Other threads only put work into a queue and read ``Reports``; none of them ever waits for
paho, so a session that hangs in the library is abandoned and its successor is built.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt

from agent.errors import IdentityError
from agent.ports import Clock, PublishOutcome, TransportEvents
from agent.transport.reports import Reports
from agent.transport.sessions import CLOSED, DIED, DROPPED, FAREWELL_S, Publish, Session, Subscribe
from agent.transport.tls import Failure
from agent.transport.waker import Waker
from contract.json_codec import MAX_MESSAGE_BYTES

LOG = logging.getLogger("agent.transport")

_LONGEST_WAIT_S: Final = 5.0
"""paho's keep-alive looks at its clock when it is called, so it must be now and then."""

_FAREWELL_LOOK_S: Final = 0.05
_UNAUTHORISED: Final = frozenset({"Not authorized", "Bad user name or password", "Banned"})


class PahoSession:
    """Implements ``sessions.Session``.

    ``dial`` makes the client, gives it to its first argument, and connects it. It gives the
    socket to its second argument before the handshake, in which paho blocks.
    """

    def __init__(
        self,
        events: TransportEvents,
        *,
        number: int,
        clock: Clock,
        dial: Callable[
            [Callable[[mqtt.Client], None], Callable[[ssl.SSLSocket], None]], mqtt.Client
        ],
        explain: Callable[[BaseException], Failure],
        on_end: Callable[[Session], None],
    ) -> None:
        self._clock = clock
        self._dial = dial
        self._explain = explain
        self._on_end = on_end
        self._reports = Reports(events)
        self._shaking: ssl.SSLSocket | None = None
        self._waker = Waker()
        self._queue: deque[Publish | Subscribe] = deque()
        self._farewell: tuple[str, bytes] | None = None
        self._finishing = threading.Event()
        # from here on the thread's own
        self._tokens: dict[int, int] = {}
        self._acknowledged: list[int] = []
        self._filters: dict[int, tuple[str, ...]] = {}
        self._farewell_mid: int | None = None
        self._accepted = False
        self._refusal: str | None = None
        self._sock: Any = None
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{number}", daemon=True)

    # --- from other threads --------------------------------------------------------

    def start(self) -> None:
        """See ``Session``."""
        self._thread.start()

    def hand_over(self, work: Publish | Subscribe) -> None:
        """See ``Session``."""
        if isinstance(work, Publish) and not self._reports.take(work.token):
            return
        self._queue.append(work)
        self._waker.wake()

    def abandon(self) -> None:
        """See ``Session``."""
        self._reports.end(DROPPED)
        self._waker.wake()
        shaking = self._shaking
        if shaking is not None:
            # a handshake that nobody answers would hold thread and port for long; not
            # SSLSocket.shutdown, which takes OpenSSL's state away from under the thread
            with contextlib.suppress(OSError):
                socket.socket.shutdown(shaking, socket.SHUT_RDWR)

    def finish(self, farewell: tuple[str, bytes] | None) -> None:
        """See ``Session``."""
        self._farewell = farewell
        self._finishing.set()
        self._waker.wake()

    def join(self, timeout_s: float) -> None:
        """See ``Session``."""
        self._thread.join(timeout_s)

    # --- the thread ----------------------------------------------------------------

    def _run(self) -> None:
        client: mqtt.Client | None = None
        failure = DIED
        try:
            client = self._dial(self._adopt, self._on_handshake)
            failure = self._loop(client)
        except (IdentityError, OSError, ValueError) as error:
            failure = self._explain(error)
        except Exception as error:
            # a defect in paho or here must end the connection, not the thread without a word
            LOG.exception("the MQTT loop failed")
            failure = Failure(f"internal error: {error}", unauthorised=False)
        finally:
            self._on_end(self)
            self._reports.end(failure)
        if client is not None:
            sock = client.socket()
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()
        self._waker.close()

    def _adopt(self, client: mqtt.Client) -> None:
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket_open

    def _on_handshake(self, sock: ssl.SSLSocket) -> None:
        self._shaking = sock
        if self._reports.ended:
            raise ConnectionAbortedError("dropped by the agent")

    def _on_socket_open(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._shaking = None
        self._sock = sock
        # paho sends CONNECT next; one that was given up meanwhile would push out its successor
        if self._reports.ended:
            raise ConnectionAbortedError("dropped by the agent")

    def _on_connect(
        self, _client: Any, _userdata: Any, _flags: Any, reason_code: Any, _properties: Any
    ) -> None:
        if reason_code.is_failure:
            self._refusal = str(reason_code)
            return
        self._accepted = True
        self._reports.connected()

    def _on_publish(
        self, _client: Any, _userdata: Any, mid: int, _reason_code: Any, _properties: Any
    ) -> None:
        if mid == self._farewell_mid:
            self._farewell_mid = None
        token = self._tokens.pop(mid, None)
        if token is not None:
            self._acknowledged.append(token)

    def _on_subscribe(
        self, _client: Any, _userdata: Any, mid: int, reason_codes: Any, _properties: Any
    ) -> None:
        for topic_filter, code in zip(self._filters.pop(mid, ()), reason_codes, strict=False):
            self._reports.subscribed(topic_filter, str(code) if code.is_failure else None)

    def _on_message(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        self._reports.message(message.topic, bytes(message.payload))

    def _loop(self, client: mqtt.Client) -> Failure:
        sock = self._sock
        if client.socket() is None:
            return self._why_lost(sock)
        wake_fd = self._waker.fd
        poll = select.poll()
        poll.register(wake_fd, select.POLLIN)
        poll.register(sock, select.POLLIN)
        writing = False
        farewell_until_s: float | None = None
        while not self._reports.ended:
            wants_write = sock.unsent or client.want_write()
            if wants_write is not writing:
                writing = wants_write
                poll.modify(sock, select.POLLIN | (select.POLLOUT if writing else 0))
            wait_s = _FAREWELL_LOOK_S if farewell_until_s is not None else _LONGEST_WAIT_S
            ready = {fd for fd, _ in poll.poll(wait_s * 1000)}
            if wake_fd in ready:
                self._waker.answer()
            if ready - {wake_fd} or sock.pending():
                self._read(client, sock)
            if self._refusal is not None:
                return Failure(
                    f"the broker refuses this vehicle: {self._refusal}",
                    unauthorised=self._refusal in _UNAUTHORISED,
                )
            if not self._write(client, sock):
                return self._why_lost(sock)
            if self._finishing.is_set():
                now_s = self._clock.monotonic_s()
                if farewell_until_s is None:
                    farewell_until_s = now_s + FAREWELL_S
                    self._say_farewell(client)
                elif self._all_said() or now_s > farewell_until_s:
                    client.disconnect()
                    client.loop_write()
                    return CLOSED
        return DROPPED

    def _read(self, client: mqtt.Client, sock: Any) -> None:
        # paho reads a bounded number of packets a call, and what OpenSSL has decrypted
        # already never wakes the poll again
        while client.socket() is not None:
            client.loop_read()
            if client.socket() is None or not sock.pending():
                break
        # together, or the publisher would be woken for each and take its turn in between
        acknowledged, self._acknowledged = self._acknowledged, []
        self._reports.acknowledged(acknowledged)

    def _write(self, client: mqtt.Client, sock: Any) -> bool:
        """Send what there is; whether the connection still lives."""
        try:
            sock.flush()
            if self._accepted and self._queue:
                with sock.burst():
                    self._send_queued(client)
        except OSError:
            return False
        if client.socket() is not None and client.want_write():
            client.loop_write()
        return client.socket() is not None and client.loop_misc() == mqtt.MQTT_ERR_SUCCESS

    def _why_lost(self, sock: Any) -> Failure:
        error = getattr(sock, "last_error", None)
        if isinstance(error, ssl.SSLError) or (error is not None and not self._accepted):
            return self._explain(error)
        if not self._accepted:
            return Failure(
                "the broker ended the connection before it accepted the vehicle:"
                " check its certificate, policy and client id there",
                unauthorised=True,
            )
        return Failure("the broker or the network ended the connection", unauthorised=False)

    def _send_queued(self, client: mqtt.Client) -> None:
        while self._queue and not self._reports.ended:
            match self._queue.popleft():
                case Publish() as publish:
                    self._publish(client, publish)
                case Subscribe(filters):
                    self._subscribe(client, filters)

    def _publish(self, client: mqtt.Client, publish: Publish) -> None:
        if len(publish.payload) > MAX_MESSAGE_BYTES:
            self._reports.outcome(publish.token, PublishOutcome.REFUSED)
            return
        try:
            info = client.publish(publish.topic, publish.payload, qos=1, retain=publish.retain)
        except ValueError as error:
            LOG.error("a message cannot be sent: %s", error)  # noqa: TRY400  the text says it all
            self._reports.outcome(publish.token, PublishOutcome.REFUSED)
            return
        # its PUBACK is read by this thread, so it cannot have come yet
        self._tokens[info.mid] = publish.token

    def _subscribe(self, client: mqtt.Client, filters: tuple[str, ...]) -> None:
        try:
            _, mid = client.subscribe([(topic_filter, 1) for topic_filter in filters])
        except ValueError as error:
            for topic_filter in filters:
                self._reports.subscribed(topic_filter, str(error))
            return
        if mid is not None:
            self._filters[mid] = filters

    def _say_farewell(self, client: mqtt.Client) -> None:
        if self._farewell is None or not self._accepted:
            return
        topic, payload = self._farewell
        info = client.publish(topic, payload, qos=1, retain=not topic.startswith("$aws/"))
        self._farewell_mid = info.mid

    def _all_said(self) -> bool:
        return self._farewell_mid is None and not self._reports.in_flight
