"""Transports: how messages reach the broker. The port is ``agent.ports.Transport``."""

from agent.transport.identity import certificate_name
from agent.transport.paho_transport import PahoTransport
from agent.transport.tls import Credentials, check_credentials

__all__ = ["Credentials", "PahoTransport", "certificate_name", "check_credentials"]
