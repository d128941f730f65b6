"""Strings: case, padding, trimming, parts, lengths."""

from __future__ import annotations

from typing import Final

from cloud.iotsql.functions.registry import Function, on_texts
from cloud.iotsql.values import UNDEFINED, Value, to_floor, to_text

_MOST_PADDING: Final = 1000
_ASCII: Final = range(128)


def character(code: Value) -> Value:
    """``chr``: the ASCII character of a number."""
    number = to_floor(code)
    return chr(number) if number is not None and number in _ASCII else UNDEFINED


def substring(value: Value, *bounds: Value) -> Value:
    """From the first index to before the second, both cut to the string."""
    text = to_text(value)
    indices = [to_floor(bound) for bound in bounds]
    if text is None or None in indices:
        return UNDEFINED
    start, *end = [min(max(index, 0), len(text)) for index in indices if index is not None]
    return text[start : end[0]] if end else text[start:]


def _padding(value: Value, count: Value) -> tuple[str, str] | None:
    text, spaces = to_text(value), to_floor(count)
    if text is None or spaces is None:
        return None
    return text, " " * min(max(spaces, 0), _MOST_PADDING)


def pad_left(value: Value, count: Value) -> Value:
    """``lpad``: so many spaces before the text, 0 to 1000."""
    padded = _padding(value, count)
    return UNDEFINED if padded is None else padded[1] + padded[0]


def pad_right(value: Value, count: Value) -> Value:
    """``rpad``: so many spaces after the text, 0 to 1000."""
    padded = _padding(value, count)
    return UNDEFINED if padded is None else padded[0] + padded[1]


def _count_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


TEXT: Final[dict[str, Function]] = {
    "chr": character,
    "endswith": on_texts(str.endswith),
    "indexof": on_texts(str.find),
    "length": on_texts(len),
    "lower": on_texts(str.lower),
    "lpad": pad_left,
    "ltrim": on_texts(lambda text: text.lstrip(" \t")),
    "numbytes": on_texts(_count_bytes),
    "replace": on_texts(str.replace),
    "rpad": pad_right,
    "rtrim": on_texts(lambda text: text.rstrip(" \t")),
    "startswith": on_texts(str.startswith),
    "substring": substring,
    "trim": on_texts(str.strip),
    "upper": on_texts(str.upper),
}
