"""An ECU's answer gives codes, a VIN and values of the documented form, or none; never raises."""

import math
import re

from agent.sources.obd import codes, pids, services

SEEDS = [
    b"\x43\x02\x03\x01\x41\x23",
    b"\x59\x02\xff\x03\x01\x11\x2f\x41\x23\x00\x08",
    b"\x49\x02\x01WVWZZZ1KZAW000001",
    b"\x41\x0c\x0b\xb8",
    b"\x41\x00\xbe\x3f\xa8\x13",
    b"\x7f\x01\x12",
]
TOKENS = [b"\x7f\x19\x78", b"\x43", b"\x59\x02", b"\x49\x02", b"\x00\x00\x00"]
REQUESTS = (b"\x01\x00", b"\x01\x0c", b"\x03", b"\x07", b"\x0a", b"\x09\x02", b"\x19\x02\xff")
CODE = re.compile(r"[PCBU][0-3][0-9A-F]{3}(-[0-9A-F]{2})?")


def take(payload: bytes) -> None:
    for request in REQUESTS:
        answer = services.parse_answer(request, 0x7E8, payload)
        if answer is None:
            continue
        found = (codes.obd_codes(answer.data) or ()) + (codes.uds_codes(answer.data, 0xFF) or ())
        assert all(CODE.fullmatch(code) for code in found), found
        vin = codes.vin_text(answer.data)
        assert vin is None or len(vin) == 17
        for pid in (*pids.PIDS.values(), pids.plain(0x22, 4)):
            value = pid.decode(answer.data)
            assert value is None or math.isfinite(value)
        numbers = list(pids.supported(0x20, answer.data))
        assert all(0x20 < number <= 0x40 for number in numbers)
