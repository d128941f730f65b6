"""``parse_time`` and ``time_to_epoch``: times by patterns of letters.

Letters: ``G y u Y M d D E e a h H k K m s S`` and the zones ``z Z V X x``; text in single
quotes stands for itself. A pattern with another letter gives Undefined. Names are English.
Sources: Joda-Time ``DateTimeFormat`` (parse_time), Java 11 ``DateTimeFormatter``
(time_to_epoch), as the developer guide says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cloud.iotsql.functions.registry import Function
from cloud.iotsql.values import UNDEFINED, Value, to_floor, to_text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PIECE: Final = re.compile(r"''|'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
_OFFSET: Final = re.compile(r"(?:UTC|GMT|UT)?([+-])(\d{1,2})(?::?(\d{2}))?")
_NUMBERS: Final = {
    "d": "day",
    "D": "day_of_year",
    "H": "hour",
    "k": "hour_from_1",
    "h": "half_hour_from_1",
    "K": "half_hour",
    "m": "minute",
    "s": "second",
}


class _UnknownPatternError(ValueError):
    """A letter that has no meaning here."""


def _pieces(pattern: str) -> Iterator[tuple[str, str]]:
    """(letter, run of it) or ('', literal text)."""
    position = 0
    while position < len(pattern):
        found = _PIECE.match(pattern, position)
        if found is None:
            raise _UnknownPatternError(pattern)
        position = found.end()
        if found.group(2):
            yield found.group(2), found.group()
        elif found.group(1) is not None:
            yield "", found.group(1).replace("''", "'")
        else:
            yield "", "'" if found.group() == "''" else found.group()


@lru_cache(maxsize=128)
def zone(name: str) -> tzinfo | None:
    """A zone by its name or offset; None when there is none."""
    if name in {"UTC", "Z", "GMT", "UT"}:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        if minutes > 18 * 60:
            return None
        return timezone(timedelta(minutes=minutes if offset[1] == "+" else -minutes))
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return None


def parse_time(pattern: Value, milliseconds: Value, zone_name: Value = "UTC") -> Value:
    """Milliseconds since 1970 as text."""
    template, moment = to_text(pattern), to_floor(milliseconds)
    where = zone(zone_name) if type(zone_name) is str else None
    if template is None or moment is None or where is None:
        return UNDEFINED
    try:
        local = (_EPOCH + timedelta(milliseconds=moment)).astimezone(where)
        return "".join(
            _format(letter, text, local) if letter else text for letter, text in _pieces(template)
        )
    except (_UnknownPatternError, OverflowError, ValueError):
        return UNDEFINED


def _format(letter: str, run: str, moment: datetime) -> str:
    width = len(run)
    match letter:
        case "G":
            return "AD"
        case "y" | "u" | "Y":
            year = moment.year % 100 if width == 2 else moment.year
            return str(year).zfill(width)
        case "M" if width >= 3:
            return _MONTHS[moment.month - 1][: None if width > 3 else 3]
        case "E":
            return _DAYS[moment.weekday()][: None if width > 3 else 3]
        case "a":
            return "AM" if moment.hour < 12 else "PM"
        case "S":
            return f"{moment.microsecond:06d}".ljust(width, "0")[:width]
        case "z" | "V":
            return (moment.tzname() or "") if width < 4 or letter == "V" else _zone_id(moment)
        case "Z" if width > 2:
            return _zone_id(moment)
        case "Z" | "X" | "x":
            return _format_offset(letter, width, moment)
    numbers = {
        "M": moment.month,
        "d": moment.day,
        "D": moment.timetuple().tm_yday,
        "e": moment.isoweekday(),
        "h": moment.hour % 12 or 12,
        "K": moment.hour % 12,
        "H": moment.hour,
        "k": moment.hour or 24,
        "m": moment.minute,
        "s": moment.second,
    }
    if letter not in numbers:
        raise _UnknownPatternError(letter)
    return str(numbers[letter]).zfill(width)


def _zone_id(moment: datetime) -> str:
    return str(moment.tzinfo) if isinstance(moment.tzinfo, ZoneInfo) else (moment.tzname() or "")


def _format_offset(letter: str, width: int, moment: datetime) -> str:
    offset = moment.utcoffset() or timedelta()
    if letter == "X" and not offset:
        return "Z"
    minutes = int(offset.total_seconds()) // 60
    sign, minutes = ("-" if minutes < 0 else "+"), abs(minutes)
    colon = ":" if (letter == "Z" and width == 2) or (letter in "Xx" and width >= 3) else ""
    if letter in "Xx" and width == 1 and minutes % 60 == 0:
        return f"{sign}{minutes // 60:02d}"
    return f"{sign}{minutes // 60:02d}{colon}{minutes % 60:02d}"


@lru_cache(maxsize=128)
def _reader(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile("".join(_expression(letter, run) for letter, run in _pieces(pattern)))
    except (_UnknownPatternError, re.error):
        return None


def _expression(letter: str, run: str) -> str:
    width = len(run)
    if not letter:
        return re.escape(run)
    if letter in "yu":
        digits = r"\d{2}" if width == 2 else rf"\d{{{width},9}}"
        return f"(?P<year{2 if width == 2 else ''}>{digits})"
    if letter == "M" and width >= 3:
        names = _MONTHS if width > 3 else [name[:3] for name in _MONTHS]
        return f"(?P<month_name>{'|'.join(names)})"
    if letter == "M":
        return rf"(?P<month>\d{{{width},2}})"
    if letter == "E":
        return "(?:" + "|".join(_DAYS if width > 3 else [name[:3] for name in _DAYS]) + ")"
    if letter == "G":
        return "AD"
    if letter == "a":
        return "(?P<half>AM|PM)"
    if letter == "S":
        return rf"(?P<fraction>\d{{{width}}})"
    if letter in "zVXxZ":
        return r"(?P<zone>[A-Za-z][A-Za-z0-9_/+:-]*|[+-]\d{1,2}(?::?\d{2})?)"
    if letter in _NUMBERS:
        return rf"(?P<{_NUMBERS[letter]}>\d{{{width},{max(width, 3 if letter == 'D' else 2)}}})"
    raise _UnknownPatternError(letter)


def time_to_epoch(text: Value, pattern: Value) -> Value:
    """Text as milliseconds since 1970, in UTC where it names no zone."""
    written, template = to_text(text), to_text(pattern)
    reader = None if template is None else _reader(template)
    found = reader.fullmatch(written) if reader and written is not None else None
    if found is None:
        return UNDEFINED
    try:
        return _milliseconds({key: value for key, value in found.groupdict().items() if value})
    except (OverflowError, ValueError):
        return UNDEFINED


def _milliseconds(part: dict[str, str]) -> Value:
    year = 2000 + int(part["year2"]) if "year2" in part else int(part.get("year", "1970"))
    month = int(part.get("month", "1"))
    if "month_name" in part:
        month = next(
            index for index, name in enumerate(_MONTHS, 1) if name.startswith(part["month_name"])
        )
    hour = int(part.get("hour", part.get("hour_from_1", "0"))) % 24
    if "half_hour" in part or "half_hour_from_1" in part:
        hour = int(part.get("half_hour", part.get("half_hour_from_1", "0"))) % 12
        hour += 12 if part.get("half") == "PM" else 0
    where = zone(part.get("zone", "UTC"))
    if where is None or int(part.get("hour", "0")) > 23:
        return UNDEFINED
    moment = datetime(
        year,
        month,
        int(part.get("day", "1")),
        hour,
        int(part.get("minute", "0")),
        int(part.get("second", "0")),
        tzinfo=where,
    )
    if "day_of_year" in part:
        moment += timedelta(days=int(part["day_of_year"]) - 1)
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return milliseconds + int(part.get("fraction", "0").ljust(3, "0")[:3])


TIME: Final[dict[str, Function]] = {"parse_time": parse_time, "time_to_epoch": time_to_epoch}
