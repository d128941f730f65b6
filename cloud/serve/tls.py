"""The TLS context of every server of this cloud that vehicles connect to."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(ca_file: Path, server_file: Path) -> ssl.SSLContext:
    """Mutual TLS 1.2 or later: a client shows a certificate of ``ca_file``, or is not served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server_file)
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the look at the certificate's validity.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context
