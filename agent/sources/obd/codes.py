"""Trouble codes and the VIN out of the answers that carry them. Pure.

Codes are written as on a workshop's tester: ``P0301``, and ``B1234-11`` where UDS adds the
failure type (SAE J2012, ISO 15031-6).
"""

from __future__ import annotations

import re
from typing import Final

_SYSTEMS: Final = "PCBU"
"""Powertrain, chassis, body, network."""

_VIN: Final = re.compile(r"[A-HJ-NPR-Z0-9]{17}")
"""ISO 3779: 17 characters, without I, O and Q."""


def code_text(high: int, low: int) -> str:
    """The text of a two-byte code: ``code_text(0x03, 0x01)`` is ``P0301``."""
    return f"{_SYSTEMS[high >> 6]}{high >> 4 & 3:X}{high & 15:X}{low:02X}"


def obd_codes(data: bytes) -> tuple[str, ...] | None:
    """The codes of an answer to service 03, 07 or 0A, the bytes after its service.

    On CAN the first byte counts them (ISO 15031-5); what is padded is left out. ``None``
    when there are fewer bytes than it says.
    """
    if not data or len(data) < 1 + 2 * data[0]:
        return None
    pairs = zip(data[1 : 1 + 2 * data[0] : 2], data[2 : 1 + 2 * data[0] : 2], strict=True)
    return tuple(code_text(high, low) for high, low in pairs if high or low)


def uds_codes(data: bytes, status_mask: int) -> tuple[str, ...] | None:
    """The codes of ReadDTCInformation's answer 59 02, the bytes after the 02.

    An ECU may answer with codes whose status the mask does not want; those are left out.
    ``None`` when the length fits no list.
    """
    if not data or (len(data) - 1) % 4:
        return None
    codes = []
    for at in range(1, len(data), 4):
        high, low, failure, status = data[at : at + 4]
        if status & status_mask and (high or low or failure):
            codes.append(code_text(high, low) + (f"-{failure:02X}" if failure else ""))
    return tuple(codes)


def vin_text(data: bytes) -> str | None:
    """The VIN of the answer 49 02, the bytes after the 02; ``None`` if it is none.

    The first byte counts the items; padding stands before the VIN or after it.
    """
    text = data[1:].strip(b"\0\xff\xaa\x55 ").decode("ascii", errors="replace")
    return text if _VIN.fullmatch(text) else None
