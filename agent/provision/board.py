"""What the board says of itself: serial number and hardware address.

All of it is read below ``root``, which is ``/`` but in tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NO_SERIAL: Final = re.compile(
    r"^(none|null|n/?a|0+|f+|1234567890?|123456789|to be filled.*|default string|system serial.*"
    r"|not (specified|applicable|available)|unknown|invalid|chassis serial.*|oem|empty)$",
    re.IGNORECASE,
)
"""What makers of PCs leave in SMBIOS where a serial number should stand."""

_ETHERNET: Final = "1"
"""ARPHRD_ETHER of linux/if_arp.h; wireless interfaces have it too."""

_PERMANENT: Final = "0"
"""NET_ADDR_PERM of linux/netdevice.h: of the hardware, not drawn at random."""

_NO_MAC: Final = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Told:
    """A fact and where it is from; ``doubt`` says why it may not do, or is empty."""

    value: str
    source: str
    doubt: str = ""


def serial_number(root: Path = Path("/")) -> Told | None:
    """The board's serial number, from the best of the places that tell one."""
    tree = _text(root / "proc/device-tree/serial-number")
    if tree:
        return Told(tree, "/proc/device-tree/serial-number")
    smbios = _text(root / "sys/class/dmi/id/product_serial")
    if smbios and not _NO_SERIAL.match(smbios):
        return Told(smbios, "/sys/class/dmi/id/product_serial")
    machine = _text(root / "etc/machine-id")
    if machine and machine != "uninitialized":
        doubt = (
            "this board tells no serial number to this user, so its machine id stands for one:"
            " it is another after a new installation, and the same on cloned cards"
        )
        return Told(machine, "/etc/machine-id", doubt)
    return None


def mac_address(root: Path = Path("/")) -> Told | None:
    """Of the first physical interface: wired ones before wireless, then as the kernel found them.

    Virtual interfaces, and addresses that are drawn at random, are passed over.
    """
    found = []
    folder = root / "sys/class/net"
    for interface in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (interface / "device").exists() or _text(interface / "type") != _ETHERNET:
            continue
        mac = _text(interface / "address").lower()
        if _text(interface / "addr_assign_type") != _PERMANENT or mac in {"", _NO_MAC}:
            continue
        is_wireless = (interface / "phy80211").exists() or (interface / "wireless").exists()
        index = _text(interface / "ifindex")
        order = (is_wireless, int(index) if index.isdecimal() else 0)
        found.append((order, Told(mac, f"/sys/class/net/{interface.name}/address")))
    return min(found, key=lambda one: one[0])[1] if found else None


def _text(path: Path) -> str:
    """A file of the kernel; empty where it is not there or not for this user."""
    try:
        # the device tree's strings end with a NUL
        return path.read_bytes().decode("ascii", "replace").strip("\0 \t\r\n")
    except OSError:
        return ""
