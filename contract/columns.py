"""Columns of a batch: one field of many samples, as few bytes as can be had losslessly.

A column is a list of JSON values, ``ABSENT`` where the sample lacks the field. The
encoder tries the kinds below from the narrowest to the widest and takes the first that
gives every value back exactly; the decoder reads the kind from the first byte.

=========  ==============================  ==========================================
kind       values                          bytes
=========  ==============================  ==========================================
CONST      all equal                       one JSON value
BOOL       booleans                        one bit each
INTEGER    integers                        order, zigzag varints of the differences
DECIMAL    numbers with at most 9 places   places, then as INTEGER
DOUBLE     any other floats                8 bytes each (IEEE 754, little-endian)
TIME       timestamps in contract form     as INTEGER, in milliseconds
CHOICE     texts                           the distinct texts, then varint indexes
JSON       anything else                   one JSON array
=========  ==============================  ==========================================

Differences of order 0, 1 or 2 are taken, whichever are the smallest: a counter is
constant at order 1, a vehicle at steady speed nearly zero at order 2.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from itertools import pairwise
from typing import Any, Final

from contract.errors import ContractError
from contract.fields import format_timestamp
from contract.primitives import Reader, write_json, write_varint


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Marks a sample that lacks the field; JSON's ``null`` is a value and differs from it."""


class ColumnKind(IntEnum):
    """The first byte of a column; numbers are on the wire and never change."""

    CONST = 0
    BOOL = 1
    INTEGER = 2
    DECIMAL = 3
    DOUBLE = 4
    TIME = 5
    CHOICE = 6
    JSON = 7


_PARTLY_PRESENT: Final = 0x80
_MAX_PLACES: Final = 9
_EXACT_INTEGER: Final = 2**53
_TIMESTAMP: Final = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def write_column(out: bytearray, values: Sequence[Any]) -> None:
    """Append one column; ``values`` holds one entry per sample, at least one present."""
    present = [value for value in values if value is not ABSENT]
    body = bytearray()
    kind = _write_values(body, present)
    if len(present) == len(values):
        out.append(kind)
    else:
        out.append(kind | _PARTLY_PRESENT)
        _write_bits(out, [value is not ABSENT for value in values])
    out += body


def read_column(reader: Reader, rows: int) -> list[Any]:
    """The column's ``rows`` values, ``ABSENT`` where there is none.

    Raises:
        ContractError: the bytes are no column of that length.
    """
    head = reader.byte()
    try:
        kind = ColumnKind(head & ~_PARTLY_PRESENT)
    except ValueError:
        raise ContractError("batch", f"holds an unknown column kind {head}") from None
    if not head & _PARTLY_PRESENT:
        return _read_values(reader, kind, rows)
    presence = _read_bits(reader, rows)
    present = iter(_read_values(reader, kind, sum(presence)))
    return [next(present) if there else ABSENT for there in presence]


def _write_values(out: bytearray, values: list[Any]) -> ColumnKind:
    first = values[0]
    types = {type(value) for value in values}
    # Equality alone would take -0.0 for 0.0, and [1] for [true].
    if (
        len(types) == 1
        and all(value == first for value in values[1:])
        and len({repr(value) for value in values}) == 1
    ):
        write_json(out, first)
        return ColumnKind.CONST
    if types == {bool}:
        _write_bits(out, values)
        return ColumnKind.BOOL
    if types == {int} and all(abs(value) < _EXACT_INTEGER for value in values):
        _write_integers(out, values)
        return ColumnKind.INTEGER
    if types == {float}:
        scaled = _as_decimals(values)
        if scaled is None:
            out += struct.pack(f"<{len(values)}d", *values)
            return ColumnKind.DOUBLE
        places, integers = scaled
        out.append(places)
        _write_integers(out, integers)
        return ColumnKind.DECIMAL
    if types == {str}:
        if all(_TIMESTAMP.fullmatch(value) for value in values):
            milliseconds = _as_milliseconds(values)
            if milliseconds is not None:
                _write_integers(out, milliseconds)
                return ColumnKind.TIME
        distinct = list(dict.fromkeys(values))
        index_of = {text: index for index, text in enumerate(distinct)}
        write_json(out, distinct)
        for value in values:
            write_varint(out, index_of[value])
        return ColumnKind.CHOICE
    write_json(out, values)
    return ColumnKind.JSON


def _read_values(reader: Reader, kind: ColumnKind, count: int) -> list[Any]:
    match kind:
        case ColumnKind.CONST:
            return reader.repeated_json(count)
        case ColumnKind.BOOL:
            return _read_bits(reader, count)
        case ColumnKind.INTEGER:
            return _read_integers(reader, count)
        case ColumnKind.DECIMAL:
            places = reader.byte()
            if places > _MAX_PLACES:
                raise ContractError("batch", f"holds decimals with {places} places")
            divisor = 10**places
            return [value / divisor for value in _read_integers(reader, count)]
        case ColumnKind.DOUBLE:
            return list(struct.unpack(f"<{count}d", reader.take(8 * count)))
        case ColumnKind.TIME:
            return [_from_milliseconds(value) for value in _read_integers(reader, count)]
        case ColumnKind.CHOICE:
            return _read_choices(reader, count)
        case ColumnKind.JSON:
            values = reader.json()
            if not isinstance(values, list) or len(values) != count:
                raise ContractError("batch", "holds a column of the wrong length")
            return values


def _read_choices(reader: Reader, count: int) -> list[str]:
    distinct = reader.json()
    if not isinstance(distinct, list) or not all(isinstance(text, str) for text in distinct):
        raise ContractError("batch", "holds a choice column without choices")
    try:
        chosen: list[str] = [distinct[reader.varint()] for _ in range(count)]
    except IndexError:
        raise ContractError("batch", "points past the end of its choices") from None
    reader.expand(sum(map(len, chosen)))
    return chosen


def _write_bits(out: bytearray, bits: Sequence[bool]) -> None:
    number = sum(1 << index for index, bit in enumerate(bits) if bit)
    out += number.to_bytes((len(bits) + 7) // 8, "little")


def _read_bits(reader: Reader, count: int) -> list[bool]:
    number = int.from_bytes(reader.take((count + 7) // 8), "little")
    return [bool(number >> index & 1) for index in range(count)]


def _differences(values: list[int]) -> list[int]:
    return [values[0], *(after - before for before, after in pairwise(values))]


def _write_integers(out: bytearray, values: list[int]) -> None:
    candidates = [
        values,
        first := _differences(values),
        [first[0], *_differences(first[1:])] if len(first) > 1 else first,
    ]
    sizes = [sum(abs(value).bit_length() // 7 + 1 for value in column) for column in candidates]
    order = sizes.index(min(sizes))
    out.append(order)
    for value in candidates[order]:
        write_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)


def _read_integers(reader: Reader, count: int) -> list[int]:
    order = reader.byte()
    if order > 2:
        raise ContractError("batch", f"holds differences of order {order}")
    values = []
    for _ in range(count):
        raw = reader.varint()
        values.append(-((raw + 1) >> 1) if raw & 1 else raw >> 1)
    if order == 2 and values:
        values = [values[0], *_sums(values[1:])]
    return _sums(values) if order else values


def _sums(values: list[int]) -> list[int]:
    total = 0
    sums = []
    for value in values:
        total += value
        sums.append(total)
    return sums


def _as_decimals(values: list[float]) -> tuple[int, list[int]] | None:
    # i / 10**p is correctly rounded while both are exact doubles, so a value that was
    # written with p decimal places comes back as the very same double.
    for places in range(_MAX_PLACES + 1):
        factor = 10**places
        scaled = []
        for value in values:
            if not abs(value) * factor < _EXACT_INTEGER:
                return None
            integer = round(value * factor)
            if integer / factor != value or (integer == 0 and str(value)[0] == "-"):
                break
            scaled.append(integer)
        else:
            return places, scaled
    return None


def _as_milliseconds(values: list[str]) -> list[int] | None:
    try:
        moments = [datetime.fromisoformat(value) for value in values]
    except ValueError:
        return None
    return [(moment - _EPOCH) // _MILLISECOND for moment in moments]


def _from_milliseconds(value: int) -> str:
    try:
        return format_timestamp(_EPOCH + value * _MILLISECOND)
    except OverflowError:
        raise ContractError("batch", "holds a timestamp outside the calendar") from None
