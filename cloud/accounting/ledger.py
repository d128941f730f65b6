"""One run of a vehicle: what has arrived of it, and what the vehicle told of it.

Applying the same change again changes nothing, so a stream may deliver it again. Received
is a set; what the vehicle told are totals and latest states. Only duplicates are counted
one by one, and what is not received later than all before it is a retry of the stream's,
not a second delivery by the vehicle.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from cloud.accounting.ranges import Ranges, block_of
from contract import DropTotal

LATENESS_EDGES_S: Final = (10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800)
"""Arrivals are counted between these, so that "late" can be any of them afterwards."""

UNKNOWN_RUN: Final = ""
"""Stands for the run of a drop where the vehicle could not tell it."""


class Arrival(NamedTuple):
    """A sample or event as it reached the cloud."""

    sequence: int
    at_ms: int
    """Its own time; 0 when it had no trusted one."""
    received_ms: int
    is_event: bool


@dataclass(slots=True)
class Told:
    """What a status said."""

    received_ms: int
    at_ms: int
    state: str
    last_sequence: int
    backlog_messages: int | None


@dataclass(slots=True)
class RunEnd:
    """What a later run said of this one's end."""

    last_sequence: int
    """The highest that the vehicle's store remembered."""
    unflushed_s: float | None
    next_run_id: str


@dataclass(slots=True)
class Dropped:
    """Given up by the vehicle for one reason: how many in all, between which sequences."""

    messages: int
    first: int | None = None
    last: int | None = None


@dataclass(slots=True)
class RunHead:
    """Everything of a run but its ranges."""

    run_id: str
    seen_ms: int = 0
    """When the cloud first heard of it."""
    received_ms: int = 0
    """When something of it was received last."""
    first_ms: int | None = None
    last_ms: int | None = None
    """Between which times, by the vehicle's own trusted clock, it is known to have run."""
    samples: int = 0
    events: int = 0
    duplicates: int = 0
    highest: int = 0
    lateness: list[int] = field(default_factory=lambda: [0] * (len(LATENESS_EDGES_S) + 1))
    max_lateness_ms: int = 0
    untimed: int = 0
    """Received without a trusted time: nobody can say whether they were late."""
    told: Told | None = None
    end: RunEnd | None = None
    drops: dict[str, dict[str, Dropped]] = field(default_factory=dict)
    """What this run told of drops: by run, by reason."""

    @property
    def received(self) -> int:
        """Samples and events that are there."""
        return self.samples + self.events

    def late(self, after_s: int) -> int:
        """Received more than ``after_s`` after their own time; one of ``LATENESS_EDGES_S``."""
        return sum(self.lateness[LATENESS_EDGES_S.index(after_s) + 1 :])

    def to_json(self) -> str:
        """For a store."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RunHead:
        """What ``to_json`` gave."""
        document: dict[str, Any] = json.loads(text)
        told, end = document.pop("told"), document.pop("end")
        drops = {
            run_id: {reason: Dropped(**one) for reason, one in by_reason.items()}
            for run_id, by_reason in document.pop("drops").items()
        }
        return cls(
            **document,
            told=None if told is None else Told(**told),
            end=None if end is None else RunEnd(**end),
            drops=drops,
        )


@dataclass(slots=True)
class Change:
    """What a few stream records say of one run."""

    vehicle_id: str
    run_id: str
    heard_ms: int
    arrivals: list[Arrival] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    end: RunEnd | None = None
    drops: list[DropTotal] = field(default_factory=list)

    def blocks(self) -> Collection[int]:
        """The blocks that it needs."""
        return sorted({block_of(one.sequence) for one in self.arrivals})


def apply(head: RunHead, blocks: dict[int, Ranges], change: Change) -> None:
    """Bring head and blocks up to date; ``blocks`` has every one that the change needs."""
    head.seen_ms = min(head.seen_ms or change.heard_ms, change.heard_ms)
    _receive(head, blocks, change.arrivals)
    for told in change.told:
        _take_status(head, told)
    if change.end is not None:
        head.end = change.end
    for total in change.drops:
        _take_drops(head.drops, total)


def _receive(head: RunHead, blocks: dict[int, Ranges], arrivals: Sequence[Arrival]) -> None:
    known_ms = head.received_ms
    for sequence, at_ms, received_ms, is_event in arrivals:
        head.received_ms = max(head.received_ms, received_ms)
        if not blocks[block_of(sequence)].add(sequence, at_ms):
            head.duplicates += received_ms > known_ms
            continue
        if is_event:
            head.events += 1
        else:
            head.samples += 1
        head.highest = max(head.highest, sequence)
        if not at_ms:
            head.untimed += 1
            continue
        lateness_ms = max(0, received_ms - at_ms)
        # more than an edge is behind it, exactly at it is not
        head.lateness[bisect_left(LATENESS_EDGES_S, lateness_ms / 1000)] += 1
        head.max_lateness_ms = max(head.max_lateness_ms, lateness_ms)
        _was_alive(head, at_ms)


def _was_alive(head: RunHead, at_ms: int) -> None:
    head.first_ms = at_ms if head.first_ms is None else min(head.first_ms, at_ms)
    head.last_ms = at_ms if head.last_ms is None else max(head.last_ms, at_ms)


def _take_status(head: RunHead, told: Told) -> None:
    """The newest figures count; a last will was written when the agent connected."""
    known = head.told
    if known is None or (told.last_sequence, told.at_ms) >= (known.last_sequence, known.at_ms):
        head.told = told
        if told.state == "online" and told.at_ms:
            _was_alive(head, told.at_ms)
    elif told.received_ms > known.received_ms:
        known.state, known.received_ms = told.state, told.received_ms


def _take_drops(drops: dict[str, dict[str, Dropped]], total: DropTotal) -> None:
    by_reason = drops.setdefault(total.run_id or UNKNOWN_RUN, {})
    merge(by_reason, total.reason, _dropped(total))


def _dropped(total: DropTotal) -> Dropped:
    return Dropped(total.total_messages, total.first_sequence, total.last_sequence)


def merge(by_reason: dict[str, Dropped], reason: str, told: Dropped) -> None:
    """Totals only grow: the higher one is the later one."""
    known = by_reason.get(reason)
    if known is None or told.messages > known.messages:
        by_reason[reason] = told
