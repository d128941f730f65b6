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
from collections.abc import Iterable, Iterator

from agent.outbox.message import Kind, Message, Place

Row = tuple[int, str, int, int | None, bytes]
"""``(id, run_id, sequence, taken_ms, payload)``."""


class Lanes:
    """Not thread-safe; the outbox holds its lock around every call."""

    def __init__(self) -> None:
        self.live: dict[Kind, deque[Message]] = {kind: deque() for kind in Kind}
        self.unwritten: dict[int, Message] = {}
        self.held: dict[Kind, dict[int, Message]] = {kind: {} for kind in Kind}
        self.gone: dict[Kind, set[int]] = {kind: set() for kind in Kind}
        self.on_disk: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self.cursor: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._next_ticket = 1
        self._next_row = 1

    def adopt(self, messages: dict[Kind, int], last_id: int) -> None:
        """A file was opened that holds these."""
        self.on_disk = dict(messages)
        self.cursor = dict.fromkeys(Kind, 0)
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

    def oldest_unclaimed(self) -> Message | None:
        """What goes first when memory is full: the oldest live sample, else the oldest event."""
        for kind in Kind:
            for message in self.live[kind]:
                if message.row is None:
                    return message
        return None

    def to_insert(self) -> list[tuple[int, Message]]:
        """All that is in memory alone, each with the id that it gets."""
        first = self._next_row
        self._next_row += len(self.unwritten)
        return list(enumerate(self.unwritten.values(), start=first))

    def to_delete(self) -> dict[Kind, list[int]]:
        """All settled rows."""
        return {kind: list(gone) for kind, gone in self.gone.items() if gone}

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

    def in_use(self, kind: Kind) -> set[int]:
        """Rows that must not be evicted."""
        return set(self.held[kind]) | self.gone[kind]

    def evict(self, kind: Kind, rows: Iterable[int]) -> int:
        """Rows of the backlog are given up; how many really were backlog."""
        free = [row for row in rows if row not in self.held[kind] and row not in self.gone[kind]]
        self.gone[kind].update(free)
        return len(free)

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
