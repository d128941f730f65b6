"""Mutual TLS: the context, and what went wrong in words that say what to do next.

Also right after a handshake that seemed to succeed: in TLS 1.3 the broker judges the
vehicle's certificate after the client is done, so its refusal is read as an alert with
the first bytes (RFC 8446, section 4.4.2.4). ``BurstSocket`` remembers it.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import IdentityError
from agent.transport.credentials import Credentials
from agent.transport.sockets import BurstSocket
from agent.transport.wire import WireMeter
from contract import TimeQuality

LOG = logging.getLogger("agent.transport")

CLOCK_ERROR_S: Final = 300.0
"""A system clock that is further off is the likelier cause than the broker's certificate."""

_X509_NOT_YET_VALID: Final = 9
_X509_EXPIRED: Final = 10
_X509_WRONG_NAME: Final = frozenset({62, 63, 64})
"""openssl/x509_vfy.h: host name, e-mail and address mismatch."""

_ALERTS: Final = {
    "CERTIFICATE_EXPIRED": (
        "the broker says that this vehicle's certificate has expired",
        "issue a new one and replace broker.certificate_file and broker.key_file",
    ),
    "UNKNOWN_CA": (
        "the broker does not know the CA that signed this vehicle's certificate",
        "use a certificate that was issued for this broker",
    ),
    "CERTIFICATE_UNKNOWN": (
        "the broker does not accept this vehicle's certificate",
        "check that it is registered and active there",
    ),
    "BAD_CERTIFICATE": (
        "the broker does not accept this vehicle's certificate",
        "check that it is registered and active there",
    ),
    "CERTIFICATE_REVOKED": (
        "the broker says that this vehicle's certificate was revoked",
        "issue a new one",
    ),
    "CERTIFICATE_REQUIRED": (
        "the broker asks for a certificate and got none",
        "check broker.certificate_file",
    ),
    "ACCESS_DENIED": (
        "the broker denies access to this vehicle's certificate",
        "check its policy or access list",
    ),
    "PROTOCOL_VERSION": (
        "the broker does not speak TLS 1.2 or later",
        "enable TLS 1.2 or 1.3 there; older versions are not safe",
    ),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no connection; ``unauthorised`` when trying again soon cannot help."""

    reason: str
    unauthorised: bool


class _NamedContext(ssl.SSLContext):
    """Checks the broker's certificate against ``server_name``, whatever host is dialled."""

    server_name = ""
    meter: WireMeter | None = None
    on_socket: Callable[[ssl.SSLSocket], None] | None = None

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        kwargs["server_hostname"] = self.server_name
        wrapped = super().wrap_socket(sock, *args, **kwargs)
        if self.meter is not None and isinstance(wrapped, BurstSocket):
            wrapped.meter = self.meter
            self.meter.opened(wrapped)
        if self.on_socket is not None:
            self.on_socket(wrapped)
        return wrapped


def make_context(
    credentials: Credentials,
    meter: WireMeter | None = None,
    on_socket: Callable[[ssl.SSLSocket], None] | None = None,
) -> ssl.SSLContext:
    """A client context for mutual TLS 1.2 or later that checks chain and name.

    ``meter`` counts what its sockets put on the wire; ``on_socket`` is given each of them
    before its handshake, which may block for long. Without a ``key_file`` no certificate
    is shown.

    Raises:
        IdentityError: a file cannot be used.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = credentials.server_name
    context.meter = meter
    context.on_socket = on_socket
    context.sslsocket_class = BurstSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=str(credentials.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(
            f"broker.ca_file: {credentials.ca_file} cannot be used: {error}",
            hint="It must hold the PEM certificate of the CA that signed the broker's.",
        ) from error
    if credentials.pkcs11 is not None:
        raise IdentityError(
            "broker.pkcs11: this transport cannot use a key in a PKCS#11 token",
            hint='Set broker.transport = "awscrt", or give broker.key_file instead.',
        )
    if credentials.key_file is None:
        return context
    try:
        # an empty password keeps OpenSSL from asking one at the terminal
        context.load_cert_chain(
            certfile=str(credentials.certificate_file),
            keyfile=str(credentials.key_file),
            password=lambda: b"",
        )
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(
            f"broker.certificate_file and broker.key_file cannot be used together: {error}",
            hint="Both must be PEM, the key not encrypted and the one of this certificate.",
        ) from error
    return context


def explain(
    error: BaseException,
    server_name: str,
    quality: TimeQuality,
    clock_error_s: float | None = None,
) -> Failure:
    """What an error of the dial, the handshake or the link means.

    ``clock_error_s`` is how far the system's clock, by which TLS goes, is off the time
    that the agent trusts; ``None`` where it trusts none.
    """
    if isinstance(error, IdentityError):
        return Failure(f"{error.message}. {error.hint}", unauthorised=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error, server_name, quality, clock_error_s)
    if isinstance(error, ssl.SSLError):
        name = (error.reason or "").upper()
        for alert, (reason, hint) in _ALERTS.items():
            if alert in name:
                return Failure(f"{reason}: {hint}", unauthorised=True)
        return Failure(f"TLS failed ({error.reason or error})", unauthorised=False)
    if isinstance(error, socket.gaierror):
        return Failure(
            f"the broker's name cannot be resolved ({error.strerror})", unauthorised=False
        )
    if isinstance(error, ConnectionRefusedError):
        return Failure("nothing listens on the broker's port", unauthorised=False)
    if isinstance(error, TimeoutError):
        return Failure("the broker does not answer", unauthorised=False)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Failure(text or type(error).__name__, unauthorised=False)


def _explain_verification(
    error: ssl.SSLCertVerificationError,
    server_name: str,
    quality: TimeQuality,
    clock_error_s: float | None,
) -> Failure:
    code = error.verify_code
    if code in (_X509_EXPIRED, _X509_NOT_YET_VALID):
        if quality is TimeQuality.UNSYNCED:
            return Failure(
                "this board's clock is not set, so the broker's certificate cannot be checked:"
                " let chrony set it from NTP or from gpsd, or set it by hand",
                unauthorised=False,
            )
        if clock_error_s is not None and abs(clock_error_s) > CLOCK_ERROR_S:
            days, direction = (
                abs(clock_error_s) / 86_400,
                "ahead" if clock_error_s > 0 else "behind",
            )
            return Failure(
                f"this board's system clock is {days:.1f} days {direction} ({quality.value} says"
                " so), so the broker's certificate cannot be checked: let chrony set it from NTP"
                " or from gpsd, or set it by hand",
                unauthorised=False,
            )
        what = "has expired" if code == _X509_EXPIRED else "is not valid yet"
        return Failure(f"the broker's certificate {what}: renew it there", unauthorised=True)
    if code in _X509_WRONG_NAME:
        return Failure(
            f"the broker's certificate is for another name than {server_name!r}:"
            " correct broker.host, or set broker.server_name to the name in it",
            unauthorised=True,
        )
    return Failure(
        "the broker's certificate was not signed by the CA in broker.ca_file"
        f" ({error.verify_message}): use the CA of this broker",
        unauthorised=True,
    )
