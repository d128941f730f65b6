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
_NUMBER: Final = re.compile(r"[+-]?\d{1,9}(?:\.\d{0,12})?", re.ASCII)
_TIME: Final = re.compile(r"(\d\d)(\d\d)(\d\d(?:\.\d{0,9})?)", re.ASCII)
_DATE: Final = re.compile(r"(\d\d)(\d\d)(\d\d)", re.ASCII)
_ANGLE: Final = re.compile(r"(\d{1,3})(\d\d(?:\.\d{0,12})?)", re.ASCII)


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
    lat, lon = _position(fields[3:7])
    if valid and lat is None:
        raise NmeaError("RMC says valid and gives no position")
    knots = _number(fields[7], "speed", 0, 2000)
    return Rmc(
        talker,
        _time_of_day_ms(fields[1]),
        valid,
        lat,
        lon,
        None if knots is None else knots * KNOT_MPS,
        _number(fields[8], "track", 0, 360),
        _date(fields[9]),
    )


def _gga(talker: str, fields: Sequence[str]) -> Gga:
    quality = _integer(fields[6], "quality", 0, 9) or 0
    lat, lon = _position(fields[2:6])
    if quality not in NO_FIX_QUALITIES and lat is None:
        raise NmeaError("GGA says there is a fix and gives no position")
    return Gga(
        talker,
        _time_of_day_ms(fields[1]),
        quality,
        lat,
        lon,
        _integer(fields[7], "satellites", 0, 255),
        _number(fields[8], "hdop", 0, 1000),
        _number(fields[9], "altitude", -100_000, 1_000_000),
        _number(fields[11], "geoid separation", -1000, 1000),
    )


def _gsa(talker: str, fields: Sequence[str]) -> Gsa:
    system = _SYSTEM_GNSS.get(fields[18]) if len(fields) > 18 else None
    used = []
    for field in fields[3:15]:
        number = _integer(field, "satellite", 0, 999)
        if number:
            used.append(_satellite_id(system or _TALKER_GNSS.get(talker), number))
    return Gsa(
        talker,
        _integer(fields[2], "mode", 1, 3) or 1,
        tuple(used),
        _number(fields[15], "pdop", 0, 1000),
        _number(fields[16], "hdop", 0, 1000),
        _number(fields[17], "vdop", 0, 1000),
    )


def _gsv(talker: str, fields: Sequence[str]) -> Gsv:
    found = []
    for start in range(4, len(fields) - 3, 4):
        number = _integer(fields[start], "satellite", 0, 999)
        if not number:
            continue
        gnss, svid = _satellite_id(_TALKER_GNSS.get(talker), number)
        found.append(
            Satellite(
                gnss,
                svid,
                _integer(fields[start + 1], "elevation", -90, 90),
                _integer(fields[start + 2], "azimuth", 0, 360),
                _integer(fields[start + 3], "signal", 0, 99),
            )
        )
    return Gsv(talker, tuple(found))


def _vtg(talker: str, fields: Sequence[str]) -> Vtg:
    knots = _number(fields[5], "speed", 0, 2000)
    kmh = _number(fields[7], "speed", 0, 4000)
    speed_mps = kmh * KMH_MPS if kmh is not None else None
    if knots is not None:
        speed_mps = knots * KNOT_MPS
    return Vtg(talker, _number(fields[1], "track", 0, 360), speed_mps)


def _gst(talker: str, fields: Sequence[str]) -> Gst:
    return Gst(
        talker,
        _time_of_day_ms(fields[1]),
        _number(fields[6], "latitude deviation", 0, 1_000_000),
        _number(fields[7], "longitude deviation", 0, 1_000_000),
        _number(fields[8], "altitude deviation", 0, 1_000_000),
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


def _number(field: str, name: str, least: float, most: float) -> float | None:
    # Some receivers print 0NaN for a dilution that they cannot compute.
    if not field or field.endswith("NaN"):
        return None
    if not _NUMBER.fullmatch(field):
        raise NmeaError(f"{name} {field[:20]!r} is not a number")
    value = float(field)
    if not least <= value <= most:
        raise NmeaError(f"{name} {field[:20]} is not between {least} and {most}")
    return value


def _integer(field: str, name: str, least: int, most: int) -> int | None:
    value = _number(field, name, least, most)
    return None if value is None else round(value)


def _time_of_day_ms(field: str) -> int | None:
    if not field:
        return None
    parts = _TIME.fullmatch(field)
    if parts is None:
        raise NmeaError(f"time {field[:20]!r} is not hhmmss")
    hours, minutes, seconds = int(parts[1]), int(parts[2]), float(parts[3])
    # 23:59:60 is a leap second.
    if hours > 23 or minutes > 59 or seconds >= 61:
        raise NmeaError(f"time {field[:20]} does not exist")
    return hours * 3_600_000 + minutes * 60_000 + round(seconds * 1000)


def _date(field: str) -> date | None:
    if not field:
        return None
    parts = _DATE.fullmatch(field)
    if parts is None:
        raise NmeaError(f"date {field[:20]!r} is not ddmmyy")
    day, month, year = (int(part) for part in parts.groups())
    try:
        # GPS time began in 1980, so 80 to 99 belong to the last century.
        return date(year + (1900 if year >= 80 else 2000), month, day)
    except ValueError:
        raise NmeaError(f"date {field} does not exist") from None


def _position(fields: Sequence[str]) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees, north and east positive; both or neither."""
    if not any(fields):
        return None, None
    return _angle(fields[0], fields[1], "NS", 90), _angle(fields[2], fields[3], "EW", 180)


def _angle(field: str, side: str, sides: str, most: int) -> float:
    parts = _ANGLE.fullmatch(field)
    if parts is None or side not in sides or not side:
        raise NmeaError(f"position {field[:20]!r} {side[:4]!r} is not degrees and minutes")
    minutes = float(parts[2])
    degrees = int(parts[1]) + minutes / 60
    if minutes >= 60 or degrees > most:
        raise NmeaError(f"position {field[:20]} is not on the Earth")
    return -degrees if side == sides[1] else degrees
