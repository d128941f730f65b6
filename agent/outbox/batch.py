"""What passes between the outbox and its file."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.outbox.message import Kind, Message
from agent.outbox.run_drops import DropTotal

Row = tuple[int, str, int, int | None, bytes]
"""``(id, run_id, sequence, taken_ms, payload)``."""

Ranges = list[tuple[int, int]]
"""Inclusive, ascending."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A stretch of samples that is written anew with less in it, so that pages get free.

    Deleting every second row alone would leave every page half full.
    """

    first: int
    last: int
    rows: list[Row]


@dataclass(slots=True)
class Sweep:
    """How far a thinning has come: rows up to ``position`` have ``level``."""

    name: str
    position: int
    level: int


@dataclass(slots=True)
class SalvageJob:
    """How far the salvage of one damaged file has come.

    ``expected`` is how many rows it should hold, None where that is not known; ``skip``
    are the ids of rows that are not wanted: settled, or in memory.
    """

    file: str
    expected: int | None = None
    skip: dict[Kind, Ranges] = field(default_factory=dict)
    next_page: int = 1
    saved: int = 0
    bad_pages: int = 0
    done: bool = False


@dataclass(slots=True)
class Batch:
    """What one commit changes."""

    inserts: list[tuple[int, Message]] = field(default_factory=list)
    deletes: dict[Kind, list[int]] = field(default_factory=dict)
    refused: list[tuple[Message, str]] = field(default_factory=list)
    drops: dict[str, int] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)
    run_drops: list[DropTotal] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)
    salvaged: dict[Kind, list[Row]] = field(default_factory=dict)
    jobs: list[SalvageJob] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.inserts
            or any(self.deletes.values())
            or self.refused
            or self.drops
            or self.reported
            or self.run_drops
            or self.rewrites
            or self.sweeps
            or self.jobs
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was opened."""

    messages: dict[Kind, int]
    last_id: int
    previous_run: tuple[str, int] | None
    unreported_drops: dict[str, int]
    run_drops: list[DropTotal]
    sweeps: dict[str, Sweep]
    jobs: list[SalvageJob]
