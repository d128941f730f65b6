"""Durations as they are written on the command line."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)"
_PART: Final = re.compile(rf"({_NUMBER})(ms|min|s|m|h)")
_WHOLE: Final = re.compile(rf"(?:{_NUMBER}(?:ms|min|s|m|h))+")
_PLAIN: Final = re.compile(_NUMBER)


def parse_duration_s(text: str) -> float:
    """Seconds of ``60s``, ``2m``, ``1m30s``, ``1.5h``, ``250ms``; a plain number is seconds.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write 60s, 2m or 1m30s")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def duration(text: str) -> float:
    """``parse_duration_s`` as a type of click's options."""
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
