"""What is wrong with the TLS handshake, found out by one of our own.

awscrt says no more than "negotiation failed", and that 10 to 30 s late (s2n-tls blinds
errors by a random delay). OpenSSL tells a wrong CA from a wrong name and an expired
certificate, so a failed dial is repeated with it, up to the handshake and no further.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import replace
from typing import Final

from agent.errors import IdentityError
from agent.transport.credentials import Credentials
from agent.transport.endpoint import Endpoint
from agent.transport.tls import make_context

_CONNECT_S: Final = 3.0
_VERDICT_S: Final = 1.0
"""In TLS 1.3 the broker judges the client after the client's handshake is done."""


def probe(endpoint: Endpoint, credentials: Credentials) -> BaseException | None:
    """The error of a handshake with the broker; None when it goes well or cannot be made.

    A key in a token cannot be used here: only what is wrong on the broker's side is found.
    """
    try:
        context = make_context(replace(credentials, pkcs11=None))
        with (
            socket.create_connection((endpoint.host, endpoint.port), _CONNECT_S) as sock,
            context.wrap_socket(sock) as tls,
        ):
            tls.settimeout(_VERDICT_S)
            with contextlib.suppress(TimeoutError):
                tls.recv(1)
    except (ssl.SSLError, IdentityError) as error:
        if credentials.pkcs11 is not None and not isinstance(error, ssl.SSLCertVerificationError):
            return None  # the broker misses the certificate that was not shown here
        return error
    except OSError:
        return None
    return None
