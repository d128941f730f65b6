"""The operators, each as its table in the developer guide has it.

AND and OR are Undefined as soon as one operand is neither a Boolean nor the text of one:
``false AND missing`` is Undefined, not false. Int by Int divides to an Int, cut off
towards zero; by zero is Undefined.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from cloud.iotsql.values import (
    ARITHMETIC,
    UNDEFINED,
    Value,
    canonical,
    equal,
    from_int,
    to_boolean,
    to_decimal,
    to_text,
)

BinaryFunction = Callable[[Value, Value], Value]


def logical_and(left: Value, right: Value) -> Value:
    """Undefined unless both are Booleans."""
    first, second = to_boolean(left), to_boolean(right)
    return UNDEFINED if first is None or second is None else first and second


def logical_or(left: Value, right: Value) -> Value:
    """Undefined unless both are Booleans."""
    first, second = to_boolean(left), to_boolean(right)
    return UNDEFINED if first is None or second is None else first or second


def logical_not(operand: Value) -> Value:
    """Undefined unless a Boolean."""
    value = to_boolean(operand)
    return UNDEFINED if value is None else not value


def _comparison(compare: Callable[..., bool]) -> BinaryFunction:
    def evaluate(left: Value, right: Value) -> Value:
        if type(left) is type(right) is int:
            return compare(left, right)
        first, second = to_decimal(left), to_decimal(right)
        return UNDEFINED if first is None or second is None else compare(first, second)

    return evaluate


def is_equal(left: Value, right: Value) -> Value:
    """Undefined with Undefined; a mismatch of types is false."""
    if left is UNDEFINED or right is UNDEFINED:
        return UNDEFINED
    return equal(_canonical(left), _canonical(right))


def is_unequal(left: Value, right: Value) -> Value:
    """Undefined with Undefined; a mismatch of types is true."""
    if left is UNDEFINED or right is UNDEFINED:
        return UNDEFINED
    return not equal(_canonical(left), _canonical(right))


def _canonical(value: Value) -> Value:
    return canonical(value) if type(value) is Decimal else value


def add(left: Value, right: Value) -> Value:
    """Join when one is a String, else add numbers."""
    if type(left) is str or type(right) is str:
        first, second = to_text(left), to_text(right)
        return UNDEFINED if first is None or second is None else first + second
    return _calculate(left, right, operator.add, ARITHMETIC.add)


def subtract(left: Value, right: Value) -> Value:
    """Left minus right."""
    return _calculate(left, right, operator.sub, ARITHMETIC.subtract)


def multiply(left: Value, right: Value) -> Value:
    """Left times right."""
    return _calculate(left, right, operator.mul, ARITHMETIC.multiply)


def divide(left: Value, right: Value) -> Value:
    """Left by right; Int by Int is an Int."""
    return _calculate(left, right, _int_quotient, ARITHMETIC.divide)


def remainder(left: Value, right: Value) -> Value:
    """What division leaves, with the sign of the left operand."""
    return _calculate(left, right, _int_remainder, ARITHMETIC.remainder)


def _calculate(
    left: Value,
    right: Value,
    on_ints: Callable[[int, int], int],
    on_decimals: Callable[[Decimal, Decimal], Decimal],
) -> Value:
    try:
        if type(left) is type(right) is int:
            return from_int(on_ints(left, right))
        first, second = to_decimal(left), to_decimal(right)
        if first is None or second is None:
            return UNDEFINED
        return canonical(on_decimals(first, second))
    except ArithmeticError:
        return UNDEFINED


def _int_quotient(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _int_remainder(left: int, right: int) -> int:
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


BINARY: Final[dict[str, BinaryFunction]] = {
    "AND": logical_and,
    "OR": logical_or,
    "=": is_equal,
    "<>": is_unequal,
    "<": _comparison(operator.lt),
    "<=": _comparison(operator.le),
    ">": _comparison(operator.gt),
    ">=": _comparison(operator.ge),
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
