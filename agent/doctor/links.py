"""Network interfaces as ``ip -json -details -statistics link`` tells them, for CAN."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agent.doctor.programs import ask


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. ``kind`` is ``can``, ``vcan`` or another; ``state`` the controller's."""

    name: str
    is_can: bool
    kind: str = ""
    is_up: bool = False
    state: str = ""
    bitrate: int | None = None
    data_bitrate: int | None = None
    restart_ms: int | None = None
    takes_fd: bool = False
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0


def links() -> dict[str, Link] | None:
    """Every interface by name; ``None`` where ``ip`` is not installed or fails."""
    answer = ask("ip", "-json", "-details", "-statistics", "link", "show")
    if answer is None or answer.code:
        return None
    return parse(answer.output)


def parse(output: str) -> dict[str, Link]:
    """Interfaces by name; those that say nothing sensible are left out."""
    try:
        told = json.loads(output or "[]")
    except ValueError:
        return {}
    found = (_link(entry) for entry in told if isinstance(entry, dict) and entry.get("ifname"))
    return {link.name: link for link in found}


def _link(entry: dict[str, Any]) -> Link:
    info = entry.get("linkinfo", {})
    data = info.get("info_data", {})
    counters = data.get("berr_counter", {})
    received = entry.get("stats64", entry.get("stats", {})).get("rx", {})
    transmitted = entry.get("stats64", entry.get("stats", {})).get("tx", {})
    return Link(
        name=entry["ifname"],
        is_can=entry.get("link_type") == "can",
        kind=info.get("info_kind", ""),
        is_up="UP" in entry.get("flags", ()),
        state=data.get("state", ""),
        # controllers with fixed bit rates have it in a key of its own (iproute2, iplink_can.c)
        bitrate=data.get("bittiming", {}).get("bitrate") or data.get("bittiming_bitrate"),
        data_bitrate=data.get("data_bittiming", {}).get("bitrate")
        or data.get("data_bittiming_bitrate"),
        restart_ms=data.get("restart_ms"),
        takes_fd=entry.get("mtu", 16) >= 72,
        rx_errors=counters.get("rx", 0) or received.get("errors", 0),
        tx_errors=counters.get("tx", 0) or transmitted.get("errors", 0),
        rx_dropped=received.get("dropped", 0) + received.get("over_errors", 0),
    )
