"""Epochs as gpsd's JSON reports (``man gpsd_json``, protocol 3.14).

Units are gpsd's: degrees, metres, metres per second; error estimates are 95 %. What the
log does not say is left out, as gpsd does. ``hAcc`` is never sent: NMEA has no such field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import hypot, sqrt
from typing import Any, Final

from simulator.epoch import Epoch, FixMode, Gnss, Satellite

Report = dict[str, Any]

PROTO_MAJOR: Final = 3
PROTO_MINOR: Final = 14
RELEASE: Final = "3.22"
"""The gpsd release whose protocol is spoken; clients compare it with their own."""

_HORIZONTAL_ERROR_M: Final = 19.0
_EACH_AXIS_ERROR_M: Final = 15.0
_VERTICAL_ERROR_M: Final = 23.0
"""95 % error at a dilution of 1, as gpsd assumes it for an autonomous fix."""

_BETTER_BY: Final = {2: 4.0, 4: 150.0, 5: 15.0}
"""By GGA quality: differential as in gpsd, RTK fixed, RTK float."""
_SIGMAS_95: Final = 1.96
_UNKNOWN_DILUTION: Final = 99.0
"""Receivers print 99.99 for a dilution that they do not know."""

_STATUS: Final = {2: 2, 4: 3, 5: 4, 6: 5}
"""GGA quality to TPV status: DGPS, RTK fixed, RTK float, dead reckoning."""

_FIRST_PRN: Final = {Gnss.GLONASS: 64, Gnss.GALILEO: 300, Gnss.BEIDOU: 400}
"""gpsd numbers all satellites in one space; SBAS and GPS keep their own numbers."""


def encode(report: Mapping[str, Any]) -> bytes:
    """One report as it goes over the socket."""
    return json.dumps(report, separators=(",", ":")).encode() + b"\r\n"


def version() -> Report:
    """The greeting."""
    return {
        "class": "VERSION",
        "release": RELEASE,
        "rev": "milepost-sim",
        "proto_major": PROTO_MAJOR,
        "proto_minor": PROTO_MINOR,
    }


def device(path: str, activated: str, interval_s: float) -> Report:
    """The one device: the replayed receiver."""
    return {
        "class": "DEVICE",
        "path": path,
        "driver": "NMEA0183",
        "activated": activated,
        "flags": 1,
        "native": 0,
        "bps": 9600,
        "parity": "N",
        "stopbits": 1,
        "cycle": interval_s,
    }


def devices(listed: Iterable[Report]) -> Report:
    """The answer to ``?DEVICES;`` and the first answer to ``?WATCH``."""
    return {"class": "DEVICES", "devices": list(listed)}


def watch(*, enable: bool, json_on: bool) -> Report:
    """The policy in force for one client."""
    return {
        "class": "WATCH",
        "enable": enable,
        "json": json_on,
        "nmea": False,
        "raw": 0,
        "scaled": False,
        "timing": False,
        "split24": False,
        "pps": False,
    }


def poll(time: str, tpv_report: Report, sky_report: Report) -> Report:
    """The answer to ``?POLL;``: the newest reports, however old they are."""
    return {
        "class": "POLL",
        "time": time,
        "active": 1,
        "tpv": [tpv_report],
        "gst": [],
        "sky": [sky_report],
    }


def error(message: str) -> Report:
    """The answer to what cannot be understood."""
    return {"class": "ERROR", "message": message}


def unknown_fix(path: str) -> Report:
    """TPV before anything was received."""
    return {"class": "TPV", "device": path, "mode": 0}


def unknown_sky(path: str) -> Report:
    """SKY before anything was received."""
    return {"class": "SKY", "device": path}


def tpv(epoch: Epoch, path: str, time: str | None) -> Report:
    """Time, position, velocity; only mode and time where there is no fix."""
    report: Report = {"class": "TPV", "device": path, "mode": int(epoch.mode)}
    if time is not None:
        report |= {"time": time, "ept": 0.005}
    if not epoch.has_fix:
        return report
    status = _STATUS.get(epoch.quality or 0)
    report |= _given(
        status=status,
        lat=_rounded(epoch.lat, 9),
        lon=_rounded(epoch.lon, 9),
        altHAE=_rounded(_ellipsoid_height_m(epoch), 4),
        altMSL=_rounded(epoch.altitude_msl_m, 4),
        alt=_rounded(epoch.altitude_msl_m, 4),
        geoidSep=_rounded(epoch.geoid_separation_m, 4),
        track=_rounded(epoch.track_deg, 4),
        speed=_rounded(epoch.speed_mps, 3),
    )
    return report | _errors(epoch)


def sky(epoch: Epoch, path: str, time: str | None) -> Report | None:
    """Satellites and dilutions; ``None`` where the log says nothing of them."""
    report: Report = {"class": "SKY", "device": path}
    if time is not None:
        report["time"] = time
    found = _given(hdop=epoch.hdop, pdop=epoch.pdop, vdop=epoch.vdop)
    if epoch.satellites:
        found |= {
            "nSat": len(epoch.satellites),
            "uSat": sum(satellite.used for satellite in epoch.satellites),
            "satellites": [_satellite(satellite) for satellite in epoch.satellites],
        }
    return report | found if found else None


def _satellite(satellite: Satellite) -> Report:
    return {
        "PRN": _FIRST_PRN.get(satellite.gnss, 0) + satellite.svid,
        "gnssid": int(satellite.gnss),
        "svid": satellite.svid,
        **_given(el=satellite.elevation_deg, az=satellite.azimuth_deg, ss=satellite.snr_dbhz),
        "used": satellite.used,
    }


def _ellipsoid_height_m(epoch: Epoch) -> float | None:
    if epoch.altitude_msl_m is None or epoch.geoid_separation_m is None:
        return None
    return epoch.altitude_msl_m + epoch.geoid_separation_m


def _errors(epoch: Epoch) -> Report:
    """``eph``, ``epx``, ``epy``, ``epv``: from GST where the log has it, else from dilutions."""
    in_3d = epoch.mode is FixMode.FIX_3D
    if epoch.lat_sigma_m is not None and epoch.lon_sigma_m is not None:
        # 2DRMS: at least 95 % whatever the shape of the ellipse.
        horizontal_m = 2 * hypot(epoch.lat_sigma_m, epoch.lon_sigma_m)
        sigma_m = epoch.altitude_sigma_m
        return _given(
            epx=_rounded(_SIGMAS_95 * epoch.lon_sigma_m, 3),
            epy=_rounded(_SIGMAS_95 * epoch.lat_sigma_m, 3),
            eph=_rounded(horizontal_m, 3),
            epv=_rounded(_SIGMAS_95 * sigma_m, 3) if in_3d and sigma_m is not None else None,
        )
    better_by = _BETTER_BY.get(epoch.quality or 0, 1.0)
    found: Report = {}
    if epoch.hdop is not None and epoch.hdop < _UNKNOWN_DILUTION:
        each_m = _rounded(epoch.hdop / sqrt(2) * _EACH_AXIS_ERROR_M / better_by, 3)
        both_m = _rounded(epoch.hdop * _HORIZONTAL_ERROR_M / better_by, 3)
        found = {"epx": each_m, "epy": each_m, "eph": both_m}
    if in_3d and epoch.vdop is not None and epoch.vdop < _UNKNOWN_DILUTION:
        found["epv"] = _rounded(epoch.vdop * _VERTICAL_ERROR_M / better_by, 3)
    return found


def _given(**fields: Any) -> Report:
    return {name: value for name, value in fields.items() if value is not None}


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)
