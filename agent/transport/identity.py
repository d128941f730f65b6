"""What a vehicle's certificate says of itself, found out before anything is dialled.

The certificate shows itself to itself: a handshake in memory, in which it is its own trust
anchor (X509_V_FLAG_PARTIAL_CHAIN). So OpenSSL judges the pair of key and certificate, its
dates and its purpose, and tells its name, and no other library is needed on the vehicle.
Whether the broker trusts its CA only the broker can say.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from agent.errors import IdentityError
from agent.transport.credentials import Credentials
from agent.transport.tls import make_context

_NO_CHECK_TIME: Final = 0x20_0000
"""X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h, for which the module ssl has no name."""

_ROUNDS: Final = 8
"""Flights of a TLS handshake, with some to spare."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says; ``name`` is its common name, ``None`` where it has none."""

    name: str | None
    not_before: datetime
    not_after: datetime


def certificate_name(credentials: Credentials) -> str | None:
    """The common name in ``certificate_file``; None where it has none.

    None also where the key is in a token, which only the other transport can use.

    Raises:
        IdentityError: key and certificate do not belong together, or the certificate has
            expired, is not valid yet or is not made for a client.
    """
    if credentials.pkcs11 is not None:
        return None
    return _common_name(_shown(credentials))


def certificate_facts(credentials: Credentials) -> CertificateFacts:
    """Name and dates, whatever time it is; for a key in a file.

    Raises:
        IdentityError: key and certificate do not belong together, or the certificate is not
            made for a client.
    """
    shown = _shown(credentials, at_any_time=True)
    return CertificateFacts(
        _common_name(shown),
        *(
            datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown[key])), UTC)
            for key in ("notBefore", "notAfter")
        ),
    )


def _shown(credentials: Credentials, *, at_any_time: bool = False) -> dict[str, Any]:
    """The certificate as ``ssl.SSLSocket.getpeercert`` gives it."""
    make_context(credentials)
    pair = (str(credentials.certificate_file), str(credentials.key_file))
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    judge.load_cert_chain(*pair, password=lambda: b"")
    judge.load_verify_locations(cafile=pair[0])
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if at_any_time:
        judge.verify_flags |= _NO_CHECK_TIME
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shown.check_hostname = False
    shown.verify_mode = ssl.CERT_NONE
    shown.load_cert_chain(*pair, password=lambda: b"")
    try:
        return _handshake(judge, shown)
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(
            f"broker.certificate_file: {credentials.certificate_file}: {error.verify_message}",
            hint="Issue a new one for this vehicle, or set this machine's clock if it is wrong.",
        ) from error


def _common_name(certificate: dict[str, Any]) -> str | None:
    names = [
        value
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    return names[0] if names else None


def _handshake(judge: ssl.SSLContext, shown: ssl.SSLContext) -> dict[str, Any]:
    to_judge, to_shown = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = judge.wrap_bio(to_judge, to_shown, server_side=True)
    client = shown.wrap_bio(to_shown, to_judge)
    for _ in range(_ROUNDS):
        waiting = 0
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            break
    return dict(server.getpeercert() or {})
