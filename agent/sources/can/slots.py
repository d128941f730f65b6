"""What is kept of the frames of a bus: the newest of each mapped message.

Frames are only kept when they come; they are decoded when a sample is taken. A
multiplexed message is kept once per combination of its selectors' values, so that the
answers of an OBD-II ECU, all under one id, do not push each other out. A message with a
signal whose smallest, largest or mean value is asked for also keeps every payload until
it is read.

Threads: the source's thread calls ``take`` without a lock: a slot's payload and time are
replaced together by one assignment, and of a deque it touches one end only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.sources.can.ids import ERROR, IdFilter
from agent.sources.dbc.table import Selectors, selected

RawFrame = tuple[int, int, bytes]
"""Id with SocketCAN's flags, bytes of data, and the data, which may be padded."""

HISTORY_LIMIT: Final = 4_096
"""Payloads kept for a statistic. The engine reads at least once a second; a full bus of
1 Mbit/s has at most 9,000 frames then, of all messages together."""

IDS_LIMIT: Final = 8_192
"""Ids of the bus that are remembered; a bus has some hundred, a broken one can make up any."""


@dataclass(slots=True, eq=False)
class Slot:
    """The newest frame of one message that has these selectors' values."""

    ids: IdFilter
    message_bytes: int
    selectors: Selectors
    newest: tuple[bytes, float] | None = None
    """Data, at least ``message_bytes`` of it, and when it came (monotonic)."""
    history: deque[bytes] | None = None

    def fresh(self, since_s: float) -> bytes | None:
        """The newest payload, if it came at this time or later."""
        newest = self.newest
        if newest is None or newest[1] < since_s:
            return None
        return newest[0][: self.message_bytes]

    def keep_history(self) -> None:
        """Keep every payload from now on, until it is drained."""
        if self.history is None:
            self.history = deque(maxlen=HISTORY_LIMIT)

    def drain(self) -> list[bytes]:
        """All payloads since the last time, oldest first."""
        history = self.history
        if not history:
            return []
        # as many as there are now: the source's thread may go on appending
        taken = [history.popleft() for _ in range(len(history))]
        return [data[: self.message_bytes] for data in taken]


class SlotTable:
    """All slots of a bus, and which frames go into which."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []
        self._by_id: dict[int, tuple[Slot, ...]] = {}
        self.frames = 0
        """Frames of mapped ids."""
        self.kept = 0
        """Times that a frame was kept for decoding."""
        self.dropped = 0
        """Frames that were shorter than their message, or too many for a statistic."""

    def slot(self, ids: IdFilter, message_bytes: int, selectors: Selectors) -> Slot:
        """The slot for these frames; made when there is none yet. Before the first ``take``."""
        for slot in self._slots:
            if (slot.ids, slot.message_bytes, slot.selectors) == (ids, message_bytes, selectors):
                return slot
        slot = Slot(ids, message_bytes, selectors)
        self._slots.append(slot)
        return slot

    def filters(self) -> list[IdFilter]:
        """What to let through, for the kernel's filters."""
        return sorted({slot.ids for slot in self._slots})

    def take(self, frames: Iterable[RawFrame], received_s: float) -> list[RawFrame]:
        """Keep what is mapped, oldest first; gives back the controller's error reports."""
        slots_of = self._by_id.get
        errors: list[RawFrame] = []
        mapped = kept = dropped = 0
        for frame in frames:
            identifier, length, data = frame
            slots = slots_of(identifier)
            if slots is None:
                if identifier & ERROR:
                    errors.append(frame)
                    continue
                slots = self._slots_of(identifier)
            if not slots:
                continue
            mapped += 1
            for slot in slots:
                if length < slot.message_bytes:
                    dropped += 1
                    continue
                if slot.selectors and not selected(slot.selectors, data[: slot.message_bytes]):
                    continue
                slot.newest = (data, received_s)
                kept += 1
                history = slot.history
                if history is not None:
                    dropped += len(history) == HISTORY_LIMIT
                    history.append(data)
        self.frames += mapped
        self.kept += kept
        self.dropped += dropped
        return errors

    def _slots_of(self, identifier: int) -> tuple[Slot, ...]:
        if len(self._by_id) >= IDS_LIMIT:
            self._by_id.clear()
        slots = tuple(slot for slot in self._slots if slot.ids.passes(identifier))
        self._by_id[identifier] = slots
        return slots
