"""The bytes of an OBD-II ECU's answers: services 01, 03, 07, 09 and 0A (SAE J1979). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from simulator.ecu.engine import EngineState

NEGATIVE: Final = 0x7F
NOT_SUPPORTED: Final = 0x11
SUBFUNCTION_NOT_SUPPORTED: Final = 0x12
OUT_OF_RANGE: Final = 0x31

_CODE: Final = re.compile(r"([PCBU])([0-3])([0-9A-F])([0-9A-F]{2})(?:-([0-9A-F]{2}))?")


@dataclass(frozen=True, slots=True)
class TroubleCode:
    """A code as its three bytes; the third, the failure type, is only told by UDS."""

    high: int
    low: int
    failure: int = 0

    @property
    def pair(self) -> bytes:
        """As OBD-II sends it."""
        return bytes([self.high, self.low])


def parse_code(text: str) -> TroubleCode:
    """The code of ``P0301`` or ``B1234-11``.

    Raises:
        ValueError: it is neither.
    """
    parts = _CODE.fullmatch(text.upper())
    if parts is None:
        raise ValueError(f"{text!r} is no trouble code; write P0301 or B1234-11")
    system, second, third, low, failure = parts.groups()
    high = "PCBU".index(system) << 6 | int(second) << 4 | int(third, 16)
    return TroubleCode(high, int(low, 16), int(failure or "0", 16))


def _byte(value: float) -> bytes:
    return bytes([min(255, max(0, round(value)))])


def _word(value: float) -> bytes:
    return min(0xFFFF, max(0, round(value))).to_bytes(2, "big")


ENCODERS: Final[dict[int, Callable[[EngineState], bytes]]] = {
    0x04: lambda now: _byte(now.load_percent * 2.55),
    0x05: lambda now: _byte(now.coolant_degc + 40),
    0x0C: lambda now: _word(now.rpm * 4),
    0x0D: lambda now: _byte(now.speed_kmh),
    0x1C: lambda _now: b"\x06",  # EOBD
    0x2F: lambda now: _byte(now.fuel_percent * 2.55),
    0x42: lambda now: _word(now.supply_volts * 1000),
    0x5B: lambda now: _byte(now.fuel_percent * 2.55),
    0xA6: lambda now: round(now.odometer_km * 10).to_bytes(4, "big"),
}
"""What each PID's data bytes are."""


def answer(
    request: bytes,
    *,
    state: EngineState,
    pids: Iterable[int],
    vin: str | None,
    codes: dict[int, Sequence[TroubleCode]],
    refused: Iterable[int] = (),
) -> bytes | None:
    """The positive or negative answer; ``None`` if the service is not OBD-II's.

    ``codes`` are by service (3, 7 and 10). ``refused`` are PIDs that are listed as
    supported and then refused, as some ECUs do.
    """
    service, rest = request[0], request[1:]
    if service == 0x01:
        return _current_data(rest, state, sorted(pids), set(refused))
    if service in codes:
        found = codes[service]
        return bytes([service + 0x40, len(found)]) + b"".join(code.pair for code in found)
    if service == 0x09:
        return _vehicle_information(rest, vin)
    return None


def _current_data(asked: bytes, state: EngineState, pids: list[int], refused: set[int]) -> bytes:
    data = b""
    for pid in asked[:6]:
        if pid % 0x20 == 0 and (pid == 0 or any(one >= pid for one in pids)):
            data += bytes([pid]) + supported(pid, pids)
        elif pid in pids and pid not in refused:
            data += bytes([pid]) + ENCODERS[pid](state)
    return b"\x41" + data if data else bytes([NEGATIVE, 0x01, SUBFUNCTION_NOT_SUPPORTED])


def supported(base: int, pids: Iterable[int]) -> bytes:
    """The bitmap of the 32 PIDs after ``base``; the last bit says that more follow."""
    pids = list(pids)
    bits = sum(1 << (32 - (pid - base)) for pid in pids if base < pid <= base + 0x20)
    if any(pid > base + 0x20 for pid in pids):
        bits |= 1
    return bits.to_bytes(4, "big")


def _vehicle_information(asked: bytes, vin: str | None) -> bytes:
    if vin is not None and asked[:1] == b"\x02":
        return b"\x49\x02\x01" + vin.encode("ascii")
    if asked[:1] == b"\x00":
        return b"\x49\x00" + (0x4000_0000 if vin else 0).to_bytes(4, "big")
    return bytes([NEGATIVE, 0x09, SUBFUNCTION_NOT_SUPPORTED])
