"""The transport on paho-mqtt 2, MQTT 3.1.1: one client and one thread for each connection.

Is: a dial, a loop over one socket, and the mapping of PUBACKs to tokens. Is not: a queue,
a retry or a reconnect. paho keeps what is published while it is disconnected and sends
what was in flight again on its own reconnect; so a client lives for one connection only,
is used by its own thread only (which makes OpenSSL's one-thread rule hold too), and with
it goes everything that it might have kept. The connection is in :mod:`paho_session`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.host import system_error_s
from agent.ports import Clock, TransportEvents
from agent.transport.credentials import Credentials, check_credentials
from agent.transport.endpoint import Endpoint, Will
from agent.transport.paho_session import PahoSession
from agent.transport.sessions import DIAL_TIMEOUT_S, Session, SessionTransport
from agent.transport.tls import Failure, explain, make_context
from agent.transport.wire import WireMeter


class PahoTransport(SessionTransport):
    """``make_will`` is asked at each dial; ``None`` where there is nothing to be said."""

    def __init__(
        self,
        *,
        clock: Clock,
        endpoint: Endpoint,
        credentials: Credentials,
        make_will: Callable[[], Will | None],
    ) -> None:
        super().__init__(self._open, credentials)
        self._clock = clock
        self._endpoint = endpoint
        self._make_will = make_will
        self._meter = WireMeter()

    def wire_bytes(self) -> int | None:
        """See the port. From the kernel's count of each socket, failed dials included."""
        return self._meter.total()

    def _open(
        self,
        events: TransportEvents,
        number: int,
        credentials: Credentials,
        on_end: Callable[[Session], None],
    ) -> PahoSession:
        return PahoSession(
            events,
            number=number,
            clock=self._clock,
            dial=lambda adopt, on_socket: self._dial(
                credentials, adopt, on_socket, warn=number == 1
            ),
            explain=lambda error: self._explain(error, credentials),
            on_end=on_end,
        )

    # --- for the session's thread --------------------------------------------------

    def _dial(
        self,
        credentials: Credentials,
        adopt: Callable[[mqtt.Client], None],
        on_socket: Callable[[ssl.SSLSocket], None],
        *,
        warn: bool,
    ) -> mqtt.Client:
        endpoint = self._endpoint
        check_credentials(credentials, warn=warn)
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            protocol=mqtt.MQTTv311,
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # no limit: the window is the publisher's
        client.connect_timeout = DIAL_TIMEOUT_S
        # read anew at each dial, so a certificate that was replaced is used from then on
        client.tls_set_context(make_context(credentials, self._meter, on_socket))
        will = self._make_will()
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        adopt(client)
        client.connect(endpoint.host, endpoint.port, keepalive=endpoint.keep_alive_s)
        return client

    def _explain(self, error: BaseException, credentials: Credentials) -> Failure:
        return explain(
            error,
            credentials.server_name,
            self._clock.quality(),
            system_error_s(self._clock),
        )
