"""The outbox itself: its lanes, its file and its books under one roof.

Threads: the engine calls ``put``; the publisher claims and settles; ``outbox-writer``
calls ``flush``, and ``open`` and ``close`` are called while that thread does not run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from agent.outbox.books import Books
from agent.outbox.disk_ledger import DiskLedger
from agent.outbox.eviction import Eviction
from agent.outbox.faults import StoreError
from agent.outbox.ledger import Ledger
from agent.outbox.message import Kind, Message
from agent.outbox.reserve import Reserve
from agent.outbox.run_drops import DropTotal
from agent.outbox.store import Store
from agent.outbox.tally import Tally
from agent.outbox.untimed import Untimed
from agent.outbox.writer import MEMORY_LIMIT_MESSAGES, Writer
from agent.ports import Clock, TimeBase

LOG = logging.getLogger("agent.outbox")


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
        self._store = store
        untimed = untimed or Untimed(run_id)
        books = Books(clock, untimed)
        self._ledger = Ledger(books, run_id, Reserve(MEMORY_LIMIT_MESSAGES))
        self._writer = Writer(
            DiskLedger(books),
            store,
            clock,
            run_id=run_id,
            flush_interval_s=flush_interval_s,
            eviction=eviction,
            untimed=untimed,
        )

    # --- opening and closing -------------------------------------------------------

    def open(self) -> None:
        """Open the file; a damaged one is set aside. Never raises for a broken disk."""
        self._writer.open()

    def close(self, last_sequence: int = 0) -> None:
        """Write what is left, note where the run ended; idempotent, safe before ``open``."""
        self._writer.close(last_sequence)

    @property
    def previous_run(self) -> tuple[str, int] | None:
        """The run before this one and its last sequence, as far as the file knows."""
        return self._writer.previous_run

    def apply(self, *, flush_interval_s: float, max_bytes: int, max_age_s: float) -> None:
        """Other bounds, from the next flush on; from any thread."""
        self._writer.apply(
            flush_interval_s=flush_interval_s, max_bytes=max_bytes, max_age_s=max_age_s
        )
        self._ledger.needs_flush.set()

    @property
    def flush_interval_s(self) -> float:
        """How long a message may live in memory alone."""
        return self._writer.flush_interval_s

    # --- the engine's side ---------------------------------------------------------

    def put(self, message: Message) -> None:
        """Take over one message; memory only, returns at once."""
        self._ledger.put(message)

    # --- the publisher's side ------------------------------------------------------

    @property
    def hold_live_s(self) -> float:
        """How long a message that is on disk too stays in the live lane, for live batches."""
        return self._writer.hold_live_s

    @hold_live_s.setter
    def hold_live_s(self, duration_s: float) -> None:
        self._writer.hold_live_s = duration_s

    def claim_live(self, kind: Kind, limit: int = 1) -> list[Message]:
        """The oldest live messages of a kind."""
        return self._ledger.claim_live(kind, limit)

    def live(self, kind: Kind) -> tuple[int, float]:
        """How many wait in the live lane, and when the oldest was created (monotonic)."""
        return self._ledger.live(kind)

    def backlog(self, kind: Kind) -> int:
        """Rows on disk that are neither settled nor held in memory."""
        return self._ledger.backlog(kind)

    def offers(self) -> bool:
        """Whether anything may be claimed, of either kind: one look instead of one for each."""
        return self._ledger.offers()

    def claim_backlog(self, kind: Kind, limit: int) -> list[Message]:
        """The oldest rows that wait on disk, at most ``limit``; none while the disk fails."""
        if not self._writer.can_read() or self.backlog(kind) <= 0:
            return []
        claimed: list[Message] = []
        try:
            with self._ledger.claim_lock:
                while len(claimed) < limit:
                    wanted = limit - len(claimed)
                    rows = self._store.read(kind, self._ledger.cursor(kind), wanted)
                    found, some_wait = self._ledger.claim_rows(kind, rows)
                    claimed.extend(found)
                    if some_wait:
                        break
                    if len(rows) < wanted:
                        self._notice_what_vanished(kind)
                        break
        except StoreError as error:
            self.give_back(claimed)
            self._writer.note_trouble(error)
            return []
        return claimed

    def _notice_what_vanished(self, kind: Kind) -> None:
        """All rows were read; what should be there and is not will never be sent."""
        vanished = self._ledger.count_vanished(kind)
        if vanished:
            LOG.error(
                "%d %s are gone from the outbox's file, neither sent nor dropped by the agent;"
                " the account does not balance by them",
                vanished,
                kind.value,
            )
            self._store.forget_vanished(kind, vanished)

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """The broker has them: they leave memory now and the disk at the next commit."""
        self._ledger.acknowledge(messages)

    def refuse(self, message: Message, why: str) -> None:
        """Set one message aside for good: it is counted and kept for inspection."""
        self._ledger.refuse(message, why)

    def give_back(self, messages: Iterable[Message]) -> None:
        """They were not acknowledged: they wait again, in their old order."""
        self._ledger.give_back(messages)

    def leave_live_to_disk(self) -> None:
        """Drop from the live lane what is on disk too; for when the connection is gone."""
        self._ledger.leave_live_to_disk()

    # --- time ----------------------------------------------------------------------

    @property
    def waits_for_time(self) -> bool:
        """Whether messages of this boot without a trusted time may be here."""
        return self._ledger.waits_for_time()

    def time_is_known(self, base: TimeBase) -> int:
        """Re-stamp what is in memory at once, what is on disk with the next flushes.

        Returns how many messages that were in memory; from any thread, again and again.
        """
        return self._ledger.time_is_known(base)

    def stop_waiting_for_time(self) -> None:
        """Let what has no trusted time go; it is re-stamped all the same if it is still here."""
        self._ledger.stop_waiting_for_time()

    def anything_to_send(self) -> bool:
        """Whether something may be sent now or awaits its acknowledgement."""
        return self._ledger.anything_to_send()

    # --- accounts ------------------------------------------------------------------

    def tally(self) -> Tally:
        """The books at this moment."""
        return self._ledger.tally()

    def waiting(self) -> int:
        """Messages neither acknowledged nor dropped."""
        return self._ledger.tally().waiting

    def on_disk(self) -> int:
        """Messages in the file, settled ones that wait for the next commit included."""
        return self._ledger.on_disk()

    def in_salvage(self) -> int:
        """Of ``waiting``, those that are still in a damaged file."""
        return self._ledger.in_salvage()

    def take_unreported_drops(self) -> list[DropTotal]:
        """The totals that grew since a ``dropped`` event told of them; the caller now tells."""
        return self._ledger.take_unreported_drops()

    def drop_totals(self) -> list[DropTotal]:
        """What was given up of each run, in all, over restarts; what grew last stands last."""
        return self._ledger.drop_totals()

    # --- the writer's side ---------------------------------------------------------

    @property
    def needs_flush(self) -> threading.Event:
        """Set when there is something to write and was nothing before."""
        return self._ledger.needs_flush

    def flush_in_s(self) -> float | None:
        """Seconds until a flush is due, 0 when overdue; None when nothing needs one."""
        return self._writer.flush_in_s()

    def flush(self) -> None:
        """Commit what lives in memory alone and remove what is settled. Never raises."""
        self._writer.flush()

    def restamp(self) -> bool:
        """The next step of re-stamping what is on disk; whether there was one. Never raises."""
        return self._writer.restamp()
