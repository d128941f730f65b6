"""Whether the broker can be reached as the claim: clock, name, TCP, TLS, each with its own words.

Looked at before MQTT is tried, since neither client library says which of them failed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from agent.host import system_utc
from agent.kernel_clock import kernel_is_synchronised
from agent.ports import Clock
from agent.provision.claim import Claim
from agent.provision.failures import Cause, ProvisionError
from agent.transport.endpoint import Endpoint
from agent.transport.tls import explain, make_context
from contract import TimeQuality

_VERDICT_S: Final = 1.0
"""In TLS 1.3 the broker judges the claim after the handshake: wait so long for its alert."""

_LOOK_S: Final = 1.0
_DATES_WRONG: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED of openssl/x509_vfy.h."""


def wait_for_clock(
    claim: Claim, *, wait_s: float, clock: Clock, tell: Callable[[str], None]
) -> None:
    """Wait until the system's clock is past the claim certificate's first day.

    Raises:
        ProvisionError: nobody set it in ``wait_s`` seconds.
    """
    until_s = clock.monotonic_s() + wait_s
    told = False
    while (now := system_utc()) < claim.not_before:
        wrong = f"this board's clock is not set: it says {now:%Y-%m-%d %H:%M} UTC"
        if clock.monotonic_s() >= until_s:
            raise ProvisionError(
                Cause.CLOCK_NOT_SET,
                f"{wrong}, and the claim certificate begins on {claim.not_before:%Y-%m-%d}",
                hint="Let chrony set it from NTP or from gpsd, or set it by hand: date --set.",
            )
        if not told:
            tell(f"{wrong}; waiting up to {wait_s:g} s for chrony or gpsd to set it")
            told = True
        clock.sleep_s(_LOOK_S)


def reach(endpoint: Endpoint, claim: Claim, *, timeout_s: float) -> str:
    """Name, TCP, and TLS as the claim; the answer says what was reached.

    Raises:
        ProvisionError: one of them failed; says which and what to do.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        addresses = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise ProvisionError(
            Cause.NO_NETWORK,
            f"the name {endpoint.host!r} cannot be resolved: {text}",
            hint="Is the network up? Try: getent hosts " + endpoint.host,
        ) from error
    try:
        context = make_context(claim.credentials)
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout_s) as connection,
            context.wrap_socket(connection) as tls,
        ):
            tls.settimeout(_VERDICT_S)
            with contextlib.suppress(TimeoutError):
                tls.recv(1)
            version = tls.version()
    except ssl.SSLError as error:
        raise _tls_error(error, claim) from error
    except OSError as error:
        text = error.strerror or str(error) or "no answer"
        raise ProvisionError(
            Cause.NO_NETWORK,
            f"{where} cannot be reached: {text}",
            hint="Is the network up, does the broker run, does a firewall let the port through?",
        ) from error
    return f"{where} ({addresses[0][4][0]}), {version}"


def _tls_error(error: ssl.SSLError, claim: Claim) -> ProvisionError:
    is_synchronised = kernel_is_synchronised()
    quality = TimeQuality.NTP if is_synchronised else TimeQuality.UNSYNCED
    reason = explain(error, claim.credentials.server_name, quality).reason
    if isinstance(error, ssl.SSLCertVerificationError):
        is_clock = error.verify_code in _DATES_WRONG and not is_synchronised
        return ProvisionError(Cause.CLOCK_NOT_SET if is_clock else Cause.BROKER_NOT_TRUSTED, reason)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ProvisionError(
            Cause.CLAIM_REFUSED,
            "the broker ends the connection in the TLS handshake",
            hint="Check that the claim certificate is active, and that the port is MQTT over TLS.",
        )
    return ProvisionError(
        Cause.CLAIM_REFUSED,
        reason.replace("this vehicle's certificate", "the claim certificate"),
        hint="Check that the claim certificate is of this broker, and active.",
    )
