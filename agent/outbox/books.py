"""What both sides of the ledger share: where each message is, what was counted, one lock.

``lock`` is held for moments only, never over a commit. ``claim_lock`` keeps a read of
the backlog and the end of a commit apart, so that a row that was just settled is not
claimed from an older snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from agent.outbox.lanes import Lanes
from agent.outbox.message import DropReason, Message
from agent.outbox.run_drops import RunDrops
from agent.outbox.tally import Drops, Tally
from agent.outbox.untimed import Untimed
from agent.ports import Clock


class Books:
    """Not thread-safe; the ledger's two sides hold ``lock`` around every use."""

    def __init__(self, clock: Clock, untimed: Untimed) -> None:
        self.lock = threading.Lock()
        self.claim_lock = threading.Lock()
        self.needs_flush = threading.Event()
        self.clock = clock
        self.untimed = untimed
        self.lanes = Lanes()
        self.tally = Tally()
        self.drops = Drops()
        self.run_drops = RunDrops()
        self.refused: list[tuple[Message, str]] = []
        self.limbo: dict[str, int] = {}
        """Rows that wait in damaged files, by the file's name."""
        self.dirty_since_s: float | None = None
        """When the disk came to differ from memory, new messages apart (monotonic)."""

    def settle(self, message: Message) -> None:
        """It waits no more."""
        self.lanes.settle(message)
        self.tally.waiting -= 1
        if message.row is not None:
            self.dirty()

    def drop(self, message: Message, reason: DropReason) -> None:
        """It is given up and counted."""
        self.settle(message)
        self.run_drops.add(reason, [(message.run_id, message.sequence)])
        self.count_drops(reason, 1)

    def give_up(self, messages: Sequence[Message], reason: DropReason) -> None:
        """Live messages that are in memory alone are given up and counted."""
        self.lanes.give_up(messages)
        self.tally.waiting -= len(messages)
        self.run_drops.add(reason, [(one.run_id, one.sequence) for one in messages])
        self.count_drops(reason, len(messages))

    def count_drops(self, reason: DropReason, messages: int) -> None:
        """So many, which wait no more, were given up."""
        if messages:
            self.tally.drop(reason, messages)
            self.drops.add(reason, messages)
            self.dirty()

    def dirty(self) -> None:
        """The disk differs from memory."""
        if self.dirty_since_s is None:
            self.dirty_since_s = self.clock.monotonic_s()
            self.needs_flush.set()

    def from_limbo(self, file: str, rows: int) -> None:
        """Rows that this process counted wait there already, others are inherited now."""
        known = min(rows, self.limbo.get(file, 0))
        if known:
            self.limbo[file] -= known
        self.tally.inherited += rows - known
        self.tally.waiting += rows - known
