"""Values for a person: short, with their units. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

UNITS: Final[Mapping[str, str]] = {
    "battery.percent": "%",
    "battery.voltage": "V",
    "battery.current": "A",
    "battery.temperature": "°C",
    "motion.heading": "°",
    "motion.acceleration": "m/s²",
}
"""Where the name does not have it."""

GROUPS: Final = ("motion", "battery", "vehicle_status", "diagnostics", "signals")
"""Of a sample, in the order of the picture; the location has a place of its own."""


def duration(length_s: float) -> str:
    """``4 s``, ``12 min``, ``3 h 20 min``, ``5 d 3 h``."""
    length_s = max(0.0, length_s)
    if length_s < 120:
        return f"{length_s:.0f} s"
    minutes = int(length_s // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def size(count: float) -> str:
    """``812 B``, ``4.2 kB``, ``1.3 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def value(name: str, of: object) -> str:
    """One field of a sample with its unit."""
    if isinstance(of, bool):
        return "yes" if of else "no"
    if isinstance(of, float):
        text = f"{of:.6g}"
    elif isinstance(of, list | tuple):
        text = ", ".join(map(str, of)) or "none"
    else:
        text = str(of)
    unit = UNITS.get(name)
    return f"{text} {unit}" if unit else text


def fields(sample: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of all that a sample carries beside its identity and location."""
    for group in GROUPS:
        for name, of in (sample.get(group) or {}).items():
            shown = f"{group}.{name}" if group == "battery" else name
            if isinstance(of, dict):
                axes = " ".join(f"{axis:.6g}" for axis in of.values())
                yield shown, f"{axes} {UNITS.get(f'{group}.{name}', '')}".rstrip()
            else:
                yield shown, value(f"{group}.{name}", of)


def fix_age_s(sample: Mapping[str, Any]) -> float | None:
    """How old the position was when the sample was taken."""
    told = (sample.get("location") or {}).get("fix_time")
    if told is None:
        return None
    span = datetime.fromisoformat(sample["timestamp"]) - datetime.fromisoformat(told)
    return span.total_seconds()
