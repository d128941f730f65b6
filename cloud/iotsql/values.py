"""The values of IoT SQL and the standard conversions between them.

=========  ==================================================================
IoT SQL    here
=========  ==================================================================
Int        ``int``, at most 34 digits
Decimal    ``float`` where a double holds it exactly as written, else ``Decimal``
Boolean    ``bool``
String     ``str``
Array      ``list``
Object     ``dict``
Null       ``None``
Undefined  ``UNDEFINED``
=========  ==================================================================

Numbers are kept canonical, so that equal numbers have one type: in version 2016-03-23
a whole Decimal (``10.0``) is an Int. Arithmetic is decimal, 34 digits, so ``0.1 + 0.2``
is ``0.3``. A number of the payload has the precision of a double: that is what JSON
readers agree on (RFC 8259, section 6).

Source: AWS IoT developer guide, "Data types" and its conversion tables.
"""

from __future__ import annotations

import re
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, InvalidOperation
from decimal import DivisionByZero as _DivisionByZero
from decimal import Overflow as _Overflow
from typing import Any, Final, Self

import orjson

Value = Any
"""One of the types in the table above."""

MAX_DEPTH: Final = 200
"""Levels of nesting that a payload may have here; the serialiser ends at 254."""


class Undefined:
    """The absence of a value; it is no JSON, so a key that has it is left out."""

    _instance: Self | None = None

    def __new__(cls) -> Self:
        """The one instance."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[Undefined], tuple[()]]:
        return (Undefined, ())


UNDEFINED: Final = Undefined()

ARITHMETIC: Final = Context(
    prec=34, Emin=-999, Emax=999, traps=[InvalidOperation, _DivisionByZero, _Overflow]
)
_INT_LIMIT: Final = 10**34
_DECIMAL_LIMIT: Final = Decimal(_INT_LIMIT)
_DECIMAL_TEXT: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?")
_BOOLEAN_TEXT: Final = {"true": True, "false": False}


def canonical(number: Decimal) -> Value:
    """The one form of a number; UNDEFINED outside the documented range."""
    try:
        rounded = ARITHMETIC.plus(number)
    except ArithmeticError:
        return UNDEFINED
    if not rounded.is_finite():
        return UNDEFINED
    if rounded == rounded.to_integral_value() and rounded.copy_abs() < _DECIMAL_LIMIT:
        return int(rounded)
    double = float(rounded)
    return double if Decimal(repr(double)) == rounded else rounded


def from_int(number: int) -> Value:
    """An Int, or the nearest Decimal when it has more than 34 digits."""
    return number if -_INT_LIMIT < number < _INT_LIMIT else canonical(Decimal(number))


def from_literal(text: str) -> int | Decimal:
    """A number as the SQL has it; with a point it stays a Decimal: ``x / 10.0`` is no Int division.

    Raises:
        ArithmeticError: it is beyond 9.99E999.
    """
    number = ARITHMETIC.create_decimal(text)
    if text.lstrip("-").isdigit() and number.copy_abs() < _INT_LIMIT:
        return int(text)
    return number


def from_double(number: float) -> Value:
    """A result with double precision; UNDEFINED when it is no number."""
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124  the test for NaN
        return UNDEFINED
    return canonical(Decimal(repr(number))) if number.is_integer() else number


def from_json(value: Any, depth: int = 0) -> Value:
    """Make the numbers of freshly parsed JSON canonical, in place.

    Raises:
        RecursionError: nested deeper than ``MAX_DEPTH``.
    """
    kind = type(value)
    if kind is float:
        return value if not value.is_integer() else canonical(Decimal(repr(value)))
    if kind is dict or kind is list:
        if depth > MAX_DEPTH:
            raise RecursionError
        for key, item in value.items() if kind is dict else enumerate(value):
            kind_of_item = type(item)
            if kind_of_item is float:
                if item.is_integer():
                    value[key] = canonical(Decimal(repr(item)))
            elif kind_of_item is dict or kind_of_item is list:
                from_json(item, depth + 1)
    return value


def decimal_of_number(value: Value) -> Decimal | None:
    """An Int or Decimal as ``Decimal``; None for every other type."""
    kind = type(value)
    if kind is int:
        return Decimal(value)
    if kind is float:
        return Decimal(repr(value))
    return value if kind is Decimal else None


def to_decimal(value: Value) -> Decimal | None:
    """The conversion "To Decimal" for operands and arguments; None where it fails."""
    if type(value) is str:
        if not _DECIMAL_TEXT.fullmatch(value):
            return None
        try:
            return ARITHMETIC.create_decimal(value)
        except ArithmeticError:
            return None
    return decimal_of_number(value)


def to_int(value: Value) -> int | None:
    """The conversion "To Int": a Decimal goes to the nearest Int, a String is cut off."""
    number = to_decimal(value)
    if number is None or number.copy_abs() >= _DECIMAL_LIMIT:
        return None
    if type(value) is str:
        return int(number)
    return int(number.to_integral_value(ROUND_HALF_UP))


def to_floor(value: Value) -> int | None:
    """An argument that is "rounded down to the nearest Int"; huge ones keep their sign."""
    number = to_decimal(value)
    if number is None:
        return None
    number = max(min(number, _DECIMAL_LIMIT), -_DECIMAL_LIMIT)
    return int(number.to_integral_value(ROUND_FLOOR))


def to_boolean(value: Value) -> bool | None:
    """The conversion "To Boolean"; None where it fails."""
    if type(value) is bool:
        return value
    return _BOOLEAN_TEXT.get(value.lower()) if type(value) is str else None


def to_text(value: Value) -> str | None:
    """The conversion "To String"; None for Null and Undefined."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    number = decimal_of_number(value)
    if number is not None:
        return str(value if kind is int else number)
    if kind is list or kind is dict:
        return serialise(value).decode()
    return None


def equal(left: Value, right: Value) -> bool:
    """Deep equality of canonical values; a mismatch of types is unequal."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is dict:
        return left.keys() == right.keys() and all(
            equal(item, right[key]) for key, item in left.items()
        )
    if kind is list:
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def serialise(value: Value) -> bytes:
    """UTF-8 JSON without spaces; Undefined alone is empty, bytes are what they are."""
    if type(value) is bytes:
        return value
    if value is UNDEFINED:
        return b""
    try:
        return orjson.dumps(value, default=_exact_number)
    except TypeError:
        return orjson.dumps(_with_large_ints(value), default=_exact_number)


def _exact_number(value: object) -> object:
    if type(value) is Decimal:
        return orjson.Fragment(str(value))
    raise TypeError


def _with_large_ints(value: Value) -> Value:
    """Orjson ends at 64 bits; an Int has up to 34 digits."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    if type(value) is dict:
        return {key: _with_large_ints(item) for key, item in value.items()}
    if type(value) is list:
        return [_with_large_ints(item) for item in value]
    return value
