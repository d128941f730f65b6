"""gpsd's JSON protocol, without sockets and without memory: commands, and what reports say.

Protocol: https://gpsd.io/gpsd_json.html. Seen with gpsd 3.22: it sends 1 to 4 TPV for one
epoch, the first of them incomplete; receivers that never say the date give TPV with a
position and no ``time``; mode 0 TPV occur. SKY comes once a cycle, with DOP and satellites.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.inputs import Fix
from agent.sources.gps import accuracy
from contract import FixMode

MODE_2D: Final = 2
MPS_TO_KMH: Final = 3.6
MAX_SPEED_KMH: Final = 2_000.0
MAX_SATELLITES: Final = 255
UBLOX_DRIVER: Final = "u-blox"

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sky:
    """What one SKY report says; ``received_s`` is monotonic."""

    received_s: float
    satellites: int | None
    """Used in the fix."""
    hdop: float | None
    in_view: int | None = None


def watch_command() -> bytes:
    """Ask for the reports of all devices, and for sentences: only they tell of the antenna."""
    return b'?WATCH={"enable":true,"json":true,"nmea":true};\n'


def cycle_command(path: str, cycle_s: float) -> bytes:
    """Ask the receiver for one fix every ``cycle_s`` seconds."""
    device = {"path": path, "cycle": cycle_s}
    return b"?DEVICE=" + json.dumps(device, separators=(",", ":")).encode() + b";\n"


def parse_line(line: bytes) -> Report | None:
    """One report, or ``None`` for what is no JSON object with a class."""
    if not line.startswith(b"{"):
        return None
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and isinstance(report.get("class"), str) else None


def number(report: Report, key: str, low: float, high: float) -> float | None:
    """A finite number within its range, else ``None`` (gpsd has been seen to send NaN)."""
    value = report.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    return None


def path_of(report: Report, key: str = "device") -> str:
    """The device that a report is about; empty where it does not say."""
    path = report.get(key)
    return path if isinstance(path, str) else ""


def sky_of(report: Report, received_s: float) -> Sky | None:
    """Satellites and HDOP, or ``None`` where the report has neither."""
    hdop = number(report, "hdop", 0, accuracy.UNKNOWN_DILUTION)
    used = number(report, "uSat", 0, MAX_SATELLITES)
    in_view = number(report, "nSat", 0, MAX_SATELLITES)
    listed = report.get("satellites")
    if isinstance(listed, list):
        used = sum(isinstance(one, dict) and one.get("used") is True for one in listed)
        in_view = len(listed)
    if hdop is None and used is None and in_view is None:
        return None
    return Sky(received_s, _count(used), hdop, _count(in_view))


def _count(satellites: float | None) -> int | None:
    return None if satellites is None else min(int(satellites), MAX_SATELLITES)


def has_fix(tpv: Report) -> bool:
    """Whether gpsd calls it a fix; the position may come in a later TPV of the epoch."""
    mode = tpv.get("mode")
    return isinstance(mode, int) and mode >= MODE_2D


def fix_from_tpv(tpv: Report, received_s: float, driver: str = "") -> Fix | None:
    """The fix of one TPV, or ``None`` when it has none; ``driver`` is gpsd's for the device."""
    lat = number(tpv, "lat", -90, 90)
    lon = number(tpv, "lon", -180, 180)
    if not has_fix(tpv) or lat is None or lon is None:
        return None
    mode = FixMode.FIX_2D if tpv["mode"] == MODE_2D else FixMode.FIX_3D
    altitude_m = None
    if mode is FixMode.FIX_3D:
        # altMSL came with gpsd 3.20; before, alt was the height above mean sea level
        altitude_m = number(tpv, "altMSL", -12_000, 100_000)
        if altitude_m is None:
            altitude_m = number(tpv, "alt", -12_000, 100_000)
    speed_kmh = number(tpv, "speed", 0, MAX_SPEED_KMH / MPS_TO_KMH)
    return Fix(
        received_s=received_s,
        lat=lat,
        lon=lon,
        time=parse_time(tpv.get("time")),
        altitude_m=None if altitude_m is None else round(altitude_m, 2),
        accuracy_m=_accuracy(tpv, driver),
        speed_kmh=None if speed_kmh is None else round(speed_kmh * MPS_TO_KMH, 3),
        heading=number(tpv, "track", 0, 360),
        device=path_of(tpv),
        mode=mode,
    )


def parse_time(text: object) -> datetime | None:
    """ISO 8601 in UTC as gpsd writes it, or ``None``."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _accuracy(tpv: Report, driver: str) -> float | None:
    """The radius of 95 %, metres (``agent.sources.gps.accuracy``).

    ``hAcc`` and a u-blox' ``eph`` are the receiver's own radius of one sigma, any other
    ``eph`` is gpsd's 95 %; before 3.20 there were only ``epx`` and ``epy``.
    """
    own_m = number(tpv, "hAcc", 0, 1e7)
    eph_m = number(tpv, "eph", 0, 1e7)
    if own_m is None and driver == UBLOX_DRIVER:
        own_m = eph_m
    if own_m is not None:
        return round(accuracy.from_radius_68(own_m), 3)
    if eph_m is not None:
        return eph_m
    east_m, north_m = number(tpv, "epx", 0, 1e7), number(tpv, "epy", 0, 1e7)
    if east_m is None or north_m is None:
        return None
    return round(accuracy.from_axes(east_m, north_m), 3)
