"""Lanes and books under one lock: every message is in one place and counted once.

``_lock`` is held for moments only, never over a commit. ``claim_lock`` keeps a read of
the backlog and the end of a commit apart, so that a row that was just settled is not
claimed from an older snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

from agent.outbox.batch import Batch, Row
from agent.outbox.lanes import Lanes
from agent.outbox.message import DropReason, Kind, Message, Place
from agent.outbox.tally import Drops, Tally
from agent.outbox.untimed import Step, Untimed
from agent.ports import Clock, TimeBase

COMMIT_ROWS: Final = 1_000
"""Inserts or deletes in one transaction at most: it fits into the log's bound."""

ROW_BYTES: Final = 40
"""What a row takes beside its payload, about."""


class Ledger:
    """Every method is safe from any thread."""

    def __init__(self, clock: Clock, run_id: str, untimed: Untimed) -> None:
        self.claim_lock = threading.Lock()
        self.needs_flush = threading.Event()
        self._clock = clock
        self._run_id = run_id
        self._lock = threading.Lock()
        self._lanes = Lanes()
        self._tally = Tally()
        self._drops = Drops()
        self._refused: list[tuple[Message, str]] = []
        self._dirty_since_s: float | None = None
        self._limbo: dict[str, int] = {}
        self._untimed = untimed

    # --- messages ------------------------------------------------------------------

    def put(self, message: Message, memory_limit: int) -> None:
        """Take over one message; beyond the limit the oldest in memory goes."""
        with self._lock:
            if not self._lanes.unwritten:
                self.needs_flush.set()
            # made before the time was known, put after: another thread learned of it between
            self._untimed.put_right((message,))
            self._lanes.put(message)
            self._tally.created[message.kind] += 1
            self._tally.waiting += 1
            if len(self._lanes.unwritten) > memory_limit:
                surplus = self._lanes.oldest_unclaimed()
                if surplus is not None:
                    self._drop(surplus, DropReason.DISK_FULL)

    def claim_live(self, kind: Kind, limit: int) -> list[Message]:
        """The oldest live messages of a kind; none while they wait for the time."""
        with self._lock:
            return [] if self._untimed.live_waits else self._lanes.claim_live(kind, limit)

    def claim_rows(self, kind: Kind, rows: Sequence[Row]) -> tuple[list[Message], bool]:
        """Of rows read behind the cursor those that are backlog; under ``claim_lock``.

        And whether others behind them wait for the time.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            free = self._untimed.may_go(kind, rows)
            claimed = list(self._lanes.claim_rows(kind, free, now_s))
            self._untimed.put_right(claimed)
            some_wait = len(free) < len(rows)
            if some_wait:
                cursor = self._lanes.cursor
                cursor[kind] = self._untimed.skip_to(kind, cursor[kind])
            return claimed, some_wait

    def cursor(self, kind: Kind) -> int:
        """Where the backlog's reader stands."""
        with self._lock:
            return self._lanes.cursor[kind]

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

    def thinnable(self) -> int:
        """Samples on disk alone, whether they may be sent yet or not."""
        with self._lock:
            return self._lanes.backlog(Kind.SAMPLE)

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """They leave memory now and the disk at the next commit; twice counts once."""
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
        """Set one message aside for good."""
        with self._lock:
            if message.place is not Place.SETTLED:
                self._refused.append((message, why))
                self._drop(message, DropReason.REFUSED)

    def give_back(self, messages: Iterable[Message]) -> None:
        """They wait again, in their old order."""
        with self._lock:
            self._lanes.give_back(messages)

    def leave_live_to_disk(self) -> None:
        """Drop from the live lane what is on disk too."""
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

    def waits_for_time(self) -> bool:
        """Whether messages of this boot without a trusted time may be here."""
        with self._lock:
            return self._untimed.waiting

    def time_is_known(self, base: TimeBase) -> int:
        """Re-stamp what is in memory; how many messages that were."""
        with self._lock:
            in_memory = [*self._lanes.unwritten.values()]
            for held in self._lanes.held.values():
                in_memory.extend(held.values())
            done = self._untimed.time_is_known(base, in_memory)
        self.needs_flush.set()
        return done

    def stop_waiting_for_time(self) -> None:
        """Let what has no trusted time go."""
        with self._lock:
            self._untimed.stop_waiting()

    def next_restamping(self) -> Step | None:
        """The next step of it."""
        with self._lock:
            return self._untimed.next_step()

    def restamped(self, step: Step, last_row: int | None) -> None:
        """A step was committed: its rows may go."""
        # rows that were read before this step ended must not go by what holds after it
        with self.claim_lock, self._lock:
            self._untimed.step_done(step, last_row)

    def anything_to_send(self) -> bool:
        """Whether something may be sent now or awaits its acknowledgement."""
        with self._lock:
            if not self._untimed.live_waits:
                return self._tally.waiting > 0
            claimed = any(self._lanes.held.values())
        return claimed or any(self.backlog(kind) > 0 for kind in Kind)

    # --- books ---------------------------------------------------------------------

    def tally(self) -> Tally:
        """The books at this moment."""
        with self._lock:
            return self._tally.copy()

    def in_salvage(self) -> int:
        """Messages that wait in a damaged file."""
        with self._lock:
            return sum(self._limbo.values())

    def take_unreported_drops(self) -> dict[str, int]:
        """Drops by reason that no event has told of; the caller now tells."""
        with self._lock:
            taken = self._drops.take_unreported()
            if taken:
                self._dirty()
            return taken

    # --- the disk's side -----------------------------------------------------------

    def adopt(self, messages: dict[Kind, int], last_id: int, unreported: dict[str, int]) -> None:
        """A file was opened that holds these; under ``claim_lock``."""
        with self._lock:
            found = sum(messages.values())
            self._lanes.adopt(messages, last_id)
            self._tally.inherited += found
            self._tally.waiting += found
            self._drops.inherit(unreported)

    def inherit_unsaved_drops(self, unreported: dict[str, int]) -> None:
        """Drops that a damaged file knew of and the new one does not."""
        with self._lock:
            self._drops.inherit(unreported)
            self._drops.on_new_file()
            if any(self._drops.unsaved()):
                self._dirty()

    def on_disk(self) -> int:
        """Rows in the file."""
        with self._lock:
            return sum(self._lanes.on_disk.values())

    def deletes_wait(self) -> bool:
        """Settled rows are still in the file."""
        with self._lock:
            return any(self._lanes.gone.values())

    def newest_row(self) -> int:
        """The highest id that was given."""
        with self._lock:
            return self._lanes.newest_row()

    def unwritten(self) -> tuple[int, int]:
        """Messages that are in memory alone, and about how many bytes they take on disk."""
        with self._lock:
            waiting = self._lanes.unwritten.values()
            return len(waiting), sum(len(m.payload) + ROW_BYTES for m in waiting)

    def due_s(self, flush_interval_s: float, allowance_s: float) -> float | None:
        """When a flush is due (monotonic); None when nothing needs one."""
        with self._lock:
            due = []
            if self._lanes.unwritten:
                oldest = next(iter(self._lanes.unwritten.values()))
                due.append(oldest.created_s + flush_interval_s - allowance_s)
            if self._dirty_since_s is not None:
                due.append(self._dirty_since_s + flush_interval_s)
            return min(due) if due else None

    def snapshot(self) -> Batch:
        """What the next commit should write, at most ``COMMIT_ROWS`` rows each way."""
        with self._lock:
            drops, reported = self._drops.unsaved()
            return Batch(
                self._lanes.to_insert(COMMIT_ROWS),
                self._lanes.to_delete(COMMIT_ROWS),
                self._refused[:],
                drops,
                reported,
            )

    def committed(self, batch: Batch, hold_live_s: float) -> None:
        """A commit succeeded."""
        held_since_s = self._clock.monotonic_s() - hold_live_s
        with self.claim_lock, self._lock:
            self._lanes.committed(batch.inserts, batch.deletes, held_since_s)
            del self._refused[: len(batch.refused)]
            self._drops.saved(batch.drops, batch.reported)
            self._dirty_since_s = None
            if any(self._lanes.gone.values()) or self._refused or any(self._drops.unsaved()):
                self._dirty()

    # --- giving up and salvage -----------------------------------------------------

    def in_use(self, kind: Kind) -> tuple[set[int], set[int]]:
        """Rows that must not be evicted: held in memory, and settled already."""
        with self._lock:
            return set(self._lanes.held[kind]), set(self._lanes.gone[kind])

    def evict(self, kind: Kind, rows: Iterable[int], reason: DropReason) -> set[int]:
        """Give up rows of the backlog; those that really were backlog."""
        with self._lock:
            evicted = self._lanes.evict(kind, rows)
            self._tally.waiting -= len(evicted)
            self._count_drops(reason, len(evicted))
            return evicted

    def forget_disk(self, file: str) -> tuple[int, dict[Kind, set[int]]]:
        """The file was set aside; under ``claim_lock``.

        What is held is in memory alone again, the backlog waits in the damaged file.
        Returns how many that is, and the ids there that are not to be salvaged.
        """
        with self._lock:
            skip = {kind: set(self._lanes.held[kind]) | self._lanes.gone[kind] for kind in Kind}
            lost = self._lanes.forget_disk()
            self._limbo[file] = lost
            self._drops.on_new_file()
            self.needs_flush.set()
            return lost, skip

    def salvaged(self, file: str, rows: dict[Kind, int]) -> None:
        """Rows of a damaged file are in the new one."""
        with self.claim_lock, self._lock:
            self._from_limbo(file, sum(rows.values()))
            for kind, count in rows.items():
                self._lanes.add_rows(kind, count)

    def salvage_ended(self, file: str, lost: int) -> None:
        """Of a damaged file nothing more will come; so many rows are lost for good."""
        with self._lock:
            self._from_limbo(file, lost)
            # more than was expected may have been found in its place
            lost += self._limbo.pop(file, 0)
            self._tally.waiting -= lost
            self._count_drops(DropReason.DAMAGED, lost)

    def _from_limbo(self, file: str, rows: int) -> None:
        """Rows that this process counted wait there already, others are inherited now."""
        known = min(rows, self._limbo.get(file, 0))
        if known:
            self._limbo[file] -= known
        self._tally.inherited += rows - known
        self._tally.waiting += rows - known
