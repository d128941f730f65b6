"""HTTPS connections for files: to the broker's host as the vehicle, to others as anybody.

What they put on the wire is counted, for it is mobile data like any other.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass

from agent.transfer.errors import TransferError
from agent.transport import Credentials, WireMeter


@dataclass(frozen=True, slots=True)
class Broker:
    """How the vehicle finds its broker, and who it is there."""

    host: str
    credentials: Credentials


class MeteredConnection(http.client.HTTPSConnection):
    """TLS for ``server_name``, if the host's certificate has another name; ``end`` ends it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float,
        context: ssl.SSLContext,
        meter: WireMeter,
        server_name: str | None = None,
    ) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._tls = context
        self._server_name = server_name or host
        self._meter = meter
        self._watched: socket.socket | None = None

    def connect(self) -> None:
        """See the library."""
        plain = socket.create_connection((self.host, self.port), self.timeout)
        # the library may close its own once it has the answer's head
        self._watched = plain.dup()
        self._meter.opened(self._watched)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._server_name)
        except BaseException:
            plain.close()
            raise

    def end(self) -> None:
        """Close it, with its last count; idempotent."""
        self.close()
        if self._watched is not None:
            self._meter.closing(self._watched)
            self._watched.close()
            self._watched = None


def vehicle_context(credentials: Credentials) -> ssl.SSLContext:
    """Mutual TLS with the broker's CA and the vehicle's own certificate.

    Raises:
        TransferError: the key cannot be used here.
    """
    if credentials.key_file is None:
        raise TransferError(
            "the key is in a PKCS#11 token, which files cannot be fetched with from this cloud",
            retry=False,
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=credentials.ca_file)
        context.load_cert_chain(
            credentials.certificate_file, credentials.key_file, password=lambda: b""
        )
    except (OSError, ssl.SSLError) as error:
        raise TransferError(
            f"the vehicle's identity cannot be used: {error}", retry=True
        ) from error
    return context
