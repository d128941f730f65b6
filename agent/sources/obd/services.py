"""What is asked: service bytes, which answers belong to a request, refusals. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from agent.config.obd import DtcMode

NEGATIVE: Final = 0x7F
POSITIVE: Final = 0x40
"""Added to the service in a positive answer."""

CURRENT_DATA: Final = 0x01
VEHICLE_INFORMATION: Final = 0x09
VIN: Final = 0x02
READ_DTC: Final = 0x19
BY_STATUS_MASK: Final = 0x02

DTC_SERVICES: Final = {
    DtcMode.STORED: 0x03,
    DtcMode.PENDING: 0x07,
    DtcMode.PERMANENT: 0x0A,
}


class Refusal(IntEnum):
    """Negative response codes that change what is done next (ISO 14229-1, table A.1)."""

    SERVICE_NOT_SUPPORTED = 0x11
    SUBFUNCTION_NOT_SUPPORTED = 0x12
    BUSY_REPEAT_REQUEST = 0x21
    OUT_OF_RANGE = 0x31
    RESPONSE_PENDING = 0x78
    SERVICE_NOT_IN_SESSION = 0x7F


NEVER: Final = frozenset(
    {
        Refusal.SERVICE_NOT_SUPPORTED,
        Refusal.SUBFUNCTION_NOT_SUPPORTED,
        Refusal.OUT_OF_RANGE,
        Refusal.SERVICE_NOT_IN_SESSION,
    }
)
"""To ask again would get the same; it is left until the vehicle wakes the next time.

Any other refusal (busy, conditions not correct) is of the moment: asked when next due.
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of one ECU, by the id it answers with; ``data`` follows the echo."""

    ecu: int
    data: bytes = b""
    refusal: int | None = None


def parse_answer(request: bytes, ecu: int, payload: bytes) -> Answer | None:
    """The answer to ``request``, or ``None`` when the payload answers something else.

    The echo is the service and, where the request has one, the PID or subfunction.
    """
    if payload[:1] == bytes([NEGATIVE]):
        if len(payload) < 3 or payload[1] != request[0]:
            return None
        return Answer(ecu, refusal=payload[2])
    echo = bytes([request[0] + POSITIVE]) + request[1:2]
    if not payload.startswith(echo):
        return None
    return Answer(ecu, payload[len(echo) :])
