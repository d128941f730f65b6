"""A CAN bus of its own for each vehicle, on a machine that has none.

python-can's ``udp_multicast`` works between processes without root. Group and port are
drawn anew for each vehicle, so that demos beside each other never mix; with
``hop_limit = 0`` no frame leaves the machine.
"""

from __future__ import annotations

import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from simulator.demo.errors import DemoError

INTERFACE: Final = "udp_multicast"


@dataclass(frozen=True, slots=True)
class BusAddress:
    """How both ends open the bus with python-can."""

    channel: str
    options: dict[str, int] = field(default_factory=dict)
    interface: str = INTERFACE


def new_bus() -> BusAddress:
    """A bus that nobody else on this machine uses.

    Raises:
        DemoError: the machine has no route for multicast, e.g. no network at all.
    """
    group = f"239.74.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        try:
            request = socket.inet_aton(group) + struct.pack("@I", socket.INADDR_ANY)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
            probe.sendto(b"", (group, port))
        except OSError as error:
            raise DemoError(
                f"no multicast on this machine, so no CAN bus: {error.strerror or error}",
                hint="connect it to a network, or: sudo ip route add 239.74.0.0/16 dev lo",
            ) from error
    return BusAddress(group, {"port": port, "hop_limit": 0})
