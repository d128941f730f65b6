"""``[can.signals]`` of one bus, tied to the DBC's tables: frames in, contract fields out.

Threads: the source's thread calls ``take``; the engine's and those of other sources call
the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from agent.config import CanSettings, FieldKind, Match, SignalSettings, Stat, field_kind
from agent.inputs import SignalValue
from agent.sources.can.ids import IdFilter, by_id, by_pgn
from agent.sources.can.reading import MAX_TEXT, Reading, Validity
from agent.sources.can.slots import RawFrame, Slot, SlotTable
from agent.sources.dbc.table import SignalTable


class SignalMap:
    """Reads like ``agent.inputs.SignalReader``."""

    def __init__(self, settings: CanSettings, tables: Mapping[str, SignalTable]) -> None:
        self.slots = SlotTable()
        self._settings = settings
        self._reading_lock = threading.Lock()
        self._readings: dict[str, list[Reading]] = {}
        for name, entries in settings.signals.items():
            kind = field_kind(name)
            if kind is not None:
                self._readings[name] = [self._reading(kind, entry, tables) for entry in entries]
        self._statistics: dict[Slot, list[Reading]] = {}
        for readings in self._readings.values():
            for reading in readings:
                if reading.stat is not Stat.LAST:
                    self._statistics.setdefault(reading.slot, []).append(reading)

    def filters(self) -> list[IdFilter]:
        """The mapped frames, for the kernel's filters."""
        return self.slots.filters()

    def take(self, frames: Iterable[RawFrame], received_s: float) -> list[RawFrame]:
        """Keep what is mapped, oldest first; gives back the controller's error reports."""
        return self.slots.take(frames, received_s)

    def read(self, now_s: float) -> dict[str, SignalValue]:
        """Contract field -> newest value, without those that are stale or not valid."""
        self._gather_statistics(now_s)
        values: dict[str, SignalValue] = {}
        for name, readings in self._readings.items():
            value: SignalValue | None
            if readings[0].kind is FieldKind.CODES:
                value = _codes(readings, now_s)
            else:
                value = _single(readings[0], now_s)
            if value is not None:
                values[name] = value
        return values

    def sampled(self) -> None:
        """What was read last went into a sample: statistics begin anew."""
        with self._reading_lock:
            for readings in self._statistics.values():
                for reading in readings:
                    reading.begin_interval()

    def received_s(self, name: str) -> float | None:
        """When the newest frame with a mapped field came (monotonic); ``None`` if none has."""
        newest = [reading.slot.newest for reading in self._readings.get(name, ())]
        return max((frame[1] for frame in newest if frame is not None), default=None)

    def _gather_statistics(self, now_s: float) -> None:
        with self._reading_lock:
            for slot, readings in self._statistics.items():
                payloads = slot.drain()
                for reading in readings:
                    reading.take_in(payloads, now_s)

    def _reading(
        self, kind: FieldKind, entry: SignalSettings, tables: Mapping[str, SignalTable]
    ) -> Reading:
        table = tables[entry.signal]
        validity = None
        if entry.valid_if:
            valid = tables[entry.valid_if]
            validity = Validity(valid, self._slot(valid, entry))
        return Reading(
            kind=kind,
            settings=entry,
            stale_after_s=entry.stale_after_s or self._settings.stale_after_s,
            table=table,
            slot=self._slot(table, entry),
            validity=validity,
        )

    def _slot(self, table: SignalTable, entry: SignalSettings) -> Slot:
        return self.slots.slot(
            _ids(table, self._settings.match, entry.source_address),
            table.message_bytes,
            table.selectors,
        )


def references(settings: CanSettings) -> list[str]:
    """The signals that a bus's map names, each once."""
    names = {}
    for entries in settings.signals.values():
        for entry in entries:
            names[entry.signal] = True
            if entry.valid_if:
                names[entry.valid_if] = True
    return list(names)


def _ids(table: SignalTable, match: Match, source_address: int | None) -> IdFilter:
    by_group = match is Match.PGN or (match is Match.AUTO and table.is_j1939)
    if table.extended and by_group:
        return by_pgn(table.frame_id, source_address)
    return by_id(table.frame_id, extended=table.extended)


def _single(reading: Reading, now_s: float) -> SignalValue | None:
    found = reading.value(now_s)
    if found is None:
        return None
    number, name = found
    if reading.kind is FieldKind.FLAG:
        return number != 0
    if reading.kind is FieldKind.NUMBER:
        # a named value of a measurement means "not available", "error" and the like
        return number if name is None else None
    return number if name is None else name[:MAX_TEXT]


def _codes(readings: list[Reading], now_s: float) -> tuple[str, ...] | None:
    """The codes of those signals that are not zero; ``None`` when none of them is fresh."""
    codes = []
    any_fresh = False
    for reading in readings:
        found = reading.value(now_s)
        if found is None:
            continue
        any_fresh = True
        number, name = found
        if number != 0:
            one_bit = reading.table.field.length == 1
            codes.append(name or reading.table.name + ("" if one_bit else f":{number:g}"))
    return tuple(code[:64] for code in codes) if any_fresh else None
