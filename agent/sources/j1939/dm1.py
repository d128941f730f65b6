"""DM1, the active faults of an ECU: lamps, and SPN with FMI (SAE J1939-73). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LAMPS: Final = (
    ("malfunction_lamp", 6),
    ("red_stop_lamp", 4),
    ("amber_warning_lamp", 2),
    ("protect_lamp", 0),
)
"""Name and place of the two bits in the first byte."""

_NOT_AVAILABLE: Final = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Dm1:
    """``lamps`` has those that the ECU has, on or off."""

    lamps: dict[str, bool]
    codes: tuple[str, ...]


def decode(payload: bytes) -> Dm1 | None:
    """The lamps and codes; ``None`` when it is too short to be a DM1.

    A DM1 of a single frame holds one fault and two bytes of padding; an empty list is sent
    as one fault of zeros. SPNs are read as of version 4 of their conversion, the one that
    the standard has had since 1996.
    """
    if len(payload) < 6:
        return None
    lamps = {}
    for name, shift in LAMPS:
        bits = payload[0] >> shift & 3
        if bits < 2:
            lamps[name] = bits == 1
    codes = []
    for at in range(2, len(payload) - 3, 4):
        raw = payload[at : at + 4]
        spn = raw[0] | raw[1] << 8 | raw[2] >> 5 << 16
        fmi = raw[2] & 0x1F
        if raw != _NOT_AVAILABLE and (spn or fmi):
            codes.append(f"SPN {spn} FMI {fmi}")
    return Dm1(lamps, tuple(dict.fromkeys(codes)))
