"""Fields of NMEA sentences: text to numbers within bounds, or a reason why not. Pure.

An empty field is ``None``: the receiver does not know. Everything else that is not of the
field's form or out of its range raises :class:`NmeaError`.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

_SAME: Final = 8
"""A receiver says the same time and place in several sentences, and the date all day."""


class NmeaError(ValueError):
    """A sentence that cannot be used, e.g. its checksum is wrong; says why."""


def number(field: str, least: float, most: float) -> float | None:
    """A number within its bounds; ``None`` where the receiver does not know it."""
    # some receivers print 0NaN for a dilution that they cannot compute
    if not field or field.endswith("NaN"):
        return None
    try:
        value = float(field)
    except ValueError:
        raise NmeaError(f"{field[:20]!r} is no number") from None
    if least <= value <= most:
        return value
    raise NmeaError(f"{field[:20]} is not between {least:g} and {most:g}")


def integer(field: str, most: int) -> int | None:
    """As ``number``, from 0, rounded: some receivers print ``08.0`` satellites."""
    value = number(field, 0, most)
    return None if value is None else round(value)


@lru_cache(_SAME)
def time_of_day_ms(field: str) -> int | None:
    """``hhmmss.sss`` as milliseconds since midnight; 23:59:60 is a leap second."""
    if not field:
        return None
    try:
        hours, minutes, seconds = int(field[:2]), int(field[2:4]), float(field[4:])
    except ValueError:
        raise NmeaError(f"{field[:20]!r} is no time hhmmss") from None
    if not (field[:6].isdigit() and hours < 24 and minutes < 60 and 0 <= seconds < 61):
        raise NmeaError(f"there is no time {field[:20]!r}")
    return hours * 3_600_000 + minutes * 60_000 + round(seconds * 1_000)


@lru_cache(_SAME)
def date_of(field: str) -> date | None:
    """``ddmmyy``; GPS time began in 1980, so 80 to 99 belong to the last century."""
    if not field:
        return None
    day, month, year = field[:2], field[2:4], field[4:]
    if len(year) != 2:
        raise NmeaError(f"{field[:20]!r} is no date ddmmyy")
    return calendar_date(("19" if year >= "80" else "20") + year, month, day)


def calendar_date(year: str, month: str, day: str) -> date:
    """Three texts of digits; the year is whole."""
    try:
        # with many digits it would be an OverflowError
        return date(int(year), int(month[:3]), int(day[:3]))
    except ValueError:
        raise NmeaError(f"there is no date {year[:9]}-{month[:9]}-{day[:9]}") from None


@lru_cache(_SAME)
def position(lat: str, south: str, lon: str, west: str) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees, north and east positive; both or neither."""
    if not (lat or lon):
        return None, None
    return _angle(lat, 4, south, "NS", 90), _angle(lon, 5, west, "EW", 180)


def _angle(field: str, digits: int, side: str, sides: str, most: int) -> float:
    # all leading zeros must be there: two equal bytes that a line lost pass the checksum
    if not field[:digits].isdigit() or field[digits : digits + 1] not in {".", ""}:
        raise NmeaError(f"{field[:20]!r} is no angle in degrees and minutes")
    try:
        degrees, minutes = divmod(float(field), 100)
    except ValueError:
        raise NmeaError(f"{field[:20]!r} is no angle in degrees and minutes") from None
    angle = degrees + minutes / 60
    if not (angle <= most and minutes < 60 and side and side in sides):
        raise NmeaError(f"{field[:20]} {side[:4]!r} is not on the Earth")
    return -round(angle, 9) if side == sides[1] else round(angle, 9)
