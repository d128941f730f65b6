"""NMEA 0183 sentences, one at a time: checksum, fields, units.

Six sentence types of five talkers are read; anything else that is well formed is
``Ignored`` and can be counted. Units on the way in: degrees and minutes, knots; on the
way out: degrees, metres per second. Field lists: NMEA 0183 version 4.11 as described
in gpsd's "NMEA Revealed".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from simulator.epoch import Gnss, Satellite, SatelliteId
from simulator.errors import NmeaError
from simulator.nmea_fields import date_of, integer, number, position, time_of_day_ms

KNOT_MPS: Final = 1852 / 3600
KMH_MPS: Final = 1 / 3.6
DAY_MS: Final = 86_400_000

TALKERS: Final = frozenset({"GP", "GN", "GL", "GA", "GB"})
NO_FIX_QUALITIES: Final = frozenset({0, 7})
"""GGA qualities that are no measured position: invalid, and typed in by hand."""

_TALKER_GNSS: Final = {"GP": Gnss.GPS, "GL": Gnss.GLONASS, "GA": Gnss.GALILEO, "GB": Gnss.BEIDOU}
_SYSTEM_GNSS: Final = {
    "1": Gnss.GPS,
    "2": Gnss.GLONASS,
    "3": Gnss.GALILEO,
    "4": Gnss.BEIDOU,
    "5": Gnss.QZSS,
}
_FRAME: Final = re.compile(r"[$!]([^$!*]*)\*([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Rmc:
    """Recommended minimum: the only sentence here with a date."""

    talker: str
    time_of_day_ms: int | None
    valid: bool
    lat: float | None
    lon: float | None
    speed_mps: float | None
    track_deg: float | None
    date: date | None


@dataclass(frozen=True, slots=True)
class Gga:
    """Position, quality and altitude."""

    talker: str
    time_of_day_ms: int | None
    quality: int
    lat: float | None
    lon: float | None
    satellites_used: int | None
    hdop: float | None
    altitude_msl_m: float | None
    geoid_separation_m: float | None


@dataclass(frozen=True, slots=True)
class Gsa:
    """Mode (1 none, 2 two-dimensional, 3 three), satellites used, dilutions."""

    talker: str
    mode: int
    used: tuple[SatelliteId, ...]
    pdop: float | None
    hdop: float | None
    vdop: float | None


@dataclass(frozen=True, slots=True)
class Gsv:
    """Up to four satellites in view."""

    talker: str
    satellites: tuple[Satellite, ...]


@dataclass(frozen=True, slots=True)
class Vtg:
    """Track and speed over ground."""

    talker: str
    track_deg: float | None
    speed_mps: float | None


@dataclass(frozen=True, slots=True)
class Gst:
    """Standard deviations of the position, in metres."""

    talker: str
    time_of_day_ms: int | None
    lat_sigma_m: float | None
    lon_sigma_m: float | None
    altitude_sigma_m: float | None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A sound sentence of a kind that is not read; ``address`` is e.g. ``GPGLL``."""

    address: str


Sentence = Rmc | Gga | Gsa | Gsv | Vtg | Gst | Ignored


def checksum(body: str) -> int:
    """The exclusive or of all characters between ``$`` and ``*``."""
    value = 0
    for character in body:
        value ^= ord(character)
    return value


def parse_sentence(text: str) -> Sentence:
    """Read one sentence, from its ``$`` (or ``!``) to its checksum.

    Raises:
        NmeaError: no or a wrong checksum, too few fields, a field out of its range.
    """
    framed = _FRAME.fullmatch(text)
    if framed is None:
        if text.startswith("$P"):
            return Ignored(_address(text[1:]))
        raise NmeaError("no checksum at its end; the line is cut or garbled")
    body, given = framed.groups()
    expected = checksum(body)
    if expected != int(given, 16):
        raise NmeaError(f"checksum is {given.upper()}, its characters give {expected:02X}")
    address = _address(body)
    reader = _READERS.get(address[2:])
    if reader is None or address[:2] not in TALKERS:
        return Ignored(address)
    fields = body.split(",")
    least, read = reader
    if len(fields) < least:
        raise NmeaError(f"{address} has {len(fields)} fields instead of {least}")
    return read(address[:2], fields)


def _address(body: str) -> str:
    return body.split(",", 1)[0][:16]


def _rmc(talker: str, fields: Sequence[str]) -> Rmc:
    valid = fields[2] == "A"
    lat, lon = position(fields[3:7])
    if valid and lat is None:
        raise NmeaError("RMC says valid and gives no position")
    knots = number(fields[7], "speed", 0, 2000)
    return Rmc(
        talker,
        time_of_day_ms(fields[1]),
        valid,
        lat,
        lon,
        None if knots is None else knots * KNOT_MPS,
        number(fields[8], "track", 0, 360),
        date_of(fields[9]),
    )


def _gga(talker: str, fields: Sequence[str]) -> Gga:
    quality = integer(fields[6], "quality", 0, 9) or 0
    lat, lon = position(fields[2:6])
    if quality not in NO_FIX_QUALITIES and lat is None:
        raise NmeaError("GGA says there is a fix and gives no position")
    return Gga(
        talker,
        time_of_day_ms(fields[1]),
        quality,
        lat,
        lon,
        integer(fields[7], "satellites", 0, 255),
        number(fields[8], "hdop", 0, 1000),
        number(fields[9], "altitude", -100_000, 1_000_000),
        number(fields[11], "geoid separation", -1000, 1000),
    )


def _gsa(talker: str, fields: Sequence[str]) -> Gsa:
    system = _SYSTEM_GNSS.get(fields[18]) if len(fields) > 18 else None
    used = []
    for field in fields[3:15]:
        numbered = integer(field, "satellite", 0, 999)
        if numbered:
            used.append(_satellite_id(system or _TALKER_GNSS.get(talker), numbered))
    return Gsa(
        talker,
        integer(fields[2], "mode", 1, 3) or 1,
        tuple(used),
        number(fields[15], "pdop", 0, 1000),
        number(fields[16], "hdop", 0, 1000),
        number(fields[17], "vdop", 0, 1000),
    )


def _gsv(talker: str, fields: Sequence[str]) -> Gsv:
    found = []
    for start in range(4, len(fields) - 3, 4):
        numbered = integer(fields[start], "satellite", 0, 999)
        if not numbered:
            continue
        gnss, svid = _satellite_id(_TALKER_GNSS.get(talker), numbered)
        found.append(
            Satellite(
                gnss,
                svid,
                integer(fields[start + 1], "elevation", -90, 90),
                integer(fields[start + 2], "azimuth", 0, 360),
                integer(fields[start + 3], "signal", 0, 99),
            )
        )
    return Gsv(talker, tuple(found))


def _vtg(talker: str, fields: Sequence[str]) -> Vtg:
    knots = number(fields[5], "speed", 0, 2000)
    kmh = number(fields[7], "speed", 0, 4000)
    speed_mps = kmh * KMH_MPS if kmh is not None else None
    if knots is not None:
        speed_mps = knots * KNOT_MPS
    return Vtg(talker, number(fields[1], "track", 0, 360), speed_mps)


def _gst(talker: str, fields: Sequence[str]) -> Gst:
    return Gst(
        talker,
        time_of_day_ms(fields[1]),
        number(fields[6], "latitude deviation", 0, 1_000_000),
        number(fields[7], "longitude deviation", 0, 1_000_000),
        number(fields[8], "altitude deviation", 0, 1_000_000),
    )


_READERS: Final[dict[str, tuple[int, Callable[[str, Sequence[str]], Sentence]]]] = {
    "RMC": (10, _rmc),
    "GGA": (12, _gga),
    "GSA": (18, _gsa),
    "GSV": (4, _gsv),
    "VTG": (8, _vtg),
    "GST": (9, _gst),
}
"""Sentence type: the least number of fields, the address included, and the reader."""


def _satellite_id(gnss: Gnss | None, number: int) -> SatelliteId:
    # NMEA numbers SBAS as PRN - 87 (33..64) and GLONASS as slot + 64 (65..96), also
    # under talkers that name another system.
    if gnss in {None, Gnss.GPS} and 33 <= number <= 64:
        return Gnss.SBAS, number + 87
    if gnss in {None, Gnss.GPS, Gnss.GLONASS} and 65 <= number <= 96:
        return Gnss.GLONASS, number - 64
    return (Gnss.GPS if gnss is None else gnss), number
