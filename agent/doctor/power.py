"""Power: a supply that sags makes cards, receivers and CAN controllers fail in strange ways.

A Raspberry Pi's kernel reports under-voltage through the hwmon device ``rpi_volt``
(drivers/hwmon/raspberrypi-hwmon.c); boards without one tell nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.programs import read_text
from agent.doctor.subject import Subject

HOT_DEGC: Final = 80.0
"""From here on a Raspberry Pi slows down; a Jetson does some degrees later."""

UNDER_VOLTAGE: Final = Kind(
    "power-under-voltage",
    Severity.WARNING,
    "the board's supply is, or was a moment ago, below 4.63 V",
    "sudo dmesg | grep -i voltage; vcgencmd get_throttled",
    "Use a 5 V converter of 3 A or more (5 A for a Pi 5), thick short wires, a plug that holds.",
)
HOT: Final = Kind(
    "power-hot",
    Severity.WARNING,
    "the processor has {celsius:.0f} degrees Celsius and slows down",
    "cat /sys/class/thermal/thermal_zone*/temp",
    "Give the case air or a heat sink, and keep it out of the sun.",
)
UNKNOWN: Final = Kind(
    "power-unknown", Severity.INFO, "this board does not tell its supply voltage or temperature"
)
GOOD: Final = Kind("power-good", Severity.OK, "{told}")


@dataclass(frozen=True, slots=True)
class Facts:
    """``None`` where the board has no such sensor."""

    under_voltage: bool | None = None
    celsius: float | None = None


def gather(subject: Subject) -> Facts:
    """Read the kernel's sensors."""
    del subject
    volt = [
        read_text(name.with_name("in0_lcrit_alarm"))
        for name in Path("/sys/class/hwmon").glob("*/name")
        if read_text(name) == "rpi_volt"
    ]
    zones = [
        read_text(zone) or "" for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")
    ]
    degrees = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdigit()]
    return Facts("1" in volt if volt else None, max(degrees, default=None))


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the supply."""
    if facts.under_voltage:
        yield UNDER_VOLTAGE()
    if facts.celsius is not None and facts.celsius >= HOT_DEGC:
        yield HOT(celsius=facts.celsius)
    elif not facts.under_voltage:
        told = ["the supply is sound"] if facts.under_voltage is False else []
        if facts.celsius is not None:
            told.append(f"{facts.celsius:.0f} degrees Celsius")
        yield GOOD(told=", ".join(told)) if told else UNKNOWN()
