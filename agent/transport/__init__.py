"""Transports: how messages reach the broker. The port is ``agent.ports.Transport``."""

from agent.transport.choose import check_transport, make_transport
from agent.transport.credentials import Credentials, check_credentials
from agent.transport.identity import CertificateFacts, certificate_facts, certificate_name
from agent.transport.wire import WireMeter

__all__ = [
    "CertificateFacts",
    "Credentials",
    "WireMeter",
    "certificate_facts",
    "certificate_name",
    "check_credentials",
    "check_transport",
    "make_transport",
]
