"""The bytes of a UDS server's answers: 10, 3E and ReadDTCInformation 19 01/02. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simulator.ecu.obd import (
    NEGATIVE,
    NOT_SUPPORTED,
    SUBFUNCTION_NOT_SUPPORTED,
    TroubleCode,
)

STATUS_AVAILABLE: Final = 0x2F
"""The status bits that this ECU keeps."""

ISO_14229_FORMAT: Final = 0x01
INCORRECT_LENGTH: Final = 0x13
SUPPRESS_ANSWER: Final = 0x80

Listed = Sequence[tuple[TroubleCode, int]]
"""Codes, each with its status byte."""


def answer(request: bytes, codes: Listed) -> bytes:
    """The answer; an empty one where the request wants none."""
    service, sub = request[0], request[1] if len(request) > 1 else -1
    if service not in {0x10, 0x19, 0x3E}:
        return bytes([NEGATIVE, service, NOT_SUPPORTED])
    if sub < 0:
        return bytes([NEGATIVE, service, INCORRECT_LENGTH])
    if service == 0x19:
        return _read_dtc(request, codes)
    if sub & SUPPRESS_ANSWER:
        return b""
    if service == 0x3E:
        return b"\x7e\x00"
    if sub in {1, 3}:
        return bytes([0x50, sub, 0x00, 0x32, 0x01, 0xF4])  # P2 50 ms, P2* 5 s
    return bytes([NEGATIVE, service, SUBFUNCTION_NOT_SUPPORTED])


def _read_dtc(request: bytes, codes: Listed) -> bytes:
    sub = request[1]
    if sub not in {0x01, 0x02}:
        return bytes([NEGATIVE, 0x19, SUBFUNCTION_NOT_SUPPORTED])
    if len(request) != 3:
        return bytes([NEGATIVE, 0x19, INCORRECT_LENGTH])
    found = [(code, status) for code, status in codes if status & request[2]]
    head = bytes([0x59, sub, STATUS_AVAILABLE])
    if sub == 0x01:
        return head + bytes([ISO_14229_FORMAT]) + len(found).to_bytes(2, "big")
    return head + b"".join(
        bytes([code.high, code.low, code.failure, status]) for code, status in found
    )
