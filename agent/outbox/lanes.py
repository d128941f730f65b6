"""Where each message is: the outbox's memory, without locks, disk or books.

=============  ===============================================================
``live``       waits to be sent, in the order of creation
``unwritten``  is in memory alone: live or claimed, by ticket
``held``       is on disk and in memory: claimed, or live while a batch gathers
``gone``       rows on disk that are settled and wait for their DELETE
=============  ===============================================================

Every other row on disk is backlog, read by a cursor for each kind, so memory does not
grow with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from agent.outbox.batch import Row
from agent.outbox.message import Kind, Message, Place

FIRST: Final = -(2**63)
"""Before every id: those of salvaged rows are negative."""


class Lanes:
    """Not thread-safe; the outbox holds its lock around every call."""

    def __init__(self) -> None:
        self.live: dict[Kind, deque[Message]] = {kind: deque() for kind in Kind}
        self.unwritten: dict[int, Message] = {}
        self.held: dict[Kind, dict[int, Message]] = {kind: {} for kind in Kind}
        self.gone: dict[Kind, set[int]] = {kind: set() for kind in Kind}
        self.on_disk: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self.cursor: dict[Kind, int] = dict.fromkeys(Kind, FIRST)
        self._next_ticket = 1
        self._next_row = 1

    def adopt(self, messages: dict[Kind, int], last_id: int) -> None:
        """A file was opened that holds these."""
        self.on_disk = dict(messages)
        self.cursor = dict.fromkeys(Kind, FIRST)
        self._next_row = max(self._next_row, last_id + 1)

    def put(self, message: Message) -> None:
        """A new message, live."""
        self._ticket(message)
        self.live[message.kind].append(message)

    def _ticket(self, message: Message) -> None:
        if message.ticket is None:
            message.ticket = self._next_ticket
            self._next_ticket += 1
        self.unwritten[message.ticket] = message

    def claim_live(self, kind: Kind, limit: int) -> list[Message]:
        """The oldest live messages, claimed."""
        lane = self.live[kind]
        claimed = [lane.popleft() for _ in range(min(limit, len(lane)))]
        for message in claimed:
            message.place = Place.CLAIMED
        return claimed

    def claim_rows(self, kind: Kind, rows: Iterable[Row], now_s: float) -> Iterator[Message]:
        """Of rows read behind the cursor those that are backlog, claimed; moves the cursor."""
        for row, run_id, sequence, taken_ms, payload in rows:
            self.cursor[kind] = row
            if row in self.gone[kind] or row in self.held[kind]:
                continue
            message = Message(kind, run_id, sequence, payload, taken_ms, now_s, row=row)
            message.place = Place.CLAIMED
            self.held[kind][row] = message
            yield message

    def backlog(self, kind: Kind) -> int:
        """Rows on disk that are neither settled nor held."""
        return self.on_disk[kind] - len(self.gone[kind]) - len(self.held[kind])

    def settle(self, message: Message) -> None:
        """It leaves memory now; a row of it waits for its DELETE."""
        if message.place is Place.LIVE:
            self.live[message.kind].remove(message)
        message.place = Place.SETTLED
        if message.ticket is not None:
            self.unwritten.pop(message.ticket, None)
        if message.row is not None:
            self.held[message.kind].pop(message.row, None)
            self.gone[message.kind].add(message.row)

    def give_back(self, messages: Iterable[Message]) -> None:
        """Claimed messages wait again, in their old order."""
        lanes = set()
        for message in messages:
            if message.place is not Place.CLAIMED:
                continue
            if message.row is None:
                message.place = Place.LIVE
                self.live[message.kind].append(message)
                lanes.add(message.kind)
            else:
                self._leave_to_disk(message, message.row)
        for kind in lanes:
            self.live[kind] = deque(sorted(self.live[kind], key=lambda m: m.ticket or 0))

    def leave_live_to_disk(self) -> None:
        """Live messages that are on disk too become backlog."""
        for kind, lane in self.live.items():
            self.live[kind] = deque(m for m in lane if m.row is None)
            for message in lane:
                if message.row is not None:
                    self._leave_to_disk(message, message.row)

    def _leave_to_disk(self, message: Message, row: int) -> None:
        self.held[message.kind].pop(row, None)
        self.cursor[message.kind] = min(self.cursor[message.kind], row - 1)

    def in_memory_alone(self, kind: Kind) -> list[Message]:
        """Live messages that are not on disk, oldest first."""
        return [message for message in self.live[kind] if message.row is None]

    def give_up(self, messages: Sequence[Message]) -> None:
        """Live messages that are in memory alone leave it."""
        for message in messages:
            message.place = Place.SETTLED
            self.unwritten.pop(message.ticket or 0, None)
        for kind in {message.kind for message in messages}:
            self.live[kind] = deque(m for m in self.live[kind] if m.place is Place.LIVE)

    def to_insert(self, limit: int) -> list[tuple[int, Message]]:
        """What is in memory alone, oldest first, each with the id that it gets."""
        first = self._next_row
        rows = list(enumerate(islice(self.unwritten.values(), limit), start=first))
        self._next_row += len(rows)
        return rows

    def newest_row(self) -> int:
        """The highest id that was given."""
        return self._next_row - 1

    def to_delete(self, limit: int) -> dict[Kind, list[int]]:
        """Settled rows, the oldest first."""
        return {kind: sorted(gone)[:limit] for kind, gone in self.gone.items() if gone}

    def committed(
        self,
        inserts: Iterable[tuple[int, Message]],
        deletes: dict[Kind, list[int]],
        held_since_s: float,
    ) -> None:
        """A commit succeeded; live messages created after ``held_since_s`` stay in memory too."""
        for kind, rows in deletes.items():
            self.gone[kind].difference_update(rows)
            self.on_disk[kind] -= len(rows)
        for row, message in inserts:
            self.on_disk[message.kind] += 1
            if message.place is Place.SETTLED:
                self.gone[message.kind].add(row)
                continue
            message.row = row
            self.unwritten.pop(message.ticket or 0, None)
            if message.place is Place.CLAIMED or message.created_s > held_since_s:
                self.held[message.kind][row] = message
        for kind, lane in self.live.items():
            held = self.held[kind]
            self.live[kind] = deque(m for m in lane if m.row is None or m.row in held)

    def evict(self, kind: Kind, rows: Iterable[int]) -> set[int]:
        """Rows of the backlog are given up; those that really were backlog."""
        free = {row for row in rows if row not in self.held[kind] and row not in self.gone[kind]}
        self.gone[kind].update(free)
        return free

    def add_rows(self, kind: Kind, count: int) -> None:
        """So many rows came onto the disk before all others; the cursor starts again."""
        self.on_disk[kind] += count
        self.cursor[kind] = FIRST

    def forget_disk(self) -> int:
        """The file is gone: what is held is in memory alone again. How many rows were lost."""
        lost = sum(self.backlog(kind) for kind in Kind)
        for kind in Kind:
            for message in self.held[kind].values():
                message.row = None
                self._ticket(message)
            self.held[kind].clear()
            self.gone[kind].clear()
        self.unwritten = dict(sorted(self.unwritten.items()))
        self.adopt(dict.fromkeys(Kind, 0), 0)
        return lost
