"""The ledger as the engine and the publisher see it: every message in one place, counted once.

The writer's side of it is :class:`~agent.outbox.disk_ledger.DiskLedger`; both keep the
same books.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.outbox.batch import Row
from agent.outbox.books import Books
from agent.outbox.message import DropReason, Kind, Message, Place
from agent.outbox.reserve import Reserve
from agent.outbox.run_drops import DropTotal
from agent.outbox.tally import Tally
from agent.ports import TimeBase


class Ledger:
    """Every method is safe from any thread."""

    def __init__(self, books: Books, run_id: str, reserve: Reserve) -> None:
        self._books = books
        self._run_id = run_id
        self._reserve = reserve
        self._lock = books.lock
        self._lanes = books.lanes
        self._untimed = books.untimed
        self.claim_lock = books.claim_lock
        self.needs_flush = books.needs_flush

    # --- messages ------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Take over one message; when the reserve in memory is full, something else goes."""
        with self._lock:
            if not self._lanes.unwritten:
                self.needs_flush.set()
            # made before the time was known, put after: another thread learned of it between
            self._untimed.put_right((message,))
            self._lanes.put(message)
            self._books.tally.created[message.kind] += 1
            self._books.tally.waiting += 1
            if self._reserve.looks(len(self._lanes.unwritten)):
                gone, reason = self._reserve.choose(
                    *(self._lanes.in_memory_alone(kind) for kind in (Kind.SAMPLE, Kind.EVENT))
                )
                self._books.give_up(gone, reason)

    def claim_live(self, kind: Kind, limit: int) -> list[Message]:
        """The oldest live messages of a kind; none while they wait for the time."""
        with self._lock:
            return [] if self._untimed.live_waits else self._lanes.claim_live(kind, limit)

    def claim_rows(self, kind: Kind, rows: Sequence[Row]) -> tuple[list[Message], bool]:
        """Of rows read behind the cursor those that are backlog; under ``claim_lock``.

        And whether others behind them wait for the time.
        """
        now_s = self._books.clock.monotonic_s()
        with self._lock:
            free = self._untimed.may_go(kind, rows)
            claimed = list(self._lanes.claim_rows(kind, free, now_s))
            self._untimed.put_right(claimed)
            some_wait = len(free) < len(rows)
            if some_wait:
                cursor = self._lanes.cursor
                cursor[kind] = self._untimed.skip_to(kind, cursor[kind])
            return claimed, some_wait

    def count_vanished(self, kind: Kind) -> int:
        """All rows behind the cursor were claimed: any that still count are not there.

        They wait no more, and nothing else is said of them: the books do not balance then,
        which tells that somebody else deleted them. Under ``claim_lock``.
        """
        with self._lock:
            if self._untimed.waiting or self._untimed.nothing_behind(
                kind, self._lanes.cursor[kind]
            ):
                return 0
            vanished = max(0, self._lanes.backlog(kind))
            self._lanes.on_disk[kind] -= vanished
            self._books.tally.waiting -= vanished
            return vanished

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

    def offers(self) -> bool:
        """Whether a claim of either kind, live or of the backlog, may give something."""
        with self._lock:
            if not self._untimed.live_waits and any(self._lanes.live.values()):
                return True
            return any(
                self._lanes.backlog(kind) > 0
                and not self._untimed.nothing_behind(kind, self._lanes.cursor[kind])
                for kind in Kind
            )

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """They leave memory now and the disk at the next commit; twice counts once."""
        tally = self._books.tally
        with self._lock:
            for message in messages:
                if message.place is Place.SETTLED:
                    continue
                if message.run_id == self._run_id:
                    tally.acknowledged[message.kind] += 1
                else:
                    tally.inherited_acknowledged += 1
                self._books.settle(message)

    def refuse(self, message: Message, why: str) -> None:
        """Set one message aside for good."""
        with self._lock:
            if message.place is not Place.SETTLED:
                self._books.refused.append((message, why))
                self._books.drop(message, DropReason.REFUSED)

    def give_back(self, messages: Iterable[Message]) -> None:
        """They wait again, in their old order."""
        with self._lock:
            self._lanes.give_back(messages)

    def leave_live_to_disk(self) -> None:
        """Drop from the live lane what is on disk too."""
        with self._lock:
            self._lanes.leave_live_to_disk()

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

    # --- accounts ------------------------------------------------------------------

    def anything_to_send(self) -> bool:
        """Whether something may be sent now or awaits its acknowledgement."""
        with self._lock:
            if not self._untimed.live_waits:
                return self._books.tally.waiting > 0
            claimed = any(self._lanes.held.values())
        return claimed or any(self.backlog(kind) > 0 for kind in Kind)

    def tally(self) -> Tally:
        """The books at this moment."""
        with self._lock:
            return self._books.tally.copy()

    def on_disk(self) -> int:
        """Rows in the file."""
        with self._lock:
            return sum(self._lanes.on_disk.values())

    def in_salvage(self) -> int:
        """Messages that wait in a damaged file."""
        with self._lock:
            return sum(self._books.limbo.values())

    def take_unreported_drops(self) -> list[DropTotal]:
        """The totals that grew since an event told of them; the caller now tells."""
        with self._lock:
            if self._books.drops.take_unreported():
                self._books.dirty()
            return self._books.run_drops.take_untold()

    def drop_totals(self) -> list[DropTotal]:
        """What was given up of each run, in all; what grew last stands last."""
        with self._lock:
            return self._books.run_drops.totals()
