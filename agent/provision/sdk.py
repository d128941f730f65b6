"""The provisioning service through AWS's own identity client (awsiotsdk).

Its MQTT is 3.1.1 here: AWS IoT Core speaks both versions, and the one-machine cloud this one.
The client subscribes to both answers of a request before it publishes the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Final

from awscrt import io, mqtt
from awscrt.exceptions import AwsCrtError
from awscrt.mqtt_request_response import ClientOptions
from awsiot import V2ServiceException
from awsiot.iotidentity import (
    CreateCertificateFromCsrRequest,
    IotIdentityClientV2,
    RegisterThingRequest,
)

from agent.provision.failures import Cause, ProvisionError
from agent.provision.service import (
    Issued,
    issued,
    may_not,
    no_answer,
    registered_name,
    rejection,
)
from agent.transport import Credentials
from agent.transport.crt_tls import CrtTls
from agent.transport.endpoint import Endpoint
from contract.provisioning import CREATE_FROM_CSR, ProvisioningTopics

_SUBSCRIPTIONS: Final = 4
"""Accepted and rejected, of two requests."""

_STOP_S: Final = 3.0
_NEVER_S: Final = 3_600
"""A reconnect that waits so long never happens: the attempt ends with its connection."""

_PING_WAIT_S: Final = 10
_CONNECT_REFUSED: Final = ("PROTOCOL_ERROR", "UNEXPECTED_HANGUP", "SOCKET_CLOSED")
"""How awscrt calls a CONNACK that refuses, or the broker's hanging up in place of one."""


class SdkService:
    """Implements ``service.ProvisioningService``; the constructor connects.

    Raises:
        ProvisionError: the broker does not answer, or refuses the claim certificate.
        IdentityError: the claim's files cannot be used.
    """

    def __init__(self, endpoint: Endpoint, credentials: Credentials, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lost: Future[Any] = Future()
        tls = CrtTls().context(credentials)
        sockets = io.SocketOptions()
        sockets.connect_timeout_ms = int(timeout_s * 1000)
        self._loop = io.EventLoopGroup(1)
        bootstrap = io.ClientBootstrap(self._loop, io.DefaultHostResolver(self._loop))
        self._connection: Any = mqtt.Connection(
            mqtt.Client(bootstrap, tls),
            host_name=endpoint.host,
            port=endpoint.port,
            client_id=endpoint.client_id,
            clean_session=True,
            keep_alive_secs=endpoint.keep_alive_s,
            ping_timeout_ms=min(_PING_WAIT_S, endpoint.keep_alive_s // 2) * 1000,
            reconnect_min_timeout_secs=_NEVER_S,
            reconnect_max_timeout_secs=_NEVER_S,
            socket_options=sockets,
            on_connection_interrupted=self._on_interrupted,
            disable_metrics=True,
        )
        try:
            self._wait(self._connection.connect(), "CONNECT", "")
        except ProvisionError:
            self.close()
            raise
        self._identity = IotIdentityClientV2(
            self._connection,
            ClientOptions(
                max_request_response_subscriptions=_SUBSCRIPTIONS,
                max_streaming_subscriptions=0,
                operation_timeout_in_seconds=max(1, int(timeout_s)),
            ),
        )

    def create_from_csr(self, signing_request: str) -> Issued:
        """See the port."""
        request = CreateCertificateFromCsrRequest(certificate_signing_request=signing_request)
        answer = self._wait(
            self._identity.create_certificate_from_csr(request),
            "the request for a certificate",
            CREATE_FROM_CSR,
        )
        return issued(
            answer.certificate_id, answer.certificate_pem, answer.certificate_ownership_token
        )

    def register(self, template: str, token: str, parameters: Mapping[str, str]) -> str:
        """See the port."""
        request = RegisterThingRequest(
            template_name=template, certificate_ownership_token=token, parameters=dict(parameters)
        )
        answer = self._wait(
            self._identity.register_thing(request),
            "the registration",
            ProvisioningTopics(template).register,
        )
        return registered_name(answer.thing_name)

    def close(self) -> None:
        """See the port."""
        wait({self._connection.disconnect()}, _STOP_S)

    def _on_interrupted(self, connection: Any, error: AwsCrtError, **_: Any) -> None:
        del connection
        if not self._lost.done():
            self._lost.set_result(error)

    def _wait(self, future: Future[Any], what: str, topic: str) -> Any:
        done, _ = wait({future, self._lost}, self._timeout_s, FIRST_COMPLETED)
        if future in done:
            error = future.exception()
            if error is None:
                return future.result()
            raise self._error(error, what, topic) from error
        if self._lost in done:
            raise ProvisionError(
                Cause.NO_ANSWER,
                f"the broker or the network ended the connection during {what}",
                hint="If it does so each time, see the broker's log: the claim's policy may not"
                " allow it.",
            )
        raise no_answer(what, self._timeout_s)

    def _error(self, error: BaseException, what: str, topic: str) -> ProvisionError:
        if isinstance(error, V2ServiceException):
            told = error.modeled_error
            if told is not None:
                return rejection(what, told.status_code, told.error_code, told.error_message)
            error = error.inner_error or error
        name = error.name if isinstance(error, AwsCrtError) else ""
        if "TIMEOUT" in name:
            return no_answer(what, self._timeout_s)
        if "SUBSCRIBE" in name:
            return may_not(topic)
        if not topic and any(part in name for part in _CONNECT_REFUSED):
            return ProvisionError(
                Cause.CLAIM_REFUSED,
                f"the broker refuses the claim certificate ({error})",
                hint="Check that it is active: milepost-cloud fleet claim list.",
            )
        if name:
            return ProvisionError(Cause.NO_ANSWER, f"{what} failed: {error}")
        return ProvisionError(
            Cause.BAD_ANSWER,
            f"the answer to {what} cannot be read: {error}",
            hint="Look into the provisioning service's log.",
        )
