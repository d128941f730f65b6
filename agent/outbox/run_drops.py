"""How many messages of each run were given up for each reason, in all; survives restarts.

A total says the same however often it is told, so neither a report that was lost nor one
that came twice makes the account wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from agent.outbox.message import DropReason

UNKNOWN_RUN: Final = ""
"""Of rows that could not be salvaged nobody knows the run."""

KEPT_TOTALS: Final = 64
"""The ones that grew last."""


class DropTotal(NamedTuple):
    """``first`` and ``last`` are the lowest and highest sequence; 0 where unknown."""

    run_id: str
    reason: str
    messages: int
    first: int
    last: int


Key = tuple[str, str]


class RunDrops:
    """Not thread-safe; the books' lock is held around every use."""

    def __init__(self) -> None:
        self._totals: dict[Key, DropTotal] = {}
        self._unsaved: set[Key] = set()
        self._untold: set[Key] = set()
        self._found: set[Key] = set()

    def add(self, reason: DropReason, identities: Iterable[tuple[str, int]]) -> None:
        """These ``(run_id, sequence)`` were given up."""
        for run_id, sequence in identities:
            self._add(DropTotal(run_id, reason.value, 1, sequence, sequence))

    def add_unknown(self, reason: DropReason, messages: int) -> None:
        """So many, of whatever run."""
        if messages:
            self._add(DropTotal(UNKNOWN_RUN, reason.value, messages, 0, 0))

    def find(self, totals: Iterable[DropTotal], untold: Collection[str]) -> None:
        """A file says so; what it says of a key is taken once.

        ``untold`` are reasons that some of it was given up for and no event told of.
        """
        for total in totals:
            key = (total.run_id, total.reason)
            if key not in self._found:
                self._found.add(key)
                if key in self._totals:
                    self._add(total)
                else:
                    self._totals[key] = total
            if total.reason in untold:
                self._untold.add(key)

    def _add(self, more: DropTotal) -> None:
        key = (more.run_id, more.reason)
        known = self._totals.pop(key, None)
        if known is not None:
            firsts = [one.first for one in (known, more) if one.first]
            more = more._replace(
                messages=known.messages + more.messages,
                first=min(firsts, default=0),
                last=max(known.last, more.last),
            )
        self._totals[key] = more
        self._unsaved.add(key)
        self._untold.add(key)
        while len(self._totals) > KEPT_TOTALS:
            oldest = next(iter(self._totals))
            del self._totals[oldest]
            self._unsaved.discard(oldest)
            self._untold.discard(oldest)

    def on_new_file(self) -> None:
        """The file that knew of them is gone."""
        self._unsaved = set(self._totals)
        self._found = set(self._totals)

    def totals(self) -> list[DropTotal]:
        """The ones that grew last stand last."""
        return list(self._totals.values())

    def take_untold(self) -> list[DropTotal]:
        """What grew since the last call."""
        told, self._untold = self._untold, set()
        return [total for key, total in self._totals.items() if key in told]

    def unsaved(self) -> list[DropTotal]:
        """What the disk does not know."""
        return [total for key, total in self._totals.items() if key in self._unsaved]

    def saved(self, totals: Iterable[DropTotal]) -> None:
        """The disk knows these now."""
        for total in totals:
            key = (total.run_id, total.reason)
            self._found.add(key)
            if self._totals.get(key) == total:
                self._unsaved.discard(key)
