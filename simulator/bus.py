"""Opening a CAN bus for the simulator's peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.errors import BusError

if TYPE_CHECKING:
    # Importing python-can takes a third of a second: only who uses a bus pays for it.
    import can


def open_bus(interface: str, channel: str, options: Mapping[str, Any]) -> can.BusABC:
    """A bus that python-can opens; ``udp_multicast`` does not leave the machine unless told to.

    Raises:
        BusError: it cannot be opened.
    """
    import can  # noqa: PLC0415 -- slow, see above

    options = dict(options)
    if interface == "udp_multicast":
        # whoever wants the frames to leave the machine has to say so
        options.setdefault("hop_limit", 0)
    try:
        return can.Bus(interface=interface, channel=channel, **options)
    except (can.CanError, OSError, ValueError, TypeError, ImportError) as error:
        raise BusError(
            f"cannot open the CAN bus {interface} channel {channel}: {error}",
            hint="'ip link' lists SocketCAN interfaces; without one use --interface "
            "udp_multicast --channel 239.74.163.2",
        ) from error
