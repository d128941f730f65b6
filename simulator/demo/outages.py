"""Outages of the demo's network as they are written on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import click

from simulator.durations import parse_duration_s
from simulator.network.conditions import Condition
from simulator.network.faults import Fault, parse_fault

CUT: Final = parse_fault("cut")


@dataclass(frozen=True, slots=True)
class Outage:
    """The network has a fault from ``start_s`` to ``end_s`` after the replay's beginning."""

    start_s: float
    length_s: float
    fault: Fault = CUT

    @property
    def end_s(self) -> float:
        """When the network is back."""
        return self.start_s + self.length_s

    def condition_at(self, elapsed_s: float) -> Condition:
        """How the network is, so long after the replay's beginning and in the outage."""
        return self.fault.condition_at(elapsed_s - self.start_s)


def parse_outage(text: str) -> Outage:
    """``START:LENGTH`` or ``START:LENGTH:FAULT``, e.g. ``20s:60s:half-open``.

    Raises:
        ValueError: it has another form, or lasts no time.
    """
    start, colon, rest = text.partition(":")
    length, _, fault = rest.partition(":")
    if not colon or not length:
        raise ValueError(f"{text!r} is not START:LENGTH, e.g. 20s:60s")
    length_s = parse_duration_s(length)
    if length_s <= 0:
        raise ValueError(f"{text!r} lasts no time")
    return Outage(parse_duration_s(start), length_s, parse_fault(fault) if fault else CUT)


def outage_at(outages: tuple[Outage, ...], elapsed_s: float) -> Outage | None:
    """The outage that holds at ``elapsed_s``; of several the one that ends last."""
    holding = [one for one in outages if one.start_s <= elapsed_s < one.end_s]
    return max(holding, key=lambda one: one.end_s, default=None)


def outage(text: str) -> Outage:
    """``parse_outage`` as a type of click's options."""
    try:
        return parse_outage(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
