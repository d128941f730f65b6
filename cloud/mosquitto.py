"""A configuration for Mosquitto that keeps vehicles apart, for fleets that run it as their broker.

Mosquitto has no registry, so what tells vehicles apart is the certificate's common name,
which ``certs issue`` makes the vehicle's id. A certificate that a board got by claim has
no name of its own; it, every claim, and what is blocked or not ACTIVE goes on the
revocation list. Pure but for the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cloud.pki.authority import CLAIM_NAME, PROVISIONED_NAME
from cloud.provisioning.ports import Certificate, Origin, Principal, PrincipalKind
from cloud.stores.sqlite_registry import SqliteRegistry
from contract import MessageKind, Topics

CONFIG_NAME: Final = "milepost.conf"
ACCESS_NAME: Final = "milepost.acl"
AUTHORITY_NAME: Final = "ca.pem"
SERVER_NAME: Final = "server.pem"
REVOKED_NAME: Final = "revoked.pem"
MAX_PACKET_BYTES: Final = 129 * 1024
"""AWS IoT Core's payload, and room for topic and header."""

_CONFIG: Final = """\
# Milepost's vehicles on Mosquitto 2, each kept to its own topics. Written by
# `milepost-cloud mosquitto`, which see; what you change here it overwrites.
listener {port}
cafile {folder}/{authority}
certfile {folder}/{server}
keyfile {folder}/{server}
tls_version tlsv1.2

# No certificate, no connection; a revoked one neither.
require_certificate true
crlfile {folder}/{revoked}

# A vehicle is its certificate's common name, as user and as client id: whatever client id it
# asks for, it cannot end another vehicle's connection or take over its session.
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/{access}

max_packet_size {max_packet_bytes}
max_qos 1

# Who connects with which will, who subscribes to what, and "Denied PUBLISH", which is of
# level debug and stands among a line for each message: take it out where that is too much.
connection_messages true
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
log_type debug
"""


def configuration(folder: Path, port: int) -> str:
    """``mosquitto.conf``'s text, for files in ``folder``."""
    return _CONFIG.format(
        port=port,
        folder=folder,
        authority=AUTHORITY_NAME,
        server=SERVER_NAME,
        revoked=REVOKED_NAME,
        access=ACCESS_NAME,
        max_packet_bytes=MAX_PACKET_BYTES,
    )


def access_list(readers: Iterable[str]) -> str:
    """The ACL file's text; ``readers`` are the common names of those that read everything."""
    own = [Topics("ID").topic(kind).replace("ID", "%u") for kind in MessageKind]
    lines = ["# Certificates that name no vehicle may do nothing here."]
    for name in (CLAIM_NAME, PROVISIONED_NAME):
        lines += [f"user {name}", "topic deny #", "topic deny $SYS/#", ""]
    for name in readers:
        lines += ["# Reads what all vehicles send.", f"user {name}"]
        lines += [f"topic read {topic.replace('%u', '+')}" for topic in own]
        lines += [""]
    lines += ["# A vehicle writes to its own topics and reads nothing."]
    lines += [f"pattern write {topic}" for topic in own]
    return "\n".join(lines) + "\n"


def outsiders(registry: SqliteRegistry) -> list[Certificate]:
    """The certificates with which nobody may connect to Mosquitto."""
    return [one for one in registry.certificates("TRUE") if not _is_vehicle(one, registry)]


def _is_vehicle(one: Certificate, registry: SqliteRegistry) -> bool:
    found = registry.principal(one.certificate_id)
    return (
        one.origin is Origin.OPERATOR
        and isinstance(found, Principal)
        and found.kind is PrincipalKind.VEHICLE
    )
