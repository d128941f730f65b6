"""NMEA 0183 sentences, one at a time and pure: checksum, fields, units.

``parse`` is total: for any bytes it gives what is read of a sentence, ``None`` for a sound
one that is not read, or raises :class:`NmeaError`. Field lists: NMEA 0183 version 4.11 as
in gpsd's "NMEA Revealed"; u-blox M10 interface description for what receivers add.

Our own, because it is twice as fast as pynmea2, eleven times as fast as pynmeagps,
and bounds every field: decision 0031, ``bench/nmea.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final, NamedTuple

from agent.sources.gps.accuracy import from_sigmas
from agent.sources.nmea.fields import (
    NmeaError,
    calendar_date,
    date_of,
    integer,
    number,
    position,
    time_of_day_ms,
)

MAX_SENTENCE_BYTES: Final = 512
"""NMEA allows 82; vendors' own have several hundred."""

KNOT_KMH: Final = 1.852
MAX_SPEED_KMH: Final = 2_000.0

TALKERS: Final = frozenset({"GP", "GN", "GL", "GA", "GB", "BD", "GQ", "QZ", "GI", "IN"})
"""GPS, several, GLONASS, Galileo, BeiDou (twice), QZSS (twice), NavIC, integrated navigation."""

NO_FIX_QUALITIES: Final = frozenset({0, 7, 8})
"""GGA's invalid, typed in by hand, and simulated: nothing was measured."""

_GNS_QUALITY: Final = {"A": 1, "D": 2, "P": 3, "R": 4, "F": 5, "E": 6, "M": 7, "S": 8}
_GNS_RANK: Final = "NSMEADPFR"
"""Of the modes of the systems, the best one made the fix."""

_NOT_MEASURED: Final = frozenset("NMS")
"""Mode indicators of RMC and GLL: not valid, by hand, simulated."""


class Rmc(NamedTuple):
    """Recommended minimum: time, position, motion and the date, in one."""

    time_ms: int | None
    is_fix: bool
    lat: float | None
    lon: float | None
    speed_kmh: float | None
    heading: float | None
    date: date | None


class Gga(NamedTuple):
    """Position, quality and altitude; GNS says the same and is one of these."""

    time_ms: int | None
    quality: int
    lat: float | None
    lon: float | None
    satellites: int | None
    hdop: float | None
    altitude_m: float | None


class Gll(NamedTuple):
    """Position and time."""

    time_ms: int | None
    is_fix: bool
    lat: float | None
    lon: float | None


class Gst(NamedTuple):
    """The receiver's own estimate of its error: a radius of 95 %, metres."""

    time_ms: int | None
    accuracy_m: float | None


class Zda(NamedTuple):
    """Time and full date."""

    time_ms: int | None
    date: date | None


class Gsa(NamedTuple):
    """1 no fix, 2 two-dimensional, 3 three-dimensional."""

    mode: int
    hdop: float | None


class Gsv(NamedTuple):
    """How many satellites of one system are in view, whether or not they are heard."""

    talker: str
    in_view: int


class Vtg(NamedTuple):
    """Course and speed over ground; of no time of its own."""

    speed_kmh: float | None
    heading: float | None


class Txt(NamedTuple):
    """A remark of the receiver."""

    text: str


Sentence = Rmc | Gga | Gll | Gst | Zda | Gsa | Gsv | Vtg | Txt


def checksum(body: bytes) -> int:
    """The exclusive or of all bytes between ``$`` and ``*``, at most ``MAX_SENTENCE_BYTES``.

    Folded as one large number, which is five times as fast as byte by byte.
    """
    value = int.from_bytes(body, "little")
    if len(body) > 128:
        value ^= value >> 2048
        value ^= value >> 1024
    for shift in (512, 256, 128, 64, 32, 16, 8):
        value ^= value >> shift
    return value & 0xFF


def parse(sentence: bytes) -> Sentence | None:
    """Read one sentence, from its ``$`` to its checksum; ``None`` if its kind is not read.

    Raises:
        NmeaError: no or a wrong checksum, too few fields, a field of no sense.
    """
    if not sentence.startswith(b"$") or sentence[-3:-2] != b"*":
        raise NmeaError("no $ at its beginning or no checksum at its end")
    if len(sentence) > MAX_SENTENCE_BYTES:
        raise NmeaError(f"longer than {MAX_SENTENCE_BYTES} bytes")
    body = sentence[1:-3]
    try:
        given = int(sentence[-2:], 16)
        text = body.decode("ascii")
    except ValueError:
        raise NmeaError("not plain ASCII, or no hexadecimal checksum") from None
    found = checksum(body)
    if found != given:
        raise NmeaError(f"its checksum is {given:02X}, its characters give {found:02X}")
    reader = _READERS.get(text[2:5])
    if reader is None or text[5:6] != "," or text[:2] not in TALKERS:
        return None
    least, read = reader
    fields = text.split(",")
    if len(fields) < least:
        raise NmeaError(f"{fields[0]} has {len(fields)} fields instead of {least}")
    # Python's own numbers may be written with underscores
    if "_" in text and read is not _txt:
        raise NmeaError(f"{fields[0]} has a field that is no number")
    return read(fields)


def _rmc(fields: list[str]) -> Rmc:
    is_fix = fields[2] == "A" and (len(fields) < 13 or fields[12] not in _NOT_MEASURED)
    lat, lon = position(*fields[3:7])
    knots = number(fields[7], 0, MAX_SPEED_KMH / KNOT_KMH)
    speed_kmh = None if knots is None else round(knots * KNOT_KMH, 3)
    return Rmc(
        time_of_day_ms(fields[1]), is_fix, lat, lon, speed_kmh, number(fields[8], 0, 360),
        date_of(fields[9]),
    )  # fmt: skip


def _gga(fields: list[str]) -> Gga:
    return _gga_or_gns(fields, integer(fields[6], 9) or 0)


def _gns(fields: list[str]) -> Gga:
    best = max(fields[6], key=_GNS_RANK.find, default="N")
    return _gga_or_gns(fields, _GNS_QUALITY.get(best, 0))


def _gga_or_gns(fields: list[str], quality: int) -> Gga:
    lat, lon = position(*fields[2:6])
    return Gga(
        time_of_day_ms(fields[1]), quality, lat, lon, integer(fields[7], 255),
        number(fields[8], 0, 1_000), number(fields[9], -12_000, 100_000),
    )  # fmt: skip


def _gll(fields: list[str]) -> Gll:
    is_fix = fields[6] == "A" and (len(fields) < 8 or fields[7] not in _NOT_MEASURED)
    lat, lon = position(*fields[1:5])
    return Gll(time_of_day_ms(fields[5]), is_fix, lat, lon)


def _gst(fields: list[str]) -> Gst:
    lat_m, lon_m = number(fields[6], 0, 1e6), number(fields[7], 0, 1e6)
    if lat_m is None or lon_m is None:
        return Gst(time_of_day_ms(fields[1]), None)
    return Gst(time_of_day_ms(fields[1]), round(from_sigmas(lat_m, lon_m), 3))


def _zda(fields: list[str]) -> Zda:
    day, month, year = fields[2:5]
    # before its first fix a receiver leaves the date empty or makes one up
    known = day and month and len(year) == 4 and "1980" <= year < "2100"
    return Zda(time_of_day_ms(fields[1]), calendar_date(year, month, day) if known else None)


def _gsa(fields: list[str]) -> Gsa:
    return Gsa(integer(fields[2], 3) or 1, number(fields[16], 0, 1_000))


def _gsv(fields: list[str]) -> Gsv:
    return Gsv(fields[0][:2], integer(fields[3], 255) or 0)


def _vtg(fields: list[str]) -> Vtg:
    if len(fields) > 9 and fields[9] in _NOT_MEASURED:
        return Vtg(None, None)
    knots = number(fields[5], 0, MAX_SPEED_KMH / KNOT_KMH)
    if knots is not None:
        speed_kmh: float | None = round(knots * KNOT_KMH, 3)
    else:
        speed_kmh = number(fields[7], 0, MAX_SPEED_KMH)
    return Vtg(speed_kmh, number(fields[1], 0, 360))


def _txt(fields: list[str]) -> Txt:
    return Txt(",".join(fields[4:]))


_READERS: Final[dict[str, tuple[int, Callable[[list[str]], Sentence]]]] = {
    "RMC": (10, _rmc),
    "GGA": (10, _gga),
    "GNS": (10, _gns),
    "GLL": (7, _gll),
    "GST": (8, _gst),
    "ZDA": (5, _zda),
    "GSA": (18, _gsa),
    "GSV": (4, _gsv),
    "VTG": (8, _vtg),
    "TXT": (5, _txt),
}
"""Kind: the least number of fields, the address included, and what reads them."""
