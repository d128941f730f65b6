"""The bytes of a truck's J1939 broadcasts (SAE J1939-71, -73 and -21). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.ecu.engine import EngineState

EEC1: Final = 0xF004
CCVS1: Final = 0xFEF1
ENGINE_TEMPERATURE_1: Final = 0xFEEE
VEHICLE_DISTANCE: Final = 0xFEC1
DASH_DISPLAY: Final = 0xFEFC
ENGINE_HOURS: Final = 0xFEE5
VEHICLE_ID: Final = 0xFEEC
DM1: Final = 0xFECA
REQUEST: Final = 0xEA00

_FAULT: Final = re.compile(r"(\d+)[:/](\d+)")
_BLANK: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Fault:
    """A suspect parameter and how it fails."""

    spn: int
    fmi: int
    count: int = 1


def parse_fault(text: str) -> Fault:
    """The fault of ``110:3``, SPN and FMI.

    Raises:
        ValueError: it is none, or out of range.
    """
    parts = _FAULT.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is no fault; write SPN:FMI, e.g. 110:3")
    spn, fmi = int(parts[1]), int(parts[2])
    if not (0 <= spn < 1 << 19 and 0 <= fmi < 32):
        raise ValueError(f"{text!r}: an SPN goes to 524287, an FMI to 31")
    return Fault(spn, fmi)


def frame_id(group: int, source: int, priority: int = 6) -> int:
    """The id of a broadcast group."""
    return priority << 26 | group << 8 | source


def eec1(now: EngineState) -> bytes:
    """Engine speed, 0.125 rpm a bit, and its load as the torque, 1 % a bit from -125."""
    rpm = min(64_255, round(now.rpm * 8))
    torque = round(now.load_percent) + 125
    return bytes([0xF0, 0xFF, torque]) + rpm.to_bytes(2, "little") + _BLANK * 3


def ccvs1(now: EngineState) -> bytes:
    """Wheel-based speed, 1/256 km/h a bit."""
    speed = min(64_255, round(now.speed_kmh * 256))
    return b"\xff" + speed.to_bytes(2, "little") + _BLANK * 5


def engine_temperature(now: EngineState) -> bytes:
    """Coolant, 1 °C a bit from -40."""
    return bytes([round(now.coolant_degc) + 40]) + _BLANK * 7


def vehicle_distance(now: EngineState) -> bytes:
    """High resolution: total, 5 m a bit; no trip distance."""
    return round(now.odometer_km * 200).to_bytes(4, "little") + _BLANK * 4


def dash_display(now: EngineState) -> bytes:
    """Fuel level, 0.4 % a bit."""
    return b"\xff" + bytes([min(250, round(now.fuel_percent / 0.4))]) + _BLANK * 6


def engine_hours(now: EngineState) -> bytes:
    """Total hours, 0.05 h a bit."""
    return round(now.engine_hours * 20).to_bytes(4, "little") + _BLANK * 4


def vehicle_id(vin: str) -> bytes:
    """The VIN and the asterisk that ends it."""
    return vin.encode("ascii") + b"*"


def dm1(faults: Sequence[Fault]) -> bytes:
    """Lamps and faults: amber with any, red and the malfunction lamp with FMI 0 or 1."""
    severe = any(fault.fmi in {0, 1} for fault in faults)
    lamps = (0x40 | 0x10 if severe else 0) | (0x04 if faults else 0)
    head = bytes([lamps, 0xFF])
    if not faults:
        return head + bytes(4) + _BLANK * 2
    body = b"".join(
        bytes(
            [
                fault.spn & 0xFF,
                fault.spn >> 8 & 0xFF,
                fault.spn >> 16 << 5 | fault.fmi,
                fault.count & 0x7F,
            ]
        )
        for fault in faults
    )
    return (head + body).ljust(8, _BLANK)


def packets(group: int, source: int, message: bytes) -> list[tuple[int, bytes]]:
    """The frames of a message: one, or an announcement (BAM) and packets of seven bytes."""
    if len(message) <= 8:
        return [(frame_id(group, source), message)]
    count = -(-len(message) // 7)
    announced = bytes([32]) + len(message).to_bytes(2, "little") + bytes([count, 0xFF])
    found = [(frame_id(0xECFF, source, 7), announced + group.to_bytes(3, "little"))]
    for number in range(count):
        piece = message[7 * number : 7 * number + 7].ljust(7, _BLANK)
        found.append((frame_id(0xEBFF, source, 7), bytes([number + 1]) + piece))
    return found
