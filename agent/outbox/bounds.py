"""Keeps the file within its bounds of bytes and age, a few hundred rows at a time.

Runs in the writer's thread before a commit and adds to what that commit writes. A sweep
goes through the samples from the oldest to the newest, window by window, and begins
again one level higher. The newest eighth of the rows is left out, so what was taken
last keeps its full resolution while a sweep goes on. Where each sweep stands is
committed with its rows; were it lost, a sweep from the beginning finds nothing to do
where it was before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from typing import Final

from agent.outbox.batch import Batch, Rewrite, Row, Sweep
from agent.outbox.disk_ledger import ROW_BYTES, DiskLedger
from agent.outbox.eviction import AGE_CHECK_EVERY_S, AGE_CHECK_ROWS, FADE, Eviction
from agent.outbox.lanes import FIRST
from agent.outbox.message import DropReason, Kind
from agent.outbox.store import Store
from agent.outbox.thinning import MAX_LEVEL, point, thin
from agent.ports import Clock
from contract import TimeQuality

LOG = logging.getLogger("agent.outbox")

WINDOW_ROWS: Final = 500
ROUND_ROWS: Final = 2_000
"""Read in a round at most, and as many written at most: some 0.2 s on a slow board."""

_FRESH_SHARE: Final = 8
_SIZE_SWEEP: Final = "size"
_TELL_EVERY_S: Final = 600.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Bounds:
    """Not thread-safe; the writer's thread alone calls it."""

    def __init__(self, ledger: DiskLedger, store: Store, clock: Clock, eviction: Eviction) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._eviction = eviction
        self._sweeps: dict[str, Sweep] = {}
        self._told_s: dict[DropReason, float] = {}
        self.unfinished = False
        """The last round did not free enough, or left rows unlooked at."""

    @property
    def next_age_check_s(self) -> float:
        """Monotonic."""
        return self._eviction.next_age_check_s

    def reset(self, sweeps: dict[str, Sweep]) -> None:
        """A file was opened in which the sweeps stand like this."""
        self._sweeps = sweeps

    def enforce(self, *, disk_full: bool) -> Batch:
        """Decide what goes; what must be written beside the deletes of the ledger."""
        batch = Batch()
        self.unfinished = False
        if not self._ledger.on_disk():
            self._sweeps.clear()
            return batch
        self._by_size(batch, disk_full=disk_full)
        self._by_age(batch)
        return batch

    def _by_size(self, batch: Batch, *, disk_full: bool) -> None:
        if disk_full and self._ledger.deletes_wait():
            return  # not even what is given up already could be removed: more would not help
        used, allocated = self._store.space()
        if self._eviction.relaxed(used) and not disk_full:
            self._sweeps.pop(_SIZE_SWEEP, None)
        # while the disk takes no more, what the file has is what there is
        limit = allocated if disk_full else self._eviction.max_bytes
        over = self._eviction.bytes_to_free(used + self._ledger.unwritten()[1], limit)
        row_bytes = max(ROW_BYTES, used // self._ledger.on_disk())
        budget = ROUND_ROWS
        while over > 0 and budget > 0:
            sweep = self._sweeps.setdefault(_SIZE_SWEEP, Sweep(_SIZE_SWEEP, FIRST, 1))
            newest = self._ledger.newest_row() - self._ledger.thinnable() // _FRESH_SHARE
            rows = [row for row in self._window(sweep) if row[0] <= newest]
            budget -= len(rows) + 1
            if len(rows) >= 3:
                over -= self._thin(batch, sweep, rows)
            elif sweep.level < MAX_LEVEL and sweep.position != FIRST:
                sweep.level, sweep.position = sweep.level + 1, FIRST
            else:
                # the coarsest level, or nothing but a few samples: now whole messages go
                sweep.level, sweep.position = MAX_LEVEL, FIRST
                wanted = min(budget, ceil(over / row_bytes))
                evicted = self._evict_oldest(wanted, spare_events=disk_full)
                over -= evicted * row_bytes
                budget -= evicted
                if not evicted:
                    return  # all that is left is in flight, or events on a full disk
        self.unfinished = over > 0

    def _window(self, sweep: Sweep) -> list[Row]:
        """From the last row of the window before, which stays whatever comes."""
        return self._store.window(max(FIRST, sweep.position - 1), WINDOW_ROWS)

    def _thin(self, batch: Batch, sweep: Sweep, rows: list[Row]) -> int:
        """Thin one window to the sweep's level; bytes that this frees, about."""
        held, gone = self._ledger.in_use(Kind.SAMPLE)
        points = [point(*row) for row in rows if row[0] not in gone]
        chosen = thin(points, sweep.level, held)
        identities = {row[0]: (row[1], row[2]) for row in rows}
        evicted = self._ledger.evict(
            Kind.SAMPLE, {row: identities[row] for row in chosen}, DropReason.THINNED
        )
        if evicted:
            self._tell(DropReason.THINNED)
            left = [row for row in rows[1:-1] if row[0] not in evicted and row[0] not in gone]
            batch.rewrites.append(Rewrite(rows[1][0], rows[-2][0], left))
        sweep.position = rows[-1][0]
        batch.sweeps = [replace(one) for one in self._sweeps.values()]
        return sum(len(row[4]) + ROW_BYTES for row in rows if row[0] in evicted)

    def _evict_oldest(self, wanted: int, *, spare_events: bool) -> int:
        """Samples first, events last.

        ``spare_events``: while the disk takes no more, what does not fit waits in memory;
        an event on disk never makes room for it.
        """
        evicted = 0
        for kind in (Kind.SAMPLE,) if spare_events else Kind:
            oldest = self._oldest(kind, wanted - evicted)
            evicted += self._evict(kind, _identities(oldest), DropReason.OUTBOX_FULL)
        return evicted

    def _by_age(self, batch: Batch) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._eviction.next_age_check_s:
            return
        self._eviction.next_age_check_s = now_s + AGE_CHECK_EVERY_S
        if self._clock.quality() is TimeQuality.UNSYNCED:
            return
        now_ms = int((self._clock.utc() - _EPOCH).total_seconds() * 1000)
        full = False
        for share, level in FADE:
            full |= self._fade(batch, level, self._eviction.fade_before_ms(share, now_ms))
        for kind in Kind:
            oldest = self._oldest(kind, AGE_CHECK_ROWS)
            expired = self._eviction.expired([entry[:2] for entry in oldest], now_ms)
            self._evict(kind, _identities(oldest[: len(expired)]), DropReason.EXPIRED)
            full |= len(expired) == AGE_CHECK_ROWS
        if full:
            self._eviction.next_age_check_s = now_s

    def _fade(self, batch: Batch, level: int, before_ms: int) -> bool:
        """One window of what is older; whether there may be more of it."""
        name = f"age-{level}"
        sweep = self._sweeps.setdefault(name, Sweep(name, FIRST, level))
        rows = self._window(sweep)
        old = 0
        for index, row in enumerate(rows):
            if row[3] is not None and row[3] < before_ms:
                old = index + 1
        if old >= 3:
            self._thin(batch, sweep, rows[:old])
        return old == WINDOW_ROWS

    def _oldest(self, kind: Kind, rows: int) -> list[Oldest]:
        held, gone = self._ledger.in_use(kind)
        skip = held | gone
        oldest = self._store.oldest(kind, rows + len(skip)) if rows > 0 else []
        return [entry for entry in oldest if entry[0] not in skip][:rows]

    def _evict(self, kind: Kind, rows: Mapping[int, tuple[str, int]], reason: DropReason) -> int:
        evicted = self._ledger.evict(kind, rows, reason)
        if evicted:
            self._tell(reason)
        return len(evicted)

    def _tell(self, reason: DropReason) -> None:
        now_s = self._clock.monotonic_s()
        # one line when it begins and one every ten minutes; the counters have the rest
        if now_s - self._told_s.get(reason, -_TELL_EVERY_S) >= _TELL_EVERY_S:
            self._told_s[reason] = now_s
            total = self._ledger.tally().dropped[reason.value]
            LOG.warning("messages are dropped (%s), %d so far", reason.value, total)


Oldest = tuple[int, int | None, str, int]
"""``(id, taken_ms, run_id, sequence)``."""


def _identities(oldest: Iterable[Oldest]) -> dict[int, tuple[str, int]]:
    return {row: (run_id, sequence) for row, _, run_id, sequence in oldest}
