"""J1939's 29-bit ids: parameter group, source and destination (SAE J1939-21). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EVERYONE: Final = 0xFF
NOBODY: Final = 0xFE
"""The source of a node without an address."""

FIRST_BROADCAST_FORMAT: Final = 0xF0
"""PDU2: from here on the second byte of the id belongs to the group."""

GROUP_MASK: Final = 0x03FF_FF00
"""An id without priority and source; for broadcast groups and those sent to everyone."""

REQUEST: Final = 0xEA00
TRANSPORT_DATA: Final = 0xEB00
TRANSPORT: Final = 0xEC00
ADDRESS_CLAIMED: Final = 0xEE00
EEC1: Final = 0xF004
DM1: Final = 0xFECA
ENGINE_HOURS: Final = 0xFEE5
VEHICLE_ID: Final = 0xFEEC


@dataclass(frozen=True, slots=True)
class Header:
    """What an id says."""

    group: int
    source: int
    destination: int = EVERYONE


def parse_id(frame_id: int) -> Header:
    """The header of a 29-bit id."""
    source = frame_id & 0xFF
    second = frame_id >> 8 & 0xFF
    group = frame_id >> 8 & 0x3_FF00
    if frame_id >> 16 & 0xFF < FIRST_BROADCAST_FORMAT:
        return Header(group, source, second)
    return Header(group | second, source)


def make_id(group: int, source: int, destination: int = EVERYONE, priority: int = 6) -> int:
    """The id of a header; ``destination`` counts for groups that have one."""
    second = destination if group >> 8 & 0xFF < FIRST_BROADCAST_FORMAT else 0
    return priority << 26 | group << 8 | second << 8 | source
