"""The writer's side of the outbox: open, commit in groups, go on after every fault."""

from __future__ import annotations

import logging
from typing import Final

from agent.outbox.batch import Batch, Contents
from agent.outbox.bounds import Bounds
from agent.outbox.disk_ledger import COMMIT_ROWS, DiskLedger
from agent.outbox.eviction import Eviction
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.salvage import STEP_EVERY_S, Salvage
from agent.outbox.store import Store
from agent.outbox.untimed import Untimed
from agent.ports import Clock

LOG = logging.getLogger("agent.outbox")

MEMORY_LIMIT_MESSAGES: Final = 5_000
"""Kept while the disk takes nothing: 17 minutes at 5 samples/s, about 5 MB."""

_COMMIT_SHARE: Final = (0.2, 0.6)
"""Of ``flush_interval_s``: what is left for the commit itself, at least and at most."""

LEAST_DUE_SHARE: Final = 1 - _COMMIT_SHARE[1]
"""Of ``flush_interval_s``: no message is due for its flush sooner after it was put."""

_RETRY_DISK_S: Final = 2.0
_FULL_TRIES: Final = 2
"""A write that failed once may go the next time: nothing is given up for it."""


class Writer:
    """Not thread-safe, but for ``note_trouble``, ``can_read`` and ``apply``."""

    def __init__(
        self,
        ledger: DiskLedger,
        store: Store,
        clock: Clock,
        *,
        run_id: str,
        flush_interval_s: float,
        eviction: Eviction,
        untimed: Untimed,
    ) -> None:
        self.flush_interval_s = flush_interval_s
        self.hold_live_s = 0.0
        self.previous_run: tuple[str, int] | None = None
        self.is_open = False
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._run_id = run_id
        self._untimed = untimed
        self._eviction = eviction
        self._bounds = Bounds(ledger, store, clock, eviction)
        self._salvage = Salvage(ledger, store)
        self._trouble: StoreFault | None = None
        self._went_bad = False
        """The open file is damaged and still has to be set aside."""
        self._full_tries = 0
        """Writes that found no room, one after the other."""
        self._was_full = False
        """The disk was found full before: the next full write is believed at once."""
        self._retry_at_s = 0.0
        self._slow_commit_s = 0.0
        self._chore_at_s: float | None = None

    def open(self) -> None:
        """Open the file; a damaged one is set aside. Never raises for a broken disk."""
        try:
            self._adopt(self._open_store())
        except StoreError as error:
            self.note_trouble(error)

    def _open_store(self) -> Contents:
        try:
            return self._store.open(self._run_id)
        except StoreError as error:
            if error.fault is not StoreFault.DAMAGED:
                raise
            LOG.error("the outbox's file is damaged: %s", error.message)  # noqa: TRY400  the message says it all
            kept = self._store.set_aside()
            LOG.error("set aside as %s; a new one is made and it is salvaged", kept)  # noqa: TRY400  likewise
            return self._store.open(self._run_id)

    def _adopt(self, contents: Contents) -> None:
        # first, as it may fail; the rest does not
        self._untimed.opened(self._store, contents.last_id)
        with self._ledger.claim_lock:
            self._ledger.adopt(contents)
        self.previous_run = contents.previous_run or self.previous_run
        self._bounds.reset(contents.sweeps)
        self._salvage.find(contents.jobs)
        self._chore_at_s = self._clock.monotonic_s() if self._salvage.waits() else None
        self._went_bad = False
        self.is_open = True

    def close(self, last_sequence: int) -> None:
        """Write what is left and note where the run ended."""
        if not self.is_open:
            return
        self.flush()
        try:
            self._store.note_end(self._run_id, last_sequence)
        except StoreError as error:
            LOG.warning("the end of this run could not be noted: %s", error.message)
        self.is_open = False
        self._salvage.close()
        self._store.close()

    def apply(self, *, flush_interval_s: float, max_bytes: int, max_age_s: float) -> None:
        """Other bounds from now on; each is a value of its own, so a lock would add nothing."""
        self.flush_interval_s = flush_interval_s
        self._eviction.apply(max_bytes=max_bytes, max_age_s=max_age_s)

    def can_read(self) -> bool:
        """The backlog can be read."""
        return self.is_open and not self._went_bad

    def flush_in_s(self) -> float | None:
        """Seconds until a flush is due, 0 when overdue; None when nothing needs one."""
        now_s = self._clock.monotonic_s()
        due = [self._ledger.due_s(self.flush_interval_s, self._commit_allowance_s())]
        if self.is_open:
            due.append(self._chore_at_s)
            if self._ledger.on_disk():
                due.append(self._bounds.next_age_check_s)
        known = [one for one in due if one is not None]
        if self._trouble is not None:
            # earlier would find the disk as it was; without a message there is no hurry
            known = [max(self._retry_at_s, min(known, default=0.0))]
        return max(0.0, min(known) - now_s) if known else None

    def _commit_allowance_s(self) -> float:
        """A card that was slow lately is given more of the interval."""
        least, most = (share * self.flush_interval_s for share in _COMMIT_SHARE)
        return max(least, min(most, 2 * self._slow_commit_s))

    def flush(self) -> None:
        """Commit what lives in memory alone and remove what is settled. Never raises."""
        if not self.is_open:
            self.open()
            if not self.is_open:
                return
        try:
            if self._went_bad:
                self._begin_anew()
            self._write()
        except StoreError as error:
            self.note_trouble(error)
            return
        if self._trouble is not None:
            LOG.info("the outbox is written to disk again")
            self._trouble = None
            self._full_tries = 0
        try:
            self._do_chores()
        except StoreError as error:
            self.note_trouble(error)

    def _write(self) -> None:
        full = self._full_tries >= (1 if self._was_full else _FULL_TRIES)
        self._was_full = self._was_full or full
        extra = self._bounds.enforce(disk_full=full)
        while True:
            batch = self._ledger.snapshot()
            batch.rewrites, batch.sweeps = extra.rewrites, extra.sweeps
            more = len(batch.inserts) == COMMIT_ROWS or any(
                len(rows) == COMMIT_ROWS for rows in batch.deletes.values()
            )
            self._commit(batch)
            if not more:
                return
            extra = Batch()

    def restamp(self) -> bool:
        """The next step of re-stamping what is on disk; whether there was one. Never raises.

        Apart from ``flush``, so that it writes no message before its time.
        """
        step = self._ledger.next_restamping()
        if step is None or not self.is_open or self._trouble is not None:
            return False
        try:
            last_row = self._store.transact(step.run)
        except StoreError as error:
            self.note_trouble(error)
            return False
        self._ledger.restamped(step, last_row)
        return True

    def _commit(self, batch: Batch) -> None:
        if not batch:
            return
        started_s = self._clock.monotonic_s()
        try:
            self._store.commit(batch)
        except StoreError as error:
            if error.fault is not StoreFault.FULL or not batch.deletes:
                raise
            # what was acknowledged or thinned frees the pages that the rest then fits in
            freeing = Batch(deletes=batch.deletes, rewrites=batch.rewrites)
            self._store.commit(freeing)
            self._ledger.committed(freeing, self.hold_live_s)
            batch.deletes, batch.rewrites = {}, []
            self._store.commit(batch)
        took_s = self._clock.monotonic_s() - started_s
        self._slow_commit_s = max(took_s, 0.9 * self._slow_commit_s)
        self._ledger.committed(batch, self.hold_live_s)

    def _do_chores(self) -> None:
        """What has time: salvage, and giving free pages back; a small step of each."""
        now_s = self._clock.monotonic_s()
        if self._bounds.unfinished:
            self._chore_at_s = now_s
            return
        if self._chore_at_s is None or now_s < self._chore_at_s:
            if self._chore_at_s is None and self._store.wants_compaction():
                self._chore_at_s = now_s + STEP_EVERY_S
            return
        more = False
        if self._salvage.waits():
            self._salvage.step()
            more = self._salvage.waits()
        more |= self._store.compact()
        self._chore_at_s = now_s + STEP_EVERY_S if more else None

    def note_trouble(self, error: StoreError) -> None:
        """The disk failed; says so once and sets the time of the next try."""
        if self._trouble is not error.fault:
            LOG.error(
                "the outbox cannot use its disk (%s); up to %d messages are kept in memory",
                error.message,
                MEMORY_LIMIT_MESSAGES,
            )
        self._trouble = error.fault
        self._retry_at_s = self._clock.monotonic_s()
        self._full_tries = self._full_tries + 1 if error.fault is StoreFault.FULL else 0
        if error.fault is StoreFault.DAMAGED:
            self._went_bad = self.is_open
        else:
            self._retry_at_s += _RETRY_DISK_S
        self._ledger.needs_flush.set()

    def _begin_anew(self) -> None:
        """The file went bad while in use: set it aside, keep what is still in memory."""
        with self._ledger.claim_lock:
            kept = self._store.set_aside()
            waiting, skip = self._ledger.forget_disk(kept.name)
        self._salvage.note_set_aside(kept, waiting, skip)
        self.is_open = False
        LOG.error("the outbox's file was damaged: set aside as %s, %d rows in it", kept, waiting)
        self._adopt(self._store.open(self._run_id))
