"""The outbox itself: its lanes, its file and its books under one roof.

Threads: the engine calls ``put``; the publisher claims and settles; ``outbox-writer``
calls ``flush``. ``_lock`` guards lanes and books and is held for moments only, never over
a commit. ``_claim_lock`` keeps a read of the backlog and the end of a commit apart, so
that a row that was just settled is not claimed from an older snapshot.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from agent.outbox.eviction import AGE_CHECK_EVERY_S, AGE_CHECK_ROWS, Eviction
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.lanes import Lanes
from agent.outbox.message import DropReason, Kind, Message, Place
from agent.outbox.store import Batch, Contents, Store
from agent.outbox.tally import Drops, Tally
from agent.outbox.untimed import Untimed
from agent.ports import Clock, TimeBase
from contract import TimeQuality

LOG = logging.getLogger("agent.outbox")

MEMORY_LIMIT_MESSAGES: Final = 5_000
"""Kept while the disk takes nothing: 17 minutes at 5 samples/s, about 5 MB."""

_COMMIT_SHARE: Final = (0.2, 0.6)
"""Of ``flush_interval_s``: what is left for the commit itself, at least and at most."""

LEAST_DUE_SHARE: Final = 1 - _COMMIT_SHARE[1]
"""Of ``flush_interval_s``: no message is due for its flush sooner after it was put."""

_RETRY_DISK_S: Final = 2.0
_TELL_EVERY_S: Final = 600.0
_ROW_BYTES: Final = 40
"""What a row takes beside its payload, about."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Outbox:
    """Keeps what is not acknowledged. The package's docstring has the invariants."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        run_id: str,
        flush_interval_s: float,
        eviction: Eviction,
        untimed: Untimed | None = None,
    ) -> None:
        self.flush_interval_s = flush_interval_s
        self.hold_live_s = 0.0
        """How long a message that is on disk too stays in the live lane, for live batches."""
        self.needs_flush = threading.Event()
        """Set when there is something to write and was nothing before."""
        self.previous_run: tuple[str, int] | None = None
        self._store = store
        self._clock = clock
        self._run_id = run_id
        self._eviction = eviction
        self._lock = threading.Lock()
        self._claim_lock = threading.Lock()
        self._lanes = Lanes()
        self._untimed = untimed or Untimed(run_id)
        self._tally = Tally()
        self._drops = Drops()
        self._refused: list[tuple[Message, str]] = []
        self._dirty_since_s: float | None = None
        self._trouble: StoreFault | None = None
        self._retry_at_s = 0.0
        self._slow_commit_s = 0.0
        self._told_s: dict[DropReason, float] = {}
        self._open = False

    # --- opening and closing -------------------------------------------------------

    def open(self) -> None:
        """Open the file; a damaged one is set aside. Never raises for a broken disk."""
        try:
            contents = self._open_store()
            self._untimed.opened(self._store, contents.last_id)
        except StoreError as error:
            self._note_trouble(error)
            return
        with self._claim_lock, self._lock:
            self._adopt(contents)
            self.previous_run = contents.previous_run or self.previous_run
            self._drops.inherit(contents.unreported_drops)

    def _open_store(self) -> Contents:
        try:
            return self._store.open(self._run_id)
        except StoreError as error:
            if error.fault is not StoreFault.DAMAGED:
                raise
            LOG.error("the outbox's file is damaged: %s", error.message)  # noqa: TRY400  the message says it all
            kept = self._store.set_aside()
            LOG.error("set aside as %s; what it held is not counted; a new one is made", kept)  # noqa: TRY400  likewise
            return self._store.open(self._run_id)

    def _adopt(self, contents: Contents) -> None:
        found = sum(contents.messages.values())
        self._open = True
        self._lanes.adopt(contents.messages, contents.last_id)
        self._tally.inherited += found
        self._tally.waiting += found

    def close(self, last_sequence: int = 0) -> None:
        """Write what is left, note where the run ended; idempotent, safe before ``open``."""
        if not self._open:
            return
        self.flush()
        try:
            self._store.note_end(self._run_id, last_sequence)
        except StoreError as error:
            LOG.warning("the end of this run could not be noted: %s", error.message)
        with self._lock:
            self._open = False
        self._store.close()

    # --- the engine's side ---------------------------------------------------------

    def put(self, message: Message) -> None:
        """Take over one message; memory only, returns at once."""
        with self._lock:
            if not self._lanes.unwritten:
                self.needs_flush.set()
            self._lanes.put(message)
            self._tally.created[message.kind] += 1
            self._tally.waiting += 1
            if len(self._lanes.unwritten) > MEMORY_LIMIT_MESSAGES:
                surplus = self._lanes.oldest_unclaimed()
                if surplus is not None:
                    self._drop(surplus, DropReason.DISK_FULL)

    # --- the publisher's side ------------------------------------------------------

    def claim_live(self, kind: Kind, limit: int = 1) -> list[Message]:
        """The oldest live messages of a kind; none while they wait for the time."""
        with self._lock:
            return [] if self._untimed.live_waits else self._lanes.claim_live(kind, limit)

    def live(self, kind: Kind) -> tuple[int, float]:
        """How many may go from the live lane, and when the oldest was created (monotonic)."""
        with self._lock:
            lane = () if self._untimed.live_waits else self._lanes.live[kind]
            return (len(lane), lane[0].created_s) if lane else (0, 0.0)

    def backlog(self, kind: Kind) -> int:
        """Rows on disk that are neither settled nor held in memory; 0 when all wait."""
        with self._lock:
            if self._untimed.nothing_behind(kind, self._lanes.cursor[kind]):
                return 0
            return self._lanes.backlog(kind)

    def claim_backlog(self, kind: Kind, limit: int) -> list[Message]:
        """The oldest rows that wait on disk, at most ``limit``; none while the disk fails."""
        if not self._open or self._trouble is StoreFault.DAMAGED or self.backlog(kind) <= 0:
            return []
        now_s = self._clock.monotonic_s()
        claimed: list[Message] = []
        try:
            with self._claim_lock:
                while len(claimed) < limit:
                    wanted = limit - len(claimed)
                    rows = self._store.read(kind, self._lanes.cursor[kind], wanted)
                    with self._lock:
                        free = self._untimed.may_go(kind, rows)
                        claimed.extend(self._lanes.claim_rows(kind, free, now_s))
                        self._untimed.put_right(claimed)
                        if len(free) < len(rows):
                            cursor = self._lanes.cursor
                            cursor[kind] = self._untimed.skip_to(kind, cursor[kind])
                    if len(free) < wanted:
                        break
        except StoreError as error:
            self.give_back(claimed)
            self._note_trouble(error)
            return []
        return claimed

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """The broker has them: they leave memory now and the disk at the next commit."""
        with self._lock:
            for message in messages:
                if message.place is Place.SETTLED:
                    continue
                if message.run_id == self._run_id:
                    self._tally.acknowledged[message.kind] += 1
                else:
                    self._tally.inherited_acknowledged += 1
                self._settle(message)

    def refuse(self, message: Message, why: str) -> None:
        """Set one message aside for good: it is counted and kept for inspection."""
        with self._lock:
            if message.place is not Place.SETTLED:
                self._refused.append((message, why))
                self._drop(message, DropReason.REFUSED)

    def give_back(self, messages: Iterable[Message]) -> None:
        """They were not acknowledged: they wait again, in their old order."""
        with self._lock:
            self._lanes.give_back(messages)

    def leave_live_to_disk(self) -> None:
        """Drop from the live lane what is on disk too; for when the connection is gone."""
        with self._lock:
            self._lanes.leave_live_to_disk()

    def _settle(self, message: Message) -> None:
        self._lanes.settle(message)
        self._tally.waiting -= 1
        if message.row is not None:
            self._dirty()

    def _drop(self, message: Message, reason: DropReason) -> None:
        self._settle(message)
        self._count_drops(reason, 1)

    def _count_drops(self, reason: DropReason, messages: int) -> None:
        if messages:
            self._tally.drop(reason, messages)
            self._drops.add(reason, messages)
            self._dirty()

    def _dirty(self) -> None:
        if self._dirty_since_s is None:
            self._dirty_since_s = self._clock.monotonic_s()
            self.needs_flush.set()

    # --- time ----------------------------------------------------------------------

    @property
    def waits_for_time(self) -> bool:
        """Whether messages of this boot without a trusted time may be here."""
        return self._untimed.waiting

    def time_is_known(self, base: TimeBase) -> int:
        """Re-stamp what is in memory at once; ``restamp`` does what is on disk.

        Returns how many messages that were in memory; from any thread, again and again.
        """
        with self._lock:
            in_memory = [*self._lanes.unwritten.values()]
            for held in self._lanes.held.values():
                in_memory.extend(held.values())
            done = self._untimed.time_is_known(base, in_memory)
        self.needs_flush.set()
        return done

    def stop_waiting_for_time(self) -> None:
        """Let what has no trusted time go; it is re-stamped all the same if it is still here."""
        with self._lock:
            self._untimed.stop_waiting()

    def anything_to_send(self) -> bool:
        """Whether something may be sent now or awaits its acknowledgement."""
        with self._lock:
            if not self._untimed.live_waits:
                return self._tally.waiting > 0
            claimed = any(self._lanes.held.values())
        return claimed or any(self.backlog(kind) > 0 for kind in Kind)

    # --- accounts ------------------------------------------------------------------

    def tally(self) -> Tally:
        """The books at this moment."""
        with self._lock:
            return self._tally.copy()

    def waiting(self) -> int:
        """Messages neither acknowledged nor dropped."""
        with self._lock:
            return self._tally.waiting

    def take_unreported_drops(self) -> dict[str, int]:
        """Drops by reason that no ``dropped`` event has told of; the caller now tells."""
        with self._lock:
            taken = self._drops.take_unreported()
            if taken:
                self._dirty()
            return taken

    # --- the writer's side ---------------------------------------------------------

    def flush_in_s(self) -> float | None:
        """Seconds until a flush is due, 0 when overdue; None when nothing needs one."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            due = []
            if self._lanes.unwritten:
                oldest = next(iter(self._lanes.unwritten.values()))
                due.append(oldest.created_s + self.flush_interval_s - self._commit_allowance_s())
            if self._dirty_since_s is not None:
                due.append(self._dirty_since_s + self.flush_interval_s)
            if self._open and any(self._lanes.on_disk.values()):
                due.append(self._eviction.next_age_check_s)
            if self._trouble is not None:
                # earlier would find the disk as it was; without a message there is no hurry
                due = [max(self._retry_at_s, min(due, default=0.0))]
            return max(0.0, min(due) - now_s) if due else None

    def _commit_allowance_s(self) -> float:
        """A card that was slow lately is given more of the interval."""
        least, most = (share * self.flush_interval_s for share in _COMMIT_SHARE)
        return max(least, min(most, 2 * self._slow_commit_s))

    def flush(self) -> None:
        """Commit what lives in memory alone and remove what is settled. Never raises."""
        if not self._open:
            self.open()
            if not self._open:
                return
        try:
            if self._trouble is StoreFault.DAMAGED:
                self._begin_anew()
            self._mark_for_eviction()
            self._commit(self._snapshot())
        except StoreError as error:
            self._note_trouble(error)
            return
        if self._trouble is not None:
            LOG.info("the outbox is written to disk again")
            self._trouble = None

    def restamp(self) -> bool:
        """The next step of re-stamping what is on disk; whether there was one. Never raises.

        For the writer's thread. Apart from ``flush``, so that it writes nothing before its time.
        """
        with self._lock:
            step = self._untimed.next_step()
        if step is None or not self._open or self._trouble is not None:
            return False
        try:
            last_row = self._store.transact(step.run)
        except StoreError as error:
            self._note_trouble(error)
            return False
        # rows that were read before this step ended must not go by what holds after it
        with self._claim_lock, self._lock:
            self._untimed.step_done(step, last_row)
        return True

    def _snapshot(self) -> Batch:
        with self._lock:
            return Batch(
                self._lanes.to_insert(),
                self._lanes.to_delete(),
                self._refused[:],
                *self._drops.unsaved(),
            )

    def _commit(self, batch: Batch) -> None:
        if not batch:
            return
        started_s = self._clock.monotonic_s()
        try:
            self._store.commit(batch)
        except StoreError as error:
            if error.fault is not StoreFault.FULL or not batch.deletes:
                raise
            # what was acknowledged frees the pages that the rest then fits in
            freeing = Batch(deletes=batch.deletes)
            self._store.commit(freeing)
            self._finish(freeing)
            batch.deletes = {}
            self._store.commit(batch)
        took_s = self._clock.monotonic_s() - started_s
        self._slow_commit_s = max(took_s, 0.9 * self._slow_commit_s)
        self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        held_since_s = self._clock.monotonic_s() - self.hold_live_s
        with self._claim_lock, self._lock:
            self._lanes.committed(batch.inserts, batch.deletes, held_since_s)
            del self._refused[: len(batch.refused)]
            self._drops.saved(batch.drops, batch.reported)
            self._dirty_since_s = None
            if any(self._lanes.gone.values()) or self._refused or any(self._drops.unsaved()):
                self._dirty()

    # --- bounds and faults ---------------------------------------------------------

    def _mark_for_eviction(self) -> None:
        rows = sum(self._lanes.on_disk.values())
        if not rows:
            return
        now_s = self._clock.monotonic_s()
        with self._lock:
            coming = sum(len(m.payload) + _ROW_BYTES for m in self._lanes.unwritten.values())
        surplus = self._eviction.rows_to_free(self._store.used_bytes() + coming, rows)
        for kind in Kind:  # samples first, events last
            if surplus > 0:
                oldest = [row for row, _ in self._oldest(kind, surplus)]
                surplus -= self._evict(kind, oldest, DropReason.OUTBOX_FULL)
        if now_s < self._eviction.next_age_check_s:
            return
        self._eviction.next_age_check_s = now_s + AGE_CHECK_EVERY_S
        if self._clock.quality() is TimeQuality.UNSYNCED:
            return
        now_ms = int((self._clock.utc() - _EPOCH).total_seconds() * 1000)
        for kind in Kind:
            expired = self._eviction.expired(self._oldest(kind, AGE_CHECK_ROWS), now_ms)
            self._evict(kind, expired, DropReason.TOO_OLD)
            if len(expired) == AGE_CHECK_ROWS:
                self._eviction.next_age_check_s = now_s

    def _oldest(self, kind: Kind, rows: int) -> list[tuple[int, int | None]]:
        with self._lock:
            skip = self._lanes.in_use(kind)
        oldest = self._store.oldest(kind, rows + len(skip))
        return [entry for entry in oldest if entry[0] not in skip][:rows]

    def _evict(self, kind: Kind, rows: Iterable[int], reason: DropReason) -> int:
        with self._lock:
            evicted = self._lanes.evict(kind, rows)
            self._tally.waiting -= evicted
            self._count_drops(reason, evicted)
        now_s = self._clock.monotonic_s()
        # one line when it begins and one every ten minutes; the counters have the rest
        if evicted and now_s - self._told_s.get(reason, -_TELL_EVERY_S) >= _TELL_EVERY_S:
            self._told_s[reason] = now_s
            total = self._tally.dropped[reason.value]
            LOG.warning("messages are dropped (%s), %d so far", reason.value, total)
        return evicted

    def _note_trouble(self, error: StoreError) -> None:
        with self._lock:
            if self._trouble is not error.fault:
                LOG.error(
                    "the outbox cannot use its disk (%s); up to %d messages are kept in memory",
                    error.message,
                    MEMORY_LIMIT_MESSAGES,
                )
            self._trouble = error.fault
            self._retry_at_s = self._clock.monotonic_s()
            if error.fault is not StoreFault.DAMAGED:
                self._retry_at_s += _RETRY_DISK_S
            self.needs_flush.set()

    def _begin_anew(self) -> None:
        """The file went bad while in use: set it aside, keep what is still in memory."""
        with self._claim_lock, self._lock:
            kept = self._store.set_aside()
            lost = self._lanes.forget_disk()
            self._tally.waiting -= lost
            self._count_drops(DropReason.DAMAGED, lost)
            self._open = False
            LOG.error("the outbox's file was damaged: set aside as %s, %d rows in it", kept, lost)
            contents = self._store.open(self._run_id)
            self._adopt(contents)
            self._untimed.opened(self._store, contents.last_id)
