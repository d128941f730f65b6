"""Durations and outages as they are written on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import click

from simulator.relay import Cut

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


@dataclass(frozen=True, slots=True)
class Outage:
    """The network is cut from ``start_s`` to ``end_s`` after the replay's beginning."""

    start_s: float
    length_s: float
    how: Cut = Cut.REFUSE

    @property
    def end_s(self) -> float:
        """When the network is back."""
        return self.start_s + self.length_s


def parse_outage(text: str) -> Outage:
    """``START:LENGTH`` or ``START:LENGTH:HOW``, e.g. ``20s:60s:swallow``.

    Raises:
        ValueError: it has another form, or lasts no time.
    """
    start, colon, rest = text.partition(":")
    length, _, how = rest.partition(":")
    if not colon or not length:
        raise ValueError(f"{text!r} is not START:LENGTH, e.g. 20s:60s")
    kinds = [cut.value for cut in Cut]
    if how and how not in kinds:
        raise ValueError(f"{how!r} is no kind of outage; choose {' or '.join(kinds)}")
    length_s = parse_duration_s(length)
    if length_s <= 0:
        raise ValueError(f"{text!r} lasts no time")
    return Outage(parse_duration_s(start), length_s, Cut(how) if how else Cut.REFUSE)


def cut_at(outages: tuple[Outage, ...], elapsed_s: float) -> Outage | None:
    """The outage that holds at ``elapsed_s``; of several the one that ends last."""
    holding = [one for one in outages if one.start_s <= elapsed_s < one.end_s]
    return max(holding, key=lambda one: one.end_s, default=None)


def duration(text: str) -> float:
    """``parse_duration_s`` as a type of click's options."""
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def outage(text: str) -> Outage:
    """``parse_outage`` as a type of click's options."""
    try:
        return parse_outage(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
