"""The ledger as the writer sees it: what the next commit holds, what a file brought or took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.outbox.batch import Batch, Contents
from agent.outbox.books import Books
from agent.outbox.message import DropReason, Kind
from agent.outbox.run_drops import DropTotal
from agent.outbox.tally import Tally
from agent.outbox.untimed import Step

COMMIT_ROWS: Final = 1_000
"""Inserts or deletes in one transaction at most: it fits into the log's bound."""

ROW_BYTES: Final = 40
"""What a row takes beside its payload, about."""


class DiskLedger:
    """Every method is safe from any thread."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._lock = books.lock
        self.claim_lock = books.claim_lock
        self.needs_flush = books.needs_flush

    # --- what is where -------------------------------------------------------------

    def tally(self) -> Tally:
        """The books at this moment."""
        with self._lock:
            return self._books.tally.copy()

    def on_disk(self) -> int:
        """Rows in the file."""
        with self._lock:
            return sum(self._books.lanes.on_disk.values())

    def thinnable(self) -> int:
        """Samples on disk alone, whether they may be sent yet or not."""
        with self._lock:
            return self._books.lanes.backlog(Kind.SAMPLE)

    def deletes_wait(self) -> bool:
        """Settled rows are still in the file."""
        with self._lock:
            return any(self._books.lanes.gone.values())

    def newest_row(self) -> int:
        """The highest id that was given."""
        with self._lock:
            return self._books.lanes.newest_row()

    def unwritten(self) -> tuple[int, int]:
        """Messages that are in memory alone, and about how many bytes they take on disk."""
        with self._lock:
            waiting = self._books.lanes.unwritten.values()
            return len(waiting), sum(len(m.payload) + ROW_BYTES for m in waiting)

    # --- commits -------------------------------------------------------------------

    def adopt(self, contents: Contents) -> None:
        """A file was opened that holds these; under ``claim_lock``."""
        with self._lock:
            found = sum(contents.messages.values())
            self._books.lanes.adopt(contents.messages, contents.last_id)
            self._books.tally.inherited += found
            self._books.tally.waiting += found
            self._books.drops.inherit(contents.unreported_drops)
            self._books.run_drops.find(contents.run_drops, contents.unreported_drops)

    def due_s(self, flush_interval_s: float, allowance_s: float) -> float | None:
        """When a flush is due (monotonic); None when nothing needs one."""
        with self._lock:
            due = []
            unwritten = self._books.lanes.unwritten
            if unwritten:
                oldest = next(iter(unwritten.values()))
                due.append(oldest.created_s + flush_interval_s - allowance_s)
            if self._books.dirty_since_s is not None:
                due.append(self._books.dirty_since_s + flush_interval_s)
            return min(due) if due else None

    def snapshot(self) -> Batch:
        """What the next commit should write, at most ``COMMIT_ROWS`` rows each way."""
        books = self._books
        with self._lock:
            drops, reported = books.drops.unsaved()
            return Batch(
                books.lanes.to_insert(COMMIT_ROWS),
                books.lanes.to_delete(COMMIT_ROWS),
                books.refused[:],
                drops,
                reported,
                books.run_drops.unsaved(),
            )

    def drops_to_commit(self) -> Batch:
        """Of the next commit what tells of drops alone."""
        with self._lock:
            drops, reported = self._books.drops.unsaved()
            run_drops = self._books.run_drops.unsaved()
            return Batch(drops=drops, reported=reported, run_drops=run_drops)

    def committed(self, batch: Batch, hold_live_s: float) -> None:
        """A commit succeeded."""
        books = self._books
        held_since_s = books.clock.monotonic_s() - hold_live_s
        with self.claim_lock, self._lock:
            books.lanes.committed(batch.inserts, batch.deletes, held_since_s)
            del books.refused[: len(batch.refused)]
            books.drops.saved(batch.drops, batch.reported)
            books.run_drops.saved(batch.run_drops)
            books.dirty_since_s = None
            if any(books.lanes.gone.values()) or books.refused or any(books.drops.unsaved()):
                books.dirty()

    # --- re-stamping ---------------------------------------------------------------

    def next_restamping(self) -> Step | None:
        """The next step of it."""
        with self._lock:
            return self._books.untimed.next_step()

    def restamped(self, step: Step, last_row: int | None) -> None:
        """A step was committed: its rows may go."""
        # rows that were read before this step ended must not go by what holds after it
        with self.claim_lock, self._lock:
            self._books.untimed.step_done(step, last_row)

    # --- giving up -----------------------------------------------------------------

    def in_use(self, kind: Kind) -> tuple[set[int], set[int]]:
        """Rows that must not be evicted: held in memory, and settled already."""
        with self._lock:
            return set(self._books.lanes.held[kind]), set(self._books.lanes.gone[kind])

    def evict(
        self, kind: Kind, rows: Mapping[int, tuple[str, int]], reason: DropReason
    ) -> set[int]:
        """Give up rows of the backlog; those that really were backlog.

        ``rows`` says which ``(run_id, sequence)`` each of them is.
        """
        with self._lock:
            evicted = self._books.lanes.evict(kind, rows)
            self._books.tally.waiting -= len(evicted)
            self._books.run_drops.add(reason, [rows[row] for row in evicted])
            self._books.count_drops(reason, len(evicted))
            return evicted

    # --- damaged files -------------------------------------------------------------

    def forget_disk(self, file: str) -> tuple[int, dict[Kind, set[int]]]:
        """The file was set aside; under ``claim_lock``.

        What is held is in memory alone again, the backlog waits in the damaged file.
        Returns how many that is, and the ids there that are not to be salvaged.
        """
        with self._lock:
            lanes = self._books.lanes
            skip = {kind: set(lanes.held[kind]) | lanes.gone[kind] for kind in Kind}
            lost = lanes.forget_disk()
            self._books.limbo[file] = lost
            self._books.drops.on_new_file()
            self._books.run_drops.on_new_file()
            self.needs_flush.set()
            return lost, skip

    def inherit_unsaved_drops(self, unreported: dict[str, int], totals: list[DropTotal]) -> None:
        """Drops that a damaged file knew of and the new one does not."""
        with self._lock:
            self._books.drops.inherit(unreported)
            self._books.drops.on_new_file()
            self._books.run_drops.find(totals, unreported)
            self._books.run_drops.on_new_file()
            if any(self._books.drops.unsaved()):
                self._books.dirty()

    def salvaged(self, file: str, rows: dict[Kind, int]) -> None:
        """Rows of a damaged file are in the new one."""
        with self.claim_lock, self._lock:
            self._books.from_limbo(file, sum(rows.values()))
            for kind, count in rows.items():
                self._books.lanes.add_rows(kind, count)

    def salvage_ended(self, file: str, lost: int) -> None:
        """Of a damaged file nothing more will come; so many rows are lost for good."""
        with self._lock:
            self._books.from_limbo(file, lost)
            # more than was expected may have been found in its place
            lost += self._books.limbo.pop(file, 0)
            self._books.tally.waiting -= lost
            self._books.run_drops.add_unknown(DropReason.DAMAGED, lost)
            self._books.count_drops(DropReason.DAMAGED, lost)
