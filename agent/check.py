"""Looks at everything that the config names, without running."""

from __future__ import annotations

import logging

from agent.compose_sources import check_sources
from agent.config import AgentSettings
from agent.identity import IdentityStore
from agent.transport import Credentials, certificate_name, check_credentials, check_transport

_log = logging.getLogger(__name__)


def check(settings: AgentSettings) -> None:
    """Look at everything the config names that can be looked at without running.

    Raises:
        ConfigError: a CAN interface or a mapped signal does not exist, a DBC is broken.
        IdentityError: a certificate or key file is missing or unreadable, they do not
            belong together, or the certificate is not valid now.
    """
    check_identity(settings)
    check_sources(settings)


def check_identity(settings: AgentSettings) -> None:
    """Look at certificate and key, or at the token; raises as ``check``."""
    credentials = Credentials.of(settings.broker)
    check_credentials(credentials)
    check_transport(settings.broker)
    name = certificate_name(credentials)
    if IdentityStore(settings.state.dir).holds(credentials.certificate_file):
        return  # registered; its certificate need not bear the vehicle's name
    if name != settings.vehicle.id and credentials.pkcs11 is None:
        _log.warning(
            "broker.certificate_file: %s is the certificate of %r, vehicle.id is %r: AWS IoT Core"
            " goes by the thing it is attached to, the one-machine cloud will refuse it",
            credentials.certificate_file,
            name,
            settings.vehicle.id,
        )
