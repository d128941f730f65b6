"""One connection of awscrt from dial to end.

awscrt has a thread of its own (``AwsEventLoop``) on which it calls back, and on which no
call into it may wait. So callbacks only report or enqueue, and a thread of ours makes,
calls, stops and frees the client. A session that hangs in the library is abandoned with
its client and event loop, and its successor has new ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

from awscrt import io, mqtt5

from agent.errors import IdentityError
from agent.ports import Clock, PublishOutcome, TransportEvents
from agent.transport.crt_reasons import (
    FAILED,
    HANDSHAKE,
    failure_of,
    is_invalid,
    outcome_of,
    refused,
    words,
)
from agent.transport.reports import Reports
from agent.transport.sessions import CLOSED, DIED, DROPPED, FAREWELL_S, Publish, Session, Subscribe
from agent.transport.tls import Failure
from contract.json_codec import MAX_MESSAGE_BYTES

LOG = logging.getLogger("agent.transport")

_DIAGNOSE_AFTER_S: Final = 5.0
"""A dial that is so long without an answer is looked into: s2n-tls hides failures so long."""

STOP_S: Final = 2.0
"""Longer than a client takes that works."""

_FREE_S: Final = 5.0


class _Wake:
    """Look again whether the session has ended, or what was said is acknowledged."""


_WAKE: Final = _Wake()


class CrtSession:
    """Implements ``sessions.Session``; ``make_client`` hooks its callbacks up.

    ``diagnose`` looks for the cause of a dial that failed without saying why.
    """

    def __init__(
        self,
        events: TransportEvents,
        *,
        number: int,
        clock: Clock,
        make_client: Callable[[CrtSession], tuple[mqtt5.Client, io.EventLoopGroup]],
        explain: Callable[[BaseException], Failure],
        diagnose: Callable[[], Failure | None],
        on_end: Callable[[Session], None],
    ) -> None:
        self._clock = clock
        self._make_client = make_client
        self._explain = explain
        self._diagnose = diagnose
        self._on_end = on_end
        self._reports = Reports(events)
        self._inbox: SimpleQueue[Publish | Subscribe | Failure | _Wake] = SimpleQueue()
        self._farewell: tuple[str, bytes] | None = None
        self._finishing = threading.Event()
        self._accepted = threading.Event()
        self.stopped = threading.Event()
        """From then on it can no longer connect."""

        self._said: Future[Any] | None = None
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{number}", daemon=True)

    # --- from other threads --------------------------------------------------------

    def start(self) -> None:
        """See ``Session``."""
        self._thread.start()

    def hand_over(self, work: Publish | Subscribe) -> None:
        """See ``Session``."""
        if isinstance(work, Publish) and not self._reports.take(work.token):
            return
        self._inbox.put(work)

    def abandon(self) -> None:
        """See ``Session``."""
        self._reports.end(DROPPED)
        self._inbox.put(_WAKE)

    def finish(self, farewell: tuple[str, bytes] | None) -> None:
        """See ``Session``."""
        self._farewell = farewell
        self._finishing.set()
        self._inbox.put(_WAKE)

    def join(self, timeout_s: float) -> None:
        """See ``Session``."""
        self._thread.join(timeout_s)

    # --- from awscrt's thread: report or enqueue, nothing else -----------------------

    def on_message(self, data: mqtt5.PublishReceivedData) -> None:
        """A PUBLISH came in; it is acknowledged when this returns."""
        packet = data.publish_packet
        self._reports.message(packet.topic, bytes(packet.payload or b""))
        self._wake_if_finishing()

    def on_accepted(self, _data: mqtt5.LifecycleConnectSuccessData) -> None:
        """CONNACK accepted the session."""
        self._accepted.set()
        self._reports.connected()
        self._inbox.put(_WAKE)

    def on_failure(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        """The dial, the handshake or the CONNECT failed."""
        code = data.connack_packet.reason_code if data.connack_packet else None
        if code is not None:
            self._inbox.put(refused("the broker refuses this vehicle", code))
        else:
            self._inbox.put(failure_of(data.exception))

    def on_disconnection(self, data: mqtt5.LifecycleDisconnectData) -> None:
        """The connection ended."""
        if data.disconnect_packet is not None:
            code = data.disconnect_packet.reason_code
            self._inbox.put(refused("the broker ended the connection", code))
        else:
            self._inbox.put(
                Failure("the broker or the network ended the connection", unauthorised=False)
            )

    def on_stopped(self, _data: mqtt5.LifecycleStoppedData) -> None:
        """The client is idle and may be freed."""
        self.stopped.set()

    def _on_published(self, token: int, future: Future[mqtt5.PublishCompletionData]) -> None:
        error = future.exception()
        if error is not None:
            if is_invalid(error):
                self._reports.outcome(token, PublishOutcome.REFUSED)
            elif "TIMEOUT" in str(error):
                self._inbox.put(failure_of(error))
            return  # else the connection has ended, which is reported for all of them
        code = future.result().puback.reason_code
        outcome = outcome_of(code)
        if outcome is not None:
            self._reports.outcome(token, outcome)
        else:
            self._inbox.put(refused("the broker does not take a message now", code))
        self._wake_if_finishing()

    def _on_subscribed(self, filters: tuple[str, ...], future: Future[mqtt5.SubackPacket]) -> None:
        if future.exception() is not None:
            return
        for topic_filter, code in zip(filters, future.result().reason_codes, strict=False):
            self._reports.subscribed(topic_filter, words(code) if code >= FAILED else None)

    def _wake_if_finishing(self) -> None:
        if self._finishing.is_set():
            self._inbox.put(_WAKE)

    # --- the thread ----------------------------------------------------------------

    def _run(self) -> None:
        client: mqtt5.Client | None = None
        loop: io.EventLoopGroup | None = None
        failure = DIED
        try:
            client, loop = self._make_client(self)
            if not self._reports.ended:  # it was given up while its files or token were read
                client.start()
            failure = self._go(client)
            if failure is CLOSED:
                self._stop(client, mqtt5.DisconnectPacket())
        except (IdentityError, OSError) as error:
            failure = self._explain(error)
        except Exception as error:
            # a defect in awscrt or here must end the connection, not the thread without a word
            LOG.exception("the MQTT session failed")
            failure = Failure(f"internal error: {error}", unauthorised=False)
        finally:
            self._on_end(self)
            self._reports.end(failure)
        if client is not None and loop is not None:
            if failure is not CLOSED:
                self._stop(client, None)
            freed = loop.shutdown_event
            del client, loop
            freed.wait(_FREE_S)
        self.stopped.set()

    def _stop(self, client: mqtt5.Client, farewell: mqtt5.DisconnectPacket | None) -> None:
        client.stop(farewell)
        self.stopped.wait(STOP_S)

    def _go(self, client: mqtt5.Client) -> Failure:
        diagnose_at_s: float | None = self._clock.monotonic_s() + _DIAGNOSE_AFTER_S
        farewell_until_s: float | None = None
        while not self._reports.ended:
            until_s = farewell_until_s if farewell_until_s is not None else diagnose_at_s
            item = self._next(until_s)
            now_s = self._clock.monotonic_s()
            if isinstance(item, Failure):
                return self._better(item)
            if isinstance(item, Publish):
                self._publish(client, item)
            elif isinstance(item, Subscribe):
                self._subscribe(client, item.filters)
            if self._accepted.is_set():
                diagnose_at_s = None
            elif diagnose_at_s is not None and now_s >= diagnose_at_s:
                diagnose_at_s = None
                found = self._diagnose()
                if found is not None:
                    return found
            if self._finishing.is_set():
                if farewell_until_s is None:
                    farewell_until_s = now_s + FAREWELL_S
                    self._say_farewell(client)
                if self._all_said() or now_s >= farewell_until_s:
                    return CLOSED
        return DROPPED

    def _next(self, until_s: float | None) -> Publish | Subscribe | Failure | _Wake:
        if until_s is None:
            return self._inbox.get()
        try:
            return self._inbox.get(timeout=max(0.0, until_s - self._clock.monotonic_s()))
        except Empty:
            return _WAKE

    def _better(self, failure: Failure) -> Failure:
        """What lies behind a dial that failed in the handshake, or right after it."""
        if self._accepted.is_set() or failure.unauthorised or failure is not HANDSHAKE:
            return failure
        return self._diagnose() or Failure(
            "the broker ended the connection before it accepted the vehicle:"
            " check its certificate, policy and client id there",
            unauthorised=True,
        )

    def _publish(self, client: mqtt5.Client, publish: Publish) -> None:
        packet = mqtt5.PublishPacket(
            topic=publish.topic,
            payload=publish.payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=publish.retain,
        )
        if len(publish.payload) <= MAX_MESSAGE_BYTES:
            try:
                client.publish(packet).add_done_callback(partial(self._on_published, publish.token))
            except RuntimeError as error:
                LOG.error("a message cannot be sent: %s", error)  # noqa: TRY400  the text says it
            else:
                return
        self._reports.outcome(publish.token, PublishOutcome.REFUSED)

    def _subscribe(self, client: mqtt5.Client, filters: tuple[str, ...]) -> None:
        asked = [mqtt5.Subscription(one, mqtt5.QoS.AT_LEAST_ONCE) for one in filters]
        try:
            future = client.subscribe(mqtt5.SubscribePacket(subscriptions=asked))
        except RuntimeError as error:
            for topic_filter in filters:
                self._reports.subscribed(topic_filter, str(error))
            return
        future.add_done_callback(partial(self._on_subscribed, filters))

    def _say_farewell(self, client: mqtt5.Client) -> None:
        if self._farewell is None or not self._accepted.is_set():
            return
        topic, payload = self._farewell
        self._said = client.publish(
            mqtt5.PublishPacket(
                topic=topic,
                payload=payload,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain=not topic.startswith("$aws/"),
            )
        )
        self._said.add_done_callback(lambda _: self._inbox.put(_WAKE))

    def _all_said(self) -> bool:
        return (self._said is None or self._said.done()) and not self._reports.in_flight
