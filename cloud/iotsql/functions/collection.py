"""Arrays, objects, Null and Undefined, and casts.

``get("abc", 1)`` is ``"b"``: the guide's table says 0-based, its example says ``"a"``.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR
from typing import Final

from cloud.iotsql.functions.registry import Function
from cloud.iotsql.values import (
    UNDEFINED,
    Value,
    canonical,
    to_boolean,
    to_decimal,
    to_int,
    to_text,
)


def get(collection: Value, key: Value) -> Value:
    """An item of an Array, a character of a String, a value of an Object."""
    kind = type(collection)
    if kind is dict:
        return collection.get(key, UNDEFINED) if type(key) is str else UNDEFINED
    if kind is not list and kind is not str:
        return UNDEFINED
    index = to_int(key)
    if index is None or not 0 <= index < len(collection):
        return UNDEFINED
    return collection[index]


def get_or_default(value: Value, default: Value) -> Value:
    """The default where the value is Null or Undefined."""
    return default if value is None or value is UNDEFINED else value


def concatenate(*arguments: Value) -> Value:
    """Join Strings, or Arrays with whatever stands beside them."""
    if not arguments:
        return UNDEFINED
    if len(arguments) == 1:
        return arguments[0]
    if any(type(argument) is list for argument in arguments):
        joined: list[Value] = []
        for argument in arguments:
            joined.extend(argument if type(argument) is list else [argument])
        return [item for item in joined if item is not UNDEFINED]
    texts = [to_text(argument) for argument in arguments]
    if None in texts or not any(type(argument) is str for argument in arguments):
        return UNDEFINED
    return "".join(text for text in texts if text is not None)


def transform(mode: Value, attributes: Value, elements: Value) -> Value:
    """``enrichArray``: the attributes of an object in each object of an array."""
    if mode != "enrichArray" or type(attributes) is not dict or type(elements) is not list:
        return UNDEFINED
    if any(type(element) is not dict for element in elements):
        return UNDEFINED
    return [{**element, **attributes} for element in elements]


def cast(target: str, value: Value) -> Value:
    """``cast(value AS …)``: the conversions, and Booleans to and from numbers as well."""
    if target == "String":
        text = to_text(value)
        return UNDEFINED if text is None else text
    if target == "Boolean":
        number = None if type(value) is str else to_decimal(value)
        truth = to_boolean(value) if number is None else number != 0
        return UNDEFINED if truth is None else truth
    if type(value) is bool:
        return int(value)
    decimal = to_decimal(value)
    if decimal is None:
        return UNDEFINED
    return canonical(decimal if target == "Decimal" else decimal.to_integral_value(ROUND_FLOOR))


COLLECTION: Final[dict[str, Function]] = {
    "concat": concatenate,
    "get": get,
    "get_or_default": get_or_default,
    "isnull": lambda value: value is None,
    "isundefined": lambda value: value is UNDEFINED,
    "nanvl": get_or_default,
    "transform": transform,
}
