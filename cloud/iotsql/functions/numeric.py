"""Numbers: rounding, powers, trigonometry, bits.

``round`` goes away from zero at a half (the guide's ``round(-1.5)`` is ``-2``). A result
that is no finite real number is Undefined. ``bitnot(13)`` is ``-14``: the guide's example
says 2, its text says a bitwise NOT of an Int.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final

from cloud.iotsql.functions.registry import Function
from cloud.iotsql.operators import remainder
from cloud.iotsql.values import (
    ARITHMETIC,
    UNDEFINED,
    Value,
    canonical,
    from_double,
    from_int,
    to_decimal,
    to_floor,
)

_LONGEST_FRACTION: Final = 34


def _double(function: Callable[..., float]) -> Function:
    """Arguments are rounded to double precision before the function is applied."""

    def evaluate(*arguments: Value) -> Value:
        numbers = [to_decimal(argument) for argument in arguments]
        if None in numbers:
            return UNDEFINED
        try:
            result = function(*(float(number) for number in numbers if number is not None))
        except (ArithmeticError, ValueError):
            return UNDEFINED
        return from_double(result) if isinstance(result, float) else UNDEFINED

    return evaluate


def _rounding(mode: str) -> Function:
    def evaluate(argument: Value) -> Value:
        number = to_decimal(argument)
        return UNDEFINED if number is None else canonical(number.to_integral_value(mode))

    return evaluate


def _bits(function: Callable[..., int]) -> Function:
    def evaluate(*arguments: Value) -> Value:
        numbers = [to_floor(argument) for argument in arguments]
        return UNDEFINED if None in numbers else from_int(function(*numbers))

    return evaluate


def absolute(argument: Value) -> Value:
    """``abs``."""
    number = to_decimal(argument)
    return UNDEFINED if number is None else canonical(number.copy_abs())


def sign(argument: Value) -> Value:
    """-1, 0 or 1."""
    number = to_decimal(argument)
    return UNDEFINED if number is None else (number > 0) - (number < 0)


def truncate(argument: Value, places: Value) -> Value:
    """``trunc``: cut off after 0 to 34 decimal places."""
    number = to_decimal(argument)
    digits = None if type(places) is str else to_floor(places)
    if number is None or digits is None:
        return UNDEFINED
    kept = min(max(digits, 0), _LONGEST_FRACTION)
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -kept:
        return canonical(number)
    try:
        return canonical(number.quantize(Decimal(1).scaleb(-kept), ROUND_DOWN, ARITHMETIC))
    except ArithmeticError:
        return canonical(number)


def power(base: float, exponent: float) -> float:
    """A negative base with a broken exponent gives a complex number, which is no result."""
    return float(base**exponent) if base >= 0 or exponent.is_integer() else math.nan


NUMERIC: Final[dict[str, Function]] = {
    "abs": absolute,
    "acos": _double(math.acos),
    "asin": _double(math.asin),
    "atan": _double(math.atan),
    "atan2": _double(math.atan2),
    "bitand": _bits(operator.and_),
    "bitnot": _bits(operator.invert),
    "bitor": _bits(operator.or_),
    "bitxor": _bits(operator.xor),
    "ceil": _rounding(ROUND_CEILING),
    "cos": _double(math.cos),
    "cosh": _double(math.cosh),
    "exp": _double(math.exp),
    "floor": _rounding(ROUND_FLOOR),
    "ln": _double(math.log),
    "log": _double(math.log10),
    "mod": remainder,
    "power": _double(power),
    "remainder": remainder,
    "round": _rounding(ROUND_HALF_UP),
    "sign": sign,
    "sin": _double(math.sin),
    "sinh": _double(math.sinh),
    "sqrt": _double(math.sqrt),
    "tan": _double(math.tan),
    "tanh": _double(math.tanh),
    "trunc": truncate,
}
