"""The newest frame of each mapped message, and the contract's values out of it.

Frames are only kept when they come; they are decoded when a sample is taken. A
multiplexed message is kept once per combination of its selectors' values, so that the
answers of an OBD-II ECU, all under one id, do not push each other out.

Threads: the source's thread calls ``keep``, the engine's calls ``read``; a slot's payload
and time are replaced together by one assignment, so no lock is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.config import CanSettings, FieldKind, SignalSettings, field_kind
from agent.inputs import SignalValue
from agent.sources.dbc_table import Number, Selectors, SignalTable, selected

FrameId = tuple[int, bool]
"""The arbitration id, and whether it is one of 29 bits."""

MAX_TEXT: Final = 256
"""The contract's limit for a text."""


@dataclass(slots=True)
class _Slot:
    """The newest frame of one message that has these selectors' values."""

    selectors: Selectors
    newest: tuple[bytes, float] | None = None


@dataclass(slots=True)
class _Message:
    """A mapped message and its slots."""

    message_bytes: int
    slots: list[_Slot] = field(default_factory=list)

    def slot(self, selectors: Selectors) -> _Slot:
        for slot in self.slots:
            if slot.selectors == selectors:
                return slot
        slot = _Slot(selectors)
        self.slots.append(slot)
        return slot


@dataclass(frozen=True, slots=True)
class _Reading:
    """One entry of ``[can.signals]``, ready to be read."""

    kind: FieldKind
    settings: SignalSettings
    stale_after_s: float
    table: SignalTable
    slot: _Slot
    valid_table: SignalTable | None
    valid_slot: _Slot | None

    def value(self, now_s: float) -> tuple[Number, str | None] | None:
        """The number in the contract's unit, and its name; ``None`` if it does not count."""
        payload = self._fresh(self.slot, now_s)
        if payload is None or not self._is_valid(now_s):
            return None
        raw = self.table.field.raw(payload)
        if not math.isfinite(raw):
            return None
        settings = self.settings
        number = self.table.number(raw)
        if settings.scale != 1:
            number *= settings.scale
        if settings.offset != 0:
            number += settings.offset
        if settings.min is not None and number < settings.min:
            return None
        if settings.max is not None and number > settings.max:
            return None
        return number, self.table.choice(raw)

    def _is_valid(self, now_s: float) -> bool:
        if self.valid_table is None or self.valid_slot is None:
            return True
        payload = self._fresh(self.valid_slot, now_s)
        return payload is not None and self.valid_table.field.raw(payload) != 0

    def _fresh(self, slot: _Slot, now_s: float) -> bytes | None:
        newest = slot.newest
        if newest is None or now_s - newest[1] > self.stale_after_s:
            return None
        return newest[0]


class SignalMap:
    """``[can.signals]`` of one bus, tied to the DBC's tables."""

    def __init__(self, settings: CanSettings, tables: Mapping[str, SignalTable]) -> None:
        self._messages: dict[FrameId, _Message] = {}
        self._readings: dict[str, list[_Reading]] = {}
        for name, entries in settings.signals.items():
            kind = field_kind(name)
            if kind is not None:
                readings = [self._reading(kind, entry, settings, tables) for entry in entries]
                self._readings[name] = readings
        self.frames = 0
        self.decoded = 0
        self.too_short = 0

    def ids(self) -> list[FrameId]:
        """The mapped frame ids, for the filters."""
        return sorted(self._messages)

    def keep(self, frame_id: FrameId, data: bytes | bytearray, received_s: float) -> None:
        """Take one frame; one that is not mapped is no error."""
        message = self._messages.get(frame_id)
        if message is None:
            return
        self.frames += 1
        if len(data) < message.message_bytes:
            self.too_short += 1
            return
        payload = bytes(data[: message.message_bytes])
        newest = (payload, received_s)
        for slot in message.slots:
            if not slot.selectors or selected(slot.selectors, payload):
                slot.newest = newest
                self.decoded += 1

    def read(self, now_s: float) -> dict[str, SignalValue]:
        """Contract field -> newest value, without those that are stale or not valid."""
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

    def received_s(self, name: str) -> float | None:
        """When the newest frame with a mapped field came (monotonic); ``None`` if none has."""
        times = [
            reading.slot.newest[1]
            for reading in self._readings.get(name, ())
            if reading.slot.newest is not None
        ]
        return max(times, default=None)

    def _reading(
        self,
        kind: FieldKind,
        entry: SignalSettings,
        bus: CanSettings,
        tables: Mapping[str, SignalTable],
    ) -> _Reading:
        table = tables[entry.signal]
        valid = tables[entry.valid_if] if entry.valid_if else None
        return _Reading(
            kind=kind,
            settings=entry,
            stale_after_s=entry.stale_after_s or bus.stale_after_s,
            table=table,
            slot=self._slot(table),
            valid_table=valid,
            valid_slot=self._slot(valid) if valid else None,
        )

    def _slot(self, table: SignalTable) -> _Slot:
        key = (table.frame_id, table.extended)
        if key not in self._messages:
            self._messages[key] = _Message(table.message_bytes)
        return self._messages[key].slot(table.selectors)


def references(settings: CanSettings) -> list[str]:
    """The signals that a bus's map names, each once."""
    names = {}
    for entries in settings.signals.values():
        for entry in entries:
            names[entry.signal] = True
            if entry.valid_if:
                names[entry.valid_if] = True
    return list(names)


def _single(reading: _Reading, now_s: float) -> SignalValue | None:
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


def _codes(readings: list[_Reading], now_s: float) -> tuple[str, ...] | None:
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
