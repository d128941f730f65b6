"""CAN ids as SocketCAN writes them, filters for them, and what J1939 reads in them.

::

    31         30       29      28 … 0
    extended   remote   error   the id: 29 bits, or the lower 11        linux/can.h

    28 … 26    25    24   23 … 16   15 … 8   7 … 0      an id of 29 bits in J1939-21
    priority   EDP   DP   PF        PS       source address

The parameter group number (PGN) is EDP, DP, PF and, where PF is 240 or more, PS; below
that PS is the destination's address.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

EXTENDED: Final = 0x8000_0000
REMOTE: Final = 0x4000_0000
ERROR: Final = 0x2000_0000
EXTENDED_MASK: Final = 0x1FFF_FFFF
STANDARD_MASK: Final = 0x7FF

_BROADCAST_PF: Final = 240
_PGN_MASK: Final = 0x03FF_FF00
_PGN_MASK_ADDRESSED: Final = 0x03FF_0000
_ADDRESS_MASK: Final = 0xFF

KERNEL_FILTERS: Final = 512
"""What one socket takes (CAN_RAW_FILTER_MAX)."""


def can_id(arbitration_id: int, *, extended: bool) -> int:
    """The id with its flag."""
    return arbitration_id | EXTENDED if extended else arbitration_id


def pgn(identifier: int) -> int:
    """The J1939 parameter group number of an id of 29 bits, with or without its flag."""
    return (identifier & _pgn_mask(identifier)) >> 8


def source_address(identifier: int) -> int:
    """The J1939 address of the sender."""
    return identifier & _ADDRESS_MASK


class IdFilter(NamedTuple):
    """Passes the frames with ``id & mask == wanted``, as the kernel's filters do."""

    wanted: int
    mask: int

    def passes(self, identifier: int) -> bool:
        """Whether a frame with this id (flags included) goes through."""
        return identifier & self.mask == self.wanted

    def told(self) -> str:
        """As people write it: ``1A0``, ``18FEF117``, or ``PGN 65265`` for a whole group."""
        number = self.wanted & EXTENDED_MASK
        if not self.wanted & EXTENDED:
            return f"{number:03X}"
        if self.mask & EXTENDED_MASK == EXTENDED_MASK:
            return f"{number:08X}"
        sender = f" of {number & _ADDRESS_MASK:02X}" if self.mask & _ADDRESS_MASK else ""
        return f"PGN {pgn(number)}{sender}"


def by_id(arbitration_id: int, *, extended: bool) -> IdFilter:
    """Only data frames with exactly this id.

    With the flag for remote frames in the mask the kernel finds the filter by a hash of
    the id; without it compares with one filter after the other (net/can/af_can.c).
    """
    mask = (EXTENDED_MASK if extended else STANDARD_MASK) | EXTENDED | REMOTE
    return IdFilter(can_id(arbitration_id, extended=extended), mask)


def by_pgn(arbitration_id: int, address: int | None = None) -> IdFilter:
    """Data frames with the PGN of this id, of one source address or any."""
    mask = _pgn_mask(arbitration_id) | EXTENDED | REMOTE
    wanted = arbitration_id & _pgn_mask(arbitration_id) | EXTENDED
    if address is None:
        return IdFilter(wanted, mask)
    return IdFilter(wanted | address, mask | _ADDRESS_MASK)


def grouped(filters: Iterable[IdFilter], limit: int = KERNEL_FILTERS) -> list[IdFilter]:
    """At most ``limit`` filters that pass at least what these pass.

    Too many are widened to blocks of neighbouring ids, in the smallest blocks that do.
    """
    found = sorted(set(filters))
    block = 0
    while len(found) > limit:
        block = block << 1 | 1
        found = sorted({IdFilter(one.wanted & ~block, one.mask & ~block) for one in found})
    return found


def _pgn_mask(identifier: int) -> int:
    broadcast = (identifier >> 16 & 0xFF) >= _BROADCAST_PF
    return _PGN_MASK if broadcast else _PGN_MASK_ADDRESSED
