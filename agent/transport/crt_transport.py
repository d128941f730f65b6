"""The transport on awscrt, MQTT 5: one client, event loop and thread for each connection.

awscrt's client reconnects by itself and may never come back after a suspend; so each
connection has a client and an event loop of its own, whose first failure ends both. It
keeps no operation over a disconnect, and its throttle is off: the window and the token
bucket are the publisher's. The connection is in :mod:`crt_session`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from awscrt import io, mqtt5

from agent.host import system_error_s
from agent.ports import Clock, TransportEvents
from agent.transport.credentials import Credentials, check_credentials
from agent.transport.crt_session import STOP_S, CrtSession
from agent.transport.crt_tls import CrtTls
from agent.transport.endpoint import Endpoint, Will
from agent.transport.sessions import DIAL_TIMEOUT_S, Session, SessionTransport
from agent.transport.tls import Failure, explain
from agent.transport.tls_probe import probe
from contract.json_codec import MAX_MESSAGE_BYTES

_NEVER_MS: Final = 3_600_000
"""A reconnect that waits so long never happens: the client is stopped before."""

_ACK_TIMEOUT_S: Final = 300
"""Of the library, far beyond the publisher's own, which knows how slow the link is."""

_MOST_PING_WAIT_S: Final = 30
_HEADER_BYTES: Final = 1_024
"""Topic and properties of an incoming message beside its payload."""


class CrtTransport(SessionTransport):
    """``make_will`` is asked at each dial."""

    def __init__(
        self,
        *,
        clock: Clock,
        endpoint: Endpoint,
        credentials: Credentials,
        make_will: Callable[[], Will],
    ) -> None:
        super().__init__(self._open, credentials)
        self._clock = clock
        self._endpoint = endpoint
        self._make_will = make_will
        self._tls = CrtTls()
        self._before_stopped: threading.Event | None = None

    def _open(
        self,
        events: TransportEvents,
        number: int,
        credentials: Credentials,
        on_end: Callable[[Session], None],
    ) -> CrtSession:
        before = self._before_stopped
        session = CrtSession(
            events,
            number=number,
            clock=self._clock,
            make_client=lambda hooks: self._make_client(
                credentials, hooks, before, warn=number == 1
            ),
            explain=lambda error: self._explain(error, credentials),
            diagnose=lambda: self._diagnose(credentials),
            on_end=on_end,
        )
        self._before_stopped = session.stopped
        return session

    # --- for the session's thread --------------------------------------------------

    def _make_client(
        self,
        credentials: Credentials,
        hooks: CrtSession,
        before: threading.Event | None,
        *,
        warn: bool,
    ) -> tuple[mqtt5.Client, io.EventLoopGroup]:
        if before is not None:
            # stopping takes effect later; one that connected after this would push it out
            before.wait(STOP_S)
        check_credentials(credentials, warn=warn)
        # read anew at each dial, so a certificate that was replaced is used from then on
        tls = self._tls.context(credentials)
        endpoint, will = self._endpoint, self._make_will()
        sockets = io.SocketOptions()
        sockets.connect_timeout_ms = int(DIAL_TIMEOUT_S * 1000)
        ping_wait_s = min(_MOST_PING_WAIT_S, endpoint.keep_alive_s / 2)
        # last, since awscrt cannot free it while an exception is on its way
        loop = io.EventLoopGroup(1)
        client = mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=endpoint.host,
                port=endpoint.port,
                bootstrap=io.ClientBootstrap(loop, io.DefaultHostResolver(loop)),
                socket_options=sockets,
                tls_ctx=tls,
                connect_options=mqtt5.ConnectPacket(
                    client_id=endpoint.client_id,
                    keep_alive_interval_sec=endpoint.keep_alive_s,
                    maximum_packet_size=MAX_MESSAGE_BYTES + _HEADER_BYTES,
                    will=mqtt5.PublishPacket(
                        topic=will.topic,
                        payload=will.payload,
                        qos=mqtt5.QoS.AT_LEAST_ONCE,
                        retain=will.retain,
                    ),
                ),
                session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN,
                offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
                extended_validation_and_flow_control_options=mqtt5.ExtendedValidationAndFlowControlOptions.NONE,
                retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.NONE,
                min_reconnect_delay_ms=_NEVER_MS,
                max_reconnect_delay_ms=_NEVER_MS,
                ping_timeout_ms=int(ping_wait_s * 1000),
                connack_timeout_ms=int(DIAL_TIMEOUT_S * 1000),
                ack_timeout_sec=_ACK_TIMEOUT_S,
                on_publish_callback_fn=hooks.on_message,
                on_lifecycle_event_connection_success_fn=hooks.on_accepted,
                on_lifecycle_event_connection_failure_fn=hooks.on_failure,
                on_lifecycle_event_disconnection_fn=hooks.on_disconnection,
                on_lifecycle_event_stopped_fn=hooks.on_stopped,
                disable_metrics=True,
            )
        )
        return client, loop

    def _explain(self, error: BaseException, credentials: Credentials) -> Failure:
        return explain(
            error,
            credentials.server_name,
            self._clock.quality(),
            system_error_s(self._clock),
        )

    def _diagnose(self, credentials: Credentials) -> Failure | None:
        error = probe(self._endpoint, credentials)
        return None if error is None else self._explain(error, credentials)
