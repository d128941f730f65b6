"""The parameters of OBD-II's service 01: how many bytes, and what they mean. Pure.

Scales are those of SAE J1979-DA, which gives percentages as 100/255 a bit; tables that
print 0.392 have rounded it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SUPPORTED_STEP: Final = 0x20
"""PIDs 00, 20, 40, … tell which of the 32 after them the ECU has."""

LAST_SUPPORTED: Final = 0xC0


@dataclass(frozen=True, slots=True)
class Pid:
    """One parameter: the first ``used_bytes`` of its answer as a number, scaled.

    ``answer_bytes`` is what an ECU sends; a shorter answer is refused.
    """

    number: int
    name: str
    unit: str
    answer_bytes: int
    scale: float = 1.0
    offset: float = 0.0
    used_bytes: int | None = None
    skip_bytes: int = 0

    def decode(self, data: bytes) -> float | None:
        """The value in ``unit``; ``None`` when the answer is too short to have it."""
        end = self.skip_bytes + (self.used_bytes or self.answer_bytes)
        if len(data) < max(end, self.answer_bytes):
            return None
        raw = int.from_bytes(data[self.skip_bytes : end], "big")
        if self.scale == 1 and self.offset == 0:
            return raw
        return raw * self.scale + self.offset


_PERCENT: Final = 100 / 255

_ROWS: Final = (
    Pid(0x04, "engine_load", "%", 1, _PERCENT),
    Pid(0x05, "coolant_temperature", "°C", 1, 1, -40),
    Pid(0x0B, "intake_pressure", "kPa", 1),
    Pid(0x0C, "engine_rpm", "1/min", 2, 0.25),
    Pid(0x0D, "speed", "km/h", 1),
    Pid(0x0F, "intake_temperature", "°C", 1, 1, -40),
    Pid(0x10, "air_flow", "g/s", 2, 0.01),
    Pid(0x11, "throttle", "%", 1, _PERCENT),
    Pid(0x1F, "run_time", "s", 2),
    Pid(0x21, "distance_with_lamp", "km", 2),
    Pid(0x2F, "fuel_level", "%", 1, _PERCENT),
    Pid(0x31, "distance_since_clear", "km", 2),
    Pid(0x33, "barometric_pressure", "kPa", 1),
    Pid(0x42, "module_voltage", "V", 2, 0.001),
    Pid(0x43, "absolute_load", "%", 2, _PERCENT),
    Pid(0x45, "relative_throttle", "%", 1, _PERCENT),
    Pid(0x46, "ambient_temperature", "°C", 1, 1, -40),
    Pid(0x49, "accelerator", "%", 1, _PERCENT),
    Pid(0x5B, "hybrid_battery", "%", 1, _PERCENT),
    Pid(0x5C, "oil_temperature", "°C", 1, 1, -40),
    Pid(0x5E, "fuel_rate", "L/h", 2, 0.05),
    Pid(0x61, "demanded_torque", "%", 1, 1, -125),
    Pid(0x62, "torque", "%", 1, 1, -125),
    Pid(0x63, "reference_torque", "Nm", 2),
    Pid(0xA6, "odometer", "km", 4, 0.1),
)

PIDS: Final[dict[int, Pid]] = {row.number: row for row in _ROWS}
"""The parameters whose meaning is known; others are read as plain numbers."""

RPM: Final = 0x0C
SPEED: Final = 0x0D


def plain(number: int, used_bytes: int) -> Pid:
    """A parameter that the table does not have: an unsigned number of so many bytes."""
    return Pid(number, f"pid_{number:02x}", "", used_bytes)


def supported(base: int, bitmap: bytes) -> Iterator[int]:
    """The PIDs that the answer to PID ``base`` names, ``base + 1`` being the first bit."""
    bits = int.from_bytes(bitmap[:4].ljust(4, b"\0"), "big")
    return (base + 1 + index for index in range(32) if bits >> (31 - index) & 1)
