"""Epochs as NMEA 0183 sentences (version 4.11), as a two-system receiver sends them.

Each epoch is RMC, VTG, GGA, GSA (one a system), GST; every ``GSV_EVERY_S`` GSV as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from simulator.synth.receiver import GEOID_SEPARATION_M, Reception, SatelliteInView

GSV_EVERY_S: Final = 5
KNOTS_PER_MPS: Final = 3600 / 1852
SATELLITES_PER_GSV: Final = 4
GSA_SLOTS: Final = 12
SYSTEMS: Final = (("GP", 1), ("GA", 3))
"""Talker and NMEA system id of the two systems, as GSV and GSA name them."""


def sentence(body: str) -> str:
    """``body`` with its frame and checksum, no line end."""
    checksum = 0
    for character in body.encode("ascii"):
        checksum ^= character
    return f"${body}*{checksum:02X}"


def sentences(epochs: Sequence[Reception]) -> Iterator[str]:
    """All sentences of a drive, in the receiver's order."""
    for epoch in epochs:
        yield sentence(_rmc(epoch))
        yield sentence(_vtg(epoch))
        yield sentence(_gga(epoch))
        for (_, system), satellites in _by_system(epoch):
            yield sentence(_gsa(epoch, system, satellites))
        if epoch.time.microsecond == 0 and epoch.time.second % GSV_EVERY_S == 0:
            for (talker, _), satellites in _by_system(epoch):
                yield from map(sentence, _gsv(talker, satellites))
        yield sentence(_gst(epoch))


def _by_system(
    epoch: Reception,
) -> list[tuple[tuple[str, int], tuple[SatelliteInView, ...]]]:
    return list(zip(SYSTEMS, (epoch.gps, epoch.galileo), strict=True))


def _time(epoch: Reception) -> str:
    return f"{epoch.time:%H%M%S}.{epoch.time.microsecond // 10_000:02d}"


def _angle(degrees: float, digits: int) -> str:
    """Degrees and minutes with five decimals, 2 cm; carries from 60 minutes properly."""
    hundred_thousandths = round(abs(degrees) * 60 * 100_000)
    whole, rest = divmod(hundred_thousandths, 60 * 100_000)
    return f"{whole:0{digits}d}{rest // 100_000:02d}.{rest % 100_000:05d}"


def _place(epoch: Reception) -> str:
    if not epoch.fix:
        return ",,,"
    north, east = "N" if epoch.lat >= 0 else "S", "E" if epoch.lon >= 0 else "W"
    return f"{_angle(epoch.lat, 2)},{north},{_angle(epoch.lon, 3)},{east}"


def _course(epoch: Reception) -> str:
    if not epoch.fix or epoch.course_deg is None:
        return ""
    return f"{round(epoch.course_deg, 2) % 360:.2f}"


def _rmc(epoch: Reception) -> str:
    speed = f"{epoch.speed_mps * KNOTS_PER_MPS:.3f}" if epoch.fix else ""
    state, mode = ("A", "A") if epoch.fix else ("V", "N")
    return (
        f"GNRMC,{_time(epoch)},{state},{_place(epoch)},{speed},{_course(epoch)},"
        f"{epoch.time:%d%m%y},,,{mode},V"
    )


def _vtg(epoch: Reception) -> str:
    if not epoch.fix:
        return "GNVTG,,T,,M,,N,,K,N"
    knots, kmh = epoch.speed_mps * KNOTS_PER_MPS, epoch.speed_mps * 3.6
    return f"GNVTG,{_course(epoch)},T,,M,{knots:.3f},N,{kmh:.3f},K,A"


def _used(satellites: tuple[SatelliteInView, ...]) -> list[int]:
    return [one.number for one in satellites if one.snr_dbhz is not None and one.elevation_deg > 8]


def _gga(epoch: Reception) -> str:
    if not epoch.fix:
        return f"GNGGA,{_time(epoch)},,,,,0,00,99.99,,,,,,"
    used = min(GSA_SLOTS, len(_used(epoch.gps)) + len(_used(epoch.galileo)))
    return (
        f"GNGGA,{_time(epoch)},{_place(epoch)},1,{used:02d},{epoch.hdop:.2f},"
        f"{epoch.altitude_m:.1f},M,{GEOID_SEPARATION_M:.1f},M,,"
    )


def _gsa(epoch: Reception, system: int, satellites: tuple[SatelliteInView, ...]) -> str:
    if not epoch.fix:
        return f"GNGSA,A,1,{',' * GSA_SLOTS}99.99,99.99,99.99,{system}"
    used = _used(satellites)[:GSA_SLOTS]
    slots = [f"{number:02d}" for number in used] + [""] * (GSA_SLOTS - len(used))
    pdop = math.hypot(epoch.hdop, epoch.vdop)
    return f"GNGSA,A,3,{','.join(slots)},{pdop:.2f},{epoch.hdop:.2f},{epoch.vdop:.2f},{system}"


def _gsv(talker: str, satellites: tuple[SatelliteInView, ...]) -> Iterator[str]:
    pages = math.ceil(len(satellites) / SATELLITES_PER_GSV)
    for page in range(pages):
        shown = satellites[page * SATELLITES_PER_GSV : (page + 1) * SATELLITES_PER_GSV]
        fields = [
            f"{one.number:02d},{one.elevation_deg:02d},{one.azimuth_deg:03d},"
            + (f"{one.snr_dbhz:02d}" if one.snr_dbhz is not None else "")
            for one in shown
        ]
        yield f"{talker}GSV,{pages},{page + 1},{len(satellites):02d},{','.join(fields)},1"


def _gst(epoch: Reception) -> str:
    if not epoch.fix:
        return f"GNGST,{_time(epoch)},,,,,,,"
    rms = math.hypot(epoch.lat_sigma_m, epoch.lon_sigma_m)
    return (
        f"GNGST,{_time(epoch)},{rms:.1f},{epoch.lat_sigma_m:.1f},{epoch.lon_sigma_m:.1f},0.0,"
        f"{epoch.lat_sigma_m:.1f},{epoch.lon_sigma_m:.1f},{epoch.altitude_sigma_m:.1f}"
    )
