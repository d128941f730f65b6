"""The outbox itself: the part in memory, the part on disk, and the way between them.

Threads: the engine calls ``put``; the publisher claims and settles; ``outbox-writer``
calls ``flush``. ``_lock`` guards the memory part and is held for moments only, never
over a commit. ``_claim_lock`` keeps a read of the backlog and the end of a commit apart,
so that a row that was just settled is not claimed from an older snapshot.

The backlog is read by a cursor for each kind, so memory does not grow with it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from agent.outbox.eviction import AGE_CHECK_EVERY_S, AGE_CHECK_ROWS, Eviction
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.message import DropReason, Kind, Message, Place
from agent.outbox.store import Batch, Contents, Store
from agent.outbox.tally import Tally
from agent.ports import Clock
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
    ) -> None:
        self._store = store
        self._clock = clock
        self._run_id = run_id
        self.flush_interval_s = flush_interval_s
        self._eviction = eviction
        self.hold_live_s = 0.0
        """How long a message that is on disk too stays in the live lane, for live batches."""
        self.needs_flush = threading.Event()
        """Set when there is something to write and was nothing before."""
        self._lock = threading.Lock()
        self._claim_lock = threading.Lock()
        self._tally = Tally()
        self._next_ticket = 1
        self._next_row = 1
        self._live: dict[Kind, deque[Message]] = {kind: deque() for kind in Kind}
        self._unwritten: dict[int, Message] = {}
        self._held: dict[Kind, dict[int, Message]] = {kind: {} for kind in Kind}
        self._gone: dict[Kind, set[int]] = {kind: set() for kind in Kind}
        self._cursor: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._on_disk: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._refused: list[tuple[Message, str]] = []
        self._unsaved_drops: dict[str, int] = {}
        self._unreported: dict[str, int] = {}
        self._reported: dict[str, int] = {}
        self._dirty_since_s: float | None = None
        self._trouble: StoreFault | None = None
        self._retry_at_s = 0.0
        self._slow_commit_s = 0.0
        self._told_s: dict[DropReason, float] = {}
        self._open = False
        self.previous_run: tuple[str, int] | None = None

    # --- opening and closing -------------------------------------------------------

    def open(self) -> None:
        """Open the file; a damaged one is set aside. Never raises for a broken disk."""
        try:
            contents = self._open_store()
        except StoreError as error:
            self._note_trouble(error)
            return
        with self._claim_lock, self._lock:
            self._adopt(contents)
            self.previous_run = contents.previous_run or self.previous_run
            for reason, messages in contents.unreported_drops.items():
                self._unreported[reason] = self._unreported.get(reason, 0) + messages

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
        self._on_disk = dict(contents.messages)
        self._next_row = max(self._next_row, contents.last_id + 1)
        self._cursor = dict.fromkeys(Kind, 0)
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
            message.ticket = self._next_ticket
            self._next_ticket += 1
            if not self._unwritten:
                self.needs_flush.set()
            self._unwritten[message.ticket] = message
            self._live[message.kind].append(message)
            self._tally.created[message.kind] += 1
            self._tally.waiting += 1
            if len(self._unwritten) > MEMORY_LIMIT_MESSAGES:
                self._shed_from_memory()

    def _shed_from_memory(self) -> None:
        for kind in Kind:  # samples first
            for message in self._unwritten.values():
                if message.kind is kind and message.place is Place.LIVE:
                    self._live[kind].remove(message)
                    self._drop(message, DropReason.DISK_FULL)
                    return

    # --- the publisher's side ------------------------------------------------------

    def claim_live(self, kind: Kind, limit: int = 1) -> list[Message]:
        """The oldest live messages of a kind."""
        with self._lock:
            lane = self._live[kind]
            claimed = [lane.popleft() for _ in range(min(limit, len(lane)))]
            for message in claimed:
                message.place = Place.CLAIMED
            return claimed

    def live(self, kind: Kind) -> tuple[int, float]:
        """How many wait in the live lane, and when the oldest was created (monotonic)."""
        with self._lock:
            lane = self._live[kind]
            return (len(lane), lane[0].created_s) if lane else (0, 0.0)

    def backlog(self, kind: Kind) -> int:
        """Rows on disk that are neither settled nor held in memory."""
        with self._lock:
            return self._on_disk[kind] - len(self._gone[kind]) - len(self._held[kind])

    def claim_backlog(self, kind: Kind, limit: int) -> list[Message]:
        """The oldest rows that wait on disk, at most ``limit``; none while the disk fails."""
        if not self._open or self._trouble is StoreFault.DAMAGED or self.backlog(kind) <= 0:
            return []
        claimed: list[Message] = []
        try:
            with self._claim_lock:
                while len(claimed) < limit:
                    wanted = limit - len(claimed)
                    rows = self._store.read(kind, self._cursor[kind], wanted)
                    with self._lock:
                        claimed.extend(self._claim_rows(kind, rows))
                    if len(rows) < wanted:
                        break
        except StoreError as error:
            self.give_back(claimed)
            self._note_trouble(error)
            return []
        return claimed

    def _claim_rows(
        self, kind: Kind, rows: Iterable[tuple[int, str, int, int | None, bytes]]
    ) -> Iterator[Message]:
        now_s = self._clock.monotonic_s()
        for row, run_id, sequence, taken_ms, payload in rows:
            self._cursor[kind] = row
            if row in self._gone[kind] or row in self._held[kind]:
                continue
            message = Message(kind, run_id, sequence, payload, taken_ms, now_s, row=row)
            message.place = Place.CLAIMED
            self._held[kind][row] = message
            yield message

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
            lanes = set()
            for message in messages:
                if message.place is not Place.CLAIMED:
                    continue
                if message.row is None:
                    message.place = Place.LIVE
                    self._live[message.kind].append(message)
                    lanes.add(message.kind)
                else:
                    self._leave_to_disk(message)
            for kind in lanes:
                self._live[kind] = deque(sorted(self._live[kind], key=lambda m: m.ticket or 0))

    def leave_live_to_disk(self) -> None:
        """Drop from the live lane what is on disk too; for when the connection is gone."""
        with self._lock:
            for kind, lane in self._live.items():
                self._live[kind] = deque(m for m in lane if m.row is None)
                for message in lane:
                    if message.row is not None:
                        self._leave_to_disk(message)

    def _leave_to_disk(self, message: Message) -> None:
        row = message.row or 0
        self._held[message.kind].pop(row, None)
        self._cursor[message.kind] = min(self._cursor[message.kind], row - 1)

    def _settle(self, message: Message) -> None:
        message.place = Place.SETTLED
        self._tally.waiting -= 1
        if message.ticket is not None:
            self._unwritten.pop(message.ticket, None)
        if message.row is not None:
            self._held[message.kind].pop(message.row, None)
            self._gone[message.kind].add(message.row)
            self._dirty()

    def _drop(self, message: Message, reason: DropReason) -> None:
        self._settle(message)
        self._count_drops(reason, 1)

    def _count_drops(self, reason: DropReason, messages: int) -> None:
        if messages:
            for numbers in (self._tally.dropped, self._unsaved_drops, self._unreported):
                numbers[reason.value] = numbers.get(reason.value, 0) + messages
            self._dirty()

    def _dirty(self) -> None:
        if self._dirty_since_s is None:
            self._dirty_since_s = self._clock.monotonic_s()
            self.needs_flush.set()

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
            taken, self._unreported = self._unreported, {}
            for reason, messages in taken.items():
                self._reported[reason] = self._reported.get(reason, 0) + messages
                self._dirty()
            return taken

    # --- the writer's side ---------------------------------------------------------

    def flush_in_s(self) -> float | None:
        """Seconds until a flush is due, 0 when overdue; None when nothing needs one."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            due = []
            if self._unwritten:
                oldest = next(iter(self._unwritten.values()))
                due.append(oldest.created_s + self.flush_interval_s - self._commit_allowance_s())
            if self._dirty_since_s is not None:
                due.append(self._dirty_since_s + self.flush_interval_s)
            if self._open and any(self._on_disk.values()):
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

    def _snapshot(self) -> Batch:
        with self._lock:
            first = self._next_row
            self._next_row += len(self._unwritten)
            return Batch(
                list(enumerate(self._unwritten.values(), start=first)),
                {kind: list(gone) for kind, gone in self._gone.items() if gone},
                self._refused[:],
                dict(self._unsaved_drops),
                dict(self._reported),
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
        now_s = self._clock.monotonic_s()
        with self._claim_lock, self._lock:
            for kind, rows in batch.deletes.items():
                self._gone[kind].difference_update(rows)
                self._on_disk[kind] -= len(rows)
            for row, message in batch.inserts:
                self._on_disk[message.kind] += 1
                if message.place is Place.SETTLED:
                    self._gone[message.kind].add(row)
                    continue
                message.row = row
                self._unwritten.pop(message.ticket or 0, None)
                if message.place is Place.CLAIMED or now_s - message.created_s < self.hold_live_s:
                    self._held[message.kind][row] = message
            for kind, lane in self._live.items():
                held = self._held[kind]
                self._live[kind] = deque(m for m in lane if m.row is None or m.row in held)
            del self._refused[: len(batch.refused)]
            _subtract(self._unsaved_drops, batch.drops)
            _subtract(self._reported, batch.reported)
            self._dirty_since_s = None
            if any(self._gone.values()) or self._refused or self._unsaved_drops or self._reported:
                self._dirty()

    # --- bounds and faults ---------------------------------------------------------

    def _mark_for_eviction(self) -> None:
        if not any(self._on_disk.values()):
            return
        now_s = self._clock.monotonic_s()
        with self._lock:
            coming = sum(len(m.payload) + _ROW_BYTES for m in self._unwritten.values())
        surplus = self._eviction.rows_to_free(
            self._store.used_bytes() + coming, sum(self._on_disk.values())
        )
        for kind in Kind:  # samples first, events last
            if surplus > 0:
                surplus -= self._evict(kind, self._oldest(kind, surplus), DropReason.OUTBOX_FULL)
        if now_s < self._eviction.next_age_check_s:
            return
        self._eviction.next_age_check_s = now_s + AGE_CHECK_EVERY_S
        if self._clock.quality() is TimeQuality.UNSYNCED:
            return
        now_ms = int((self._clock.utc() - _EPOCH).total_seconds() * 1000)
        for kind in Kind:
            oldest = self._oldest(kind, AGE_CHECK_ROWS)
            expired = self._eviction.expired(oldest, now_ms)
            self._evict(kind, [(row, None) for row in expired], DropReason.TOO_OLD)
            if len(expired) == AGE_CHECK_ROWS:
                self._eviction.next_age_check_s = now_s

    def _oldest(self, kind: Kind, rows: int) -> list[tuple[int, int | None]]:
        with self._lock:
            skip = set(self._held[kind]) | self._gone[kind]
        oldest = self._store.oldest(kind, rows + len(skip))
        return [entry for entry in oldest if entry[0] not in skip][:rows]

    def _evict(self, kind: Kind, rows: Iterable[tuple[int, int | None]], reason: DropReason) -> int:
        with self._lock:
            free = [
                row
                for row, _ in rows
                if row not in self._held[kind] and row not in self._gone[kind]
            ]
            if free:
                self._gone[kind].update(free)
                self._tally.waiting -= len(free)
                self._count_drops(reason, len(free))
        if free:
            self._tell_of_drops(reason)
        return len(free)

    def _tell_of_drops(self, reason: DropReason) -> None:
        """One line when it begins and one every ten minutes; the counters have the rest."""
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s.get(reason, -_TELL_EVERY_S) >= _TELL_EVERY_S:
            self._told_s[reason] = now_s
            total = self._tally.dropped[reason.value]
            LOG.warning("messages are dropped (%s), %d so far", reason.value, total)

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
            lost = 0
            for kind in Kind:
                lost += self._on_disk[kind] - len(self._gone[kind]) - len(self._held[kind])
                for message in self._held[kind].values():
                    message.row = None
                    if message.ticket is None:
                        message.ticket = self._next_ticket
                        self._next_ticket += 1
                    self._unwritten[message.ticket] = message
                self._held[kind].clear()
                self._gone[kind].clear()
                self._on_disk[kind] = 0
            self._unwritten = dict(sorted(self._unwritten.items()))
            self._tally.waiting -= lost
            self._count_drops(DropReason.DAMAGED, lost)
            self._open = False
            LOG.error(
                "the outbox's file was damaged: set aside as %s, %d messages in it", kept, lost
            )
            self._adopt(self._store.open(self._run_id))


def _subtract(numbers: dict[str, int], saved: dict[str, int]) -> None:
    for reason, messages in saved.items():
        numbers[reason] -= messages
        if not numbers[reason]:
            del numbers[reason]
