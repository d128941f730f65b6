"""Faults of a network as one writes them: ``half-open@30s..60s``, ``delay=5s``. Pure.

The table of them is here and nowhere else; ``--help`` and the errors are made from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from simulator.durations import parse_duration_s
from simulator.network.conditions import CLEAR, Condition, Reach

_RATE: Final = re.compile(r"(\d+(?:\.\d*)?)\s*(B|KB|MB)/s", re.IGNORECASE)
_RATE_UNITS: Final = {"B": 1, "KB": 1_000, "MB": 1_000_000}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, by the name it was written with.

    With ``cycle_s`` it comes and goes: ``good_s`` without it, then with it, again and again.
    """

    name: str
    condition: Condition
    good_s: float = 0.0
    cycle_s: float | None = None

    def condition_at(self, since_s: float) -> Condition:
        """How the network is ``since_s`` after the fault began."""
        if self.cycle_s is not None and since_s % self.cycle_s < self.good_s:
            return CLEAR
        return self.condition


@dataclass(frozen=True, slots=True)
class Spell:
    """A fault from ``start_s`` to ``end_s`` (which may be infinite) after the beginning."""

    fault: Fault
    start_s: float = 0.0
    end_s: float = math.inf

    def holds_at(self, elapsed_s: float) -> bool:
        """Whether it is its time."""
        return self.start_s <= elapsed_s < self.end_s


def condition_at(spells: Iterable[Spell], elapsed_s: float) -> Condition:
    """All faults that hold, together."""
    condition = CLEAR
    for spell in spells:
        if spell.holds_at(elapsed_s):
            condition = condition.and_also(spell.fault.condition_at(elapsed_s - spell.start_s))
    return condition


def parse_spell(text: str) -> Spell:
    """``FAULT``, ``FAULT@START`` or ``FAULT@START..END``.

    Raises:
        ValueError: it is none of these; says what there is.
    """
    name, at, when = text.partition("@")
    fault = parse_fault(name)
    if not at:
        return Spell(fault)
    start, dots, end = when.partition("..")
    spell = Spell(
        fault, parse_duration_s(start), parse_duration_s(end) if dots and end else math.inf
    )
    if spell.end_s <= spell.start_s:
        raise ValueError(f"{text!r} ends before it begins; write {name}@30s..60s")
    return spell


def parse_fault(text: str) -> Fault:
    """A fault of the table with its value, e.g. ``cut``, ``rate=1KB/s``.

    Raises:
        ValueError: there is none of that name, or its value is wrong; says what there is.
    """
    name, equals, value = text.strip().partition("=")
    kind = FAULTS.get(name)
    if kind is None:
        raise ValueError(f"there is no fault {name!r}; choose one of {', '.join(FAULTS)}")
    if bool(equals) is not bool(kind.example):
        wanted = f"{name}={kind.example}" if kind.example else f"plain {name}"
        raise ValueError(f"{text!r}: write {wanted}")
    try:
        return replace(kind.make(value), name=text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; write e.g. {name}={kind.example}") from error


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table. ``example`` is of its value, ``""`` where it takes none."""

    does: str
    example: str
    make: Callable[[str], Fault]


def _reach(reach: Reach) -> Callable[[str], Fault]:
    return lambda _: Fault("", Condition(reach=reach))


def _delay(value: str) -> Fault:
    return Fault("", Condition(delay_s=parse_duration_s(value)))


def _loss(value: str) -> Fault:
    percent = float(value.removesuffix("%"))
    if not 0 < percent < 100:
        raise ValueError("a loss is above 0 % and below 100 %")
    return Fault("", Condition(loss=percent / 100))


def _rate(value: str) -> Fault:
    found = _RATE.fullmatch(value.strip())
    if found is None or float(found[1]) <= 0:
        raise ValueError("a rate is in B/s, KB/s or MB/s, and above 0")
    return Fault("", Condition(rate_bytes_per_s=float(found[1]) * _RATE_UNITS[found[2].upper()]))


def _kick(value: str) -> Fault:
    return Fault("", Condition(life_s=parse_duration_s(value)))


def _flap(value: str) -> Fault:
    good, slash, bad = value.partition("/")
    if not slash:
        raise ValueError("flapping has two durations, with and without a network")
    good_s, bad_s = parse_duration_s(good), parse_duration_s(bad)
    if min(good_s, bad_s) <= 0:
        raise ValueError("a duration of flapping is above 0")
    return Fault("", Condition(reach=Reach.CUT), good_s, good_s + bad_s)


FAULTS: Final = {
    "cut": Kind("connections are reset, new ones too", "", _reach(Reach.CUT)),
    "half-open": Kind(
        "everything vanishes both ways and nobody hears of it", "", _reach(Reach.HALF_OPEN)
    ),
    "answers-lost": Kind(
        "what the target answers vanishes, what is sent arrives", "", _reach(Reach.ANSWERS_LOST)
    ),
    "nat-timeout": Kind(
        "what is open goes silent for ever, new connections work", "", _reach(Reach.NAT_TIMEOUT)
    ),
    "stall": Kind("nothing moves, then it goes on where it stood", "", _reach(Reach.STALL)),
    "close": Kind("connections are accepted and closed at once", "", _reach(Reach.CLOSE)),
    "delay": Kind("every segment comes so late, each way", "5s", _delay),
    "loss": Kind("so many segments come late by a retransmission, each way", "30%", _loss),
    "rate": Kind("so many bytes a second, each way", "1KB/s", _rate),
    "kick": Kind("every connection is reset when it is so old", "2s", _kick),
    "flap": Kind("cut again and again: so long good, so long cut", "4s/2s", _flap),
}
