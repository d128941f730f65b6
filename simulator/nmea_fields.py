"""Fields of NMEA sentences: text to numbers, or a reason why not.

An empty field is ``None``: the receiver does not know. Each function raises ``NmeaError``
for a field that is not of its form or out of its range.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Final

from simulator.errors import NmeaError

_NUMBER: Final = re.compile(r"[+-]?\d{1,9}(?:\.\d{0,12})?", re.ASCII)
_TIME: Final = re.compile(r"(\d\d)(\d\d)(\d\d(?:\.\d{0,9})?)", re.ASCII)
_DATE: Final = re.compile(r"(\d\d)(\d\d)(\d\d)", re.ASCII)
_ANGLE: Final = re.compile(r"(\d{1,3})(\d\d(?:\.\d{0,12})?)", re.ASCII)


def number(field: str, name: str, least: float, most: float) -> float | None:
    """A decimal number between two bounds; ``name`` is for the reason."""
    # Some receivers print 0NaN for a dilution that they cannot compute.
    if not field or field.endswith("NaN"):
        return None
    if not _NUMBER.fullmatch(field):
        raise NmeaError(f"{name} {field[:20]!r} is not a number")
    value = float(field)
    if not least <= value <= most:
        raise NmeaError(f"{name} {field[:20]} is not between {least} and {most}")
    return value


def integer(field: str, name: str, least: int, most: int) -> int | None:
    """As ``number``, rounded: some receivers print ``08.0`` satellites."""
    value = number(field, name, least, most)
    return None if value is None else round(value)


def time_of_day_ms(field: str) -> int | None:
    """``hhmmss.sss``, in milliseconds since midnight."""
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


def date_of(field: str) -> date | None:
    """``ddmmyy``."""
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


def position(fields: Sequence[str]) -> tuple[float | None, float | None]:
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
