"""What is missing, and why: the cloud's ledger against what the vehicle told. Pure.

Every sequence from 1 to the highest known of a run is received or missing, and every
missing one gets one of these causes, in this order:

==================  ===================================================================
``too_new``         created after the vehicle's last status: nobody can say yet
``lost_in_crash``   created in the last moments before a power cut or kill
a drop's reason     the vehicle says that it gave so many of this run up
``waiting``         the vehicle says that so many wait to be sent
``unexplained``     none of these; must be 0
==================  ===================================================================

A vehicle tells how many it dropped and how many wait, not which. Of a run's gaps the
oldest that a drop may be in are taken first; what waits is looked for in the newest run
first, as the backlog is sent from its oldest end. So the sums are exact while a single
gap's cause is the likeliest.

While something waits, ``unexplained`` may be too low by what arrived since the last
status, never too high; with nothing waiting it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cloud.accounting.ledger import UNKNOWN_RUN, Dropped, RunHead, merge
from cloud.accounting.ranges import Gap, Range, gaps

TOO_NEW: Final = "too_new"
LOST_IN_CRASH: Final = "lost_in_crash"
WAITING: Final = "waiting"
UNEXPLAINED: Final = "unexplained"
NO_DROPS: Final = frozenset({TOO_NEW, LOST_IN_CRASH, WAITING, UNEXPLAINED})
"""Every other cause is the reason of a drop."""

USUAL_UNFLUSHED_S: Final = 1.0
"""Where the vehicle did not tell its ``outbox.flush_interval_s``."""

TAIL_MARGIN_S: Final = 2.0
"""A commit's own time and one sampling interval, beyond the flush interval."""


class RunState(StrEnum):
    """How far a run has come, as far as is known."""

    OPEN = "open"
    """The vehicle is online in it."""

    OFFLINE = "offline"
    """It is the vehicle's newest, and the vehicle is not connected."""

    ENDED = "ended"
    """In order; where it ended is known."""

    CRASHED = "crashed"
    """By a power cut or a kill; of its last moments nothing may be known."""

    END_UNKNOWN = "end unknown"
    """It is not the newest, and no later run said where it ended."""


@dataclass(slots=True)
class ExplainedGap:
    """Missing sequences and how many of them are missing why."""

    gap: Gap
    causes: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Not explained yet."""
        return self.gap.messages - sum(self.causes.values())

    def take(self, cause: str, messages: int) -> int:
        """Explain up to so many; how many that were."""
        taken = min(messages, self.left)
        if taken > 0:
            self.causes[cause] = self.causes.get(cause, 0) + taken
        return taken


@dataclass(slots=True)
class RunAccount:
    """One run, reconciled."""

    head: RunHead
    state: RunState
    last_sequence: int
    """The highest that is known to have been created."""
    gaps: list[ExplainedGap]

    @property
    def missing(self) -> int:
        """Known to have been created and not received."""
        return sum(one.gap.messages for one in self.gaps)

    def causes(self) -> dict[str, int]:
        """How many are missing why; empty when nothing is."""
        return total_causes(self.gaps)

    @property
    def unexplained(self) -> int:
        """What nobody can explain."""
        return self.causes().get(UNEXPLAINED, 0)

    @property
    def tail_unknown_s(self) -> float | None:
        """After a crash: what was created so shortly before it may be lost without a trace."""
        if self.state is not RunState.CRASHED:
            return None
        return _unflushed_s(self.head)


def total_causes(found: Iterable[ExplainedGap]) -> dict[str, int]:
    """The causes of several gaps, added up."""
    sums: dict[str, int] = {}
    for one in found:
        for cause, messages in one.causes.items():
            sums[cause] = sums.get(cause, 0) + messages
    return sums


def newest_told(heads: Iterable[RunHead]) -> RunHead | None:
    """The run that the vehicle's last status is of; None before the first status."""
    told = [head for head in heads if head.told is not None]
    alive = [head for head in told if head.end is None] or told
    return max(alive, key=lambda head: head.told.received_ms if head.told else 0, default=None)


def reconcile(
    heads: Iterable[RunHead], ranges_of: Callable[[str], Iterable[Range]]
) -> list[RunAccount]:
    """Every run of one vehicle, the oldest first.

    ``ranges_of`` gives a run's ranges in ascending order; it is asked only for runs of
    which something is missing.
    """
    ordered = _in_order(list(heads))
    current = newest_told(ordered)
    runs = [_run(head, current, ranges_of) for head in ordered]
    drops = _drops(ordered)
    for run in runs:
        _explain_by_drops(run.gaps, drops.get(run.head.run_id, {}))
    for reason, dropped in drops.get(UNKNOWN_RUN, {}).items():
        _explain(_oldest_first(runs), reason, dropped.messages)
    waiting = current.told.backlog_messages if current is not None and current.told else None
    _explain(_newest_first(runs), WAITING, waiting or 0)
    for one in _oldest_first(runs):
        one.take(UNEXPLAINED, one.left)
    return runs


def _in_order(heads: Sequence[RunHead]) -> list[RunHead]:
    """By the vehicle's own time; a run without one comes just before the next that has it."""
    by_id = {head.run_id: head for head in heads}

    def place(head: RunHead) -> tuple[int, int]:
        before = 0
        while head.first_ms is None and head.end is not None and before > -len(heads):
            if head.end.next_run_id not in by_id:
                break
            head = by_id[head.end.next_run_id]
            before -= 1
        return (head.first_ms or head.seen_ms, before)

    return sorted(heads, key=place)


def _run(
    head: RunHead, current: RunHead | None, ranges_of: Callable[[str], Iterable[Range]]
) -> RunAccount:
    told_last = head.told.last_sequence if head.told else 0
    end = max(head.highest, told_last, head.end.last_sequence if head.end else 0)
    missing = gaps(ranges_of(head.run_id), end) if end > head.received else []
    if head is current:
        found = _cut(missing, told_last, TOO_NEW)
    elif head.told is None and head.end is None and _is_newer(head, current):
        found = _cut(missing, 0, TOO_NEW)
    elif head.end is not None and head.end.unflushed_s != 0:
        since_ms = (head.last_ms or 0) - 1000 * (_unflushed_s(head) + TAIL_MARGIN_S)
        found = [
            piece
            for gap in missing
            for piece in (
                _cut([gap], head.end.last_sequence, LOST_IN_CRASH)
                if (gap.before_ms or 0) >= since_ms
                else [ExplainedGap(gap)]
            )
        ]
    else:
        found = [ExplainedGap(gap) for gap in missing]
    return RunAccount(head, _state(head, current), end, found)


def _is_newer(head: RunHead, current: RunHead | None) -> bool:
    return (
        current is not None
        and current.told is not None
        and head.seen_ms >= current.told.received_ms
    )


def _cut(missing: Iterable[Gap], last: int, cause: str) -> list[ExplainedGap]:
    """What lies behind ``last`` has this cause."""
    found = []
    for gap in missing:
        if gap.first <= last:
            found.append(ExplainedGap(gap._replace(last=min(gap.last, last))))
        if gap.last > last:
            behind = ExplainedGap(gap._replace(first=max(gap.first, last + 1)))
            behind.take(cause, behind.left)
            found.append(behind)
    return found


def _unflushed_s(head: RunHead) -> float:
    told = head.end.unflushed_s if head.end else None
    return USUAL_UNFLUSHED_S if told is None else told


def _state(head: RunHead, current: RunHead | None) -> RunState:
    if head.end is not None:
        return RunState.ENDED if head.end.unflushed_s == 0 else RunState.CRASHED
    if head is not current or head.told is None:
        return RunState.END_UNKNOWN
    return RunState.OPEN if head.told.state == "online" else RunState.OFFLINE


def _drops(heads: Sequence[RunHead]) -> dict[str, dict[str, Dropped]]:
    """What the vehicle told in any of its runs, by the run that lost something."""
    merged: dict[str, dict[str, Dropped]] = {}
    for head in heads:
        for run_id, by_reason in head.drops.items():
            for reason, dropped in by_reason.items():
                merge(merged.setdefault(run_id, {}), reason, dropped)
    return merged


def _explain_by_drops(found: Iterable[ExplainedGap], drops: dict[str, Dropped]) -> None:
    found = list(found)
    # the narrowest first: what may be anywhere fills what is left
    for reason, dropped in sorted(drops.items(), key=lambda item: _width(item[1])):
        first, last = dropped.first or 1, dropped.last
        touched = [
            one
            for one in found
            if one.gap.last >= first and (last is None or one.gap.first <= last)
        ]
        _explain(touched, reason, dropped.messages)


def _width(dropped: Dropped) -> float:
    if dropped.first is None or dropped.last is None:
        return float("inf")
    return dropped.last - dropped.first


def _explain(found: Iterable[ExplainedGap], cause: str, messages: int) -> None:
    for one in found:
        if messages <= 0:
            return
        messages -= one.take(cause, messages)


def _oldest_first(runs: Sequence[RunAccount]) -> list[ExplainedGap]:
    return [one for run in runs for one in run.gaps]


def _newest_first(runs: Sequence[RunAccount]) -> list[ExplainedGap]:
    return _oldest_first(runs)[::-1]
