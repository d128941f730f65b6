"""gpsd's JSON protocol, without sockets: commands, reports, and one fix per epoch.

Protocol: https://gpsd.io/gpsd_json.html. Seen with gpsd 3.22: it sends 1 to 4 TPV for one
epoch, the first of them incomplete; it repeats a stale fix with its old time; receivers
that never say the date give TPV with a position and no ``time``; mode 0 TPV occur.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from agent.inputs import Fix, FixReceived

MODE_2D: Final = 2
MPS_TO_KMH: Final = 3.6
MAX_SPEED_KMH: Final = 2_000.0

Report = dict[str, Any]


def watch_command(device: str) -> bytes:
    """Ask for reports, of one device where one is named."""
    watch: Report = {"enable": True, "json": True}
    if device:
        watch["device"] = device
    return b"?WATCH=" + json.dumps(watch, separators=(",", ":")).encode() + b";\n"


def cycle_command(path: str, cycle_s: float) -> bytes:
    """Ask the receiver for one fix every ``cycle_s`` seconds."""
    device = {"path": path, "cycle": cycle_s}
    return b"?DEVICE=" + json.dumps(device, separators=(",", ":")).encode() + b";\n"


def parse_line(line: bytes) -> Report | None:
    """One report, or ``None`` for what is no JSON object with a class.

    SKY, by far the longest and not used, is not parsed at all.
    """
    if not line or line.startswith(b'{"class":"SKY"'):
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


def fix_from_tpv(tpv: Report, received_s: float) -> Fix | None:
    """The fix of one TPV, or ``None`` when it has none."""
    mode = tpv.get("mode")
    lat = number(tpv, "lat", -90, 90)
    lon = number(tpv, "lon", -180, 180)
    if not isinstance(mode, int) or mode < MODE_2D or lat is None or lon is None:
        return None
    altitude_m = None
    if mode > MODE_2D:
        # altMSL came with gpsd 3.20; before, alt was the height above mean sea level
        altitude_m = number(tpv, "altMSL", -12_000, 100_000)
        if altitude_m is None:
            altitude_m = number(tpv, "alt", -12_000, 100_000)
    speed_kmh = number(tpv, "speed", 0, MAX_SPEED_KMH / MPS_TO_KMH)
    device = tpv.get("device")
    return Fix(
        received_s=received_s,
        lat=lat,
        lon=lon,
        time=parse_time(tpv.get("time")),
        altitude_m=None if altitude_m is None else round(altitude_m, 2),
        accuracy_m=_accuracy(tpv),
        speed_kmh=None if speed_kmh is None else round(speed_kmh * MPS_TO_KMH, 3),
        heading=number(tpv, "track", 0, 360),
        device=device if isinstance(device, str) else "",
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


def _accuracy(tpv: Report) -> float | None:
    """Horizontal error, 95 %, metres: ``eph``, or from ``epx`` and ``epy`` of older gpsd."""
    eph = number(tpv, "eph", 0, 1e7)
    if eph is not None:
        return eph
    epx, epy = number(tpv, "epx", 0, 1e7), number(tpv, "epy", 0, 1e7)
    return None if epx is None or epy is None else round((epx * epx + epy * epy) ** 0.5, 3)


class FixMerger:
    """Makes one fix of the TPVs of one epoch; never mixes two epochs or two receivers.

    The first receiver with a fix is kept as long as its fixes come; another one is taken
    only after ``stale_after_s`` without.
    """

    def __init__(self, stale_after_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._fix: Fix | None = None

    def feed(self, tpv: Report, received_s: float) -> FixReceived | None:
        """The fix as known after this TPV; ``None`` if it brings nothing new."""
        new = fix_from_tpv(tpv, received_s)
        if new is None:
            return None
        old = self._fix
        if old is not None and new.device != old.device:
            if received_s - old.received_s <= self._stale_after_s:
                return None
            old = None
        if old is None or new.time is None or new.time != old.time:
            self._fix = new
            return FixReceived(new)
        merged = Fix(
            received_s=old.received_s,
            lat=new.lat,
            lon=new.lon,
            time=old.time,
            altitude_m=old.altitude_m if new.altitude_m is None else new.altitude_m,
            accuracy_m=old.accuracy_m if new.accuracy_m is None else new.accuracy_m,
            speed_kmh=old.speed_kmh if new.speed_kmh is None else new.speed_kmh,
            heading=old.heading if new.heading is None else new.heading,
            device=old.device,
        )
        if merged == old:
            return None
        self._fix = merged
        return FixReceived(merged, is_new=False)
