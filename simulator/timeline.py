"""Where each epoch lies on the log's own time line.

Offsets never decrease. Between two epochs they grow by the difference of the receiver's
times; where that cannot be (no time, a step back, a jump of more than a day) by the
log's usual interval. Dates come from RMC; an epoch without one takes the last date on,
over midnight too. A log that never gives a date has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from simulator.epoch import Epoch
from simulator.nmea import DAY_MS

MAX_STEP_MS: Final = DAY_MS
"""More than this between two epochs is a receiver's clock that jumped, not a gap."""

GAP_INTERVALS: Final = 3
DEFAULT_INTERVAL_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Gap:
    """A pause of the log: ``length_s`` from the epoch at ``offset_s`` to the next."""

    offset_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """The epochs with their offsets, and what was odd about their times."""

    epochs: tuple[Epoch, ...]
    interval_s: float
    gaps: tuple[Gap, ...]
    steps_back: int
    clock_jumps: int
    midnights: int


def lay_out(collected: Sequence[Epoch]) -> Timeline:
    """Date the epochs and set their offsets."""
    dated, midnights = _dated(collected)
    differences = [_difference_ms(before, after) for before, after in pairwise(dated)]
    usual = [ms for ms in differences if ms is not None and 0 < ms <= 10_000]
    interval_ms = round(median(usual)) if usual else DEFAULT_INTERVAL_MS
    laid: list[Epoch] = []
    gaps: list[Gap] = []
    steps_back = clock_jumps = 0
    offset_ms = 0
    # Epochs without a time stand between two that have one: their share of the difference
    # is already spent when the next timed epoch comes.
    spent_ms = 0
    last_timed: Epoch | None = None
    for epoch in dated:
        step_ms = interval_ms if laid else 0
        difference_ms = _difference_ms(last_timed, epoch) if last_timed else None
        if difference_ms is not None:
            if difference_ms < 0:
                steps_back += 1
            elif difference_ms > MAX_STEP_MS:
                clock_jumps += 1
            else:
                step_ms = max(difference_ms - spent_ms, 0)
        if epoch.time_of_day_ms is None:
            spent_ms += step_ms
        else:
            last_timed, spent_ms = epoch, 0
        if step_ms >= GAP_INTERVALS * interval_ms:
            gaps.append(Gap(offset_ms / 1000, step_ms / 1000))
        offset_ms += step_ms
        laid.append(replace(epoch, offset_s=offset_ms / 1000))
    return Timeline(
        tuple(laid), interval_ms / 1000, tuple(gaps), steps_back, clock_jumps, midnights
    )


def _difference_ms(before: Epoch, after: Epoch) -> int | None:
    """Time between two epochs; ``None`` where one of them has no time of day."""
    if before.time_of_day_ms is None or after.time_of_day_ms is None:
        return None
    within_day_ms = after.time_of_day_ms - before.time_of_day_ms
    if before.date is not None and after.date is not None:
        return (after.date - before.date).days * DAY_MS + within_day_ms
    return within_day_ms + DAY_MS if _crosses_midnight(before, after) else within_day_ms


def _crosses_midnight(before: Epoch, after: Epoch) -> bool:
    """Whether the time of day fell by more than half a day: nobody steps back that far."""
    if before.time_of_day_ms is None or after.time_of_day_ms is None:
        return False
    return before.time_of_day_ms - after.time_of_day_ms > DAY_MS // 2


def _dated(collected: Sequence[Epoch]) -> tuple[list[Epoch], int]:
    """The epochs with a date each, if RMC gave any, and the number of midnights crossed."""
    dated: list[Epoch] = []
    midnights = 0
    known: date | None = None
    last_timed: Epoch | None = None
    for epoch in collected:
        if epoch.time_of_day_ms is None:
            dated.append(epoch)
            continue
        crossed = last_timed is not None and _crosses_midnight(last_timed, epoch)
        midnights += crossed
        if epoch.date is not None:
            known = epoch.date
        elif known is not None and crossed:
            known += timedelta(days=1)
        last_timed = replace(epoch, date=known)
        dated.append(last_timed)
    return dated, midnights
