"""One entry of ``[can.signals]``: from a payload to a value in the contract's unit."""

from __future__ import annotations

import math
from typing import Final

from agent.config import FieldKind, SignalSettings, Stat
from agent.sources.can.slots import Slot
from agent.sources.dbc.table import Number, SignalTable

MAX_TEXT: Final = 256
"""The contract's limit for a text."""

_OPPOSITE: Final = {Stat.MIN: Stat.MAX, Stat.MAX: Stat.MIN}
"""The smallest value comes from the largest raw one where the factor is negative."""

Decoded = tuple[Number, str | None]
"""The number in the contract's unit, and its name in the DBC's value table."""


class Validity:
    """``valid_if``: a signal that must not be zero."""

    def __init__(self, table: SignalTable, slot: Slot) -> None:
        self._table = table
        self.slot = slot

    def holds(self, payload: bytes | None) -> bool:
        """Whether the payload of its message says so."""
        if payload is None:
            return False
        raw = self._table.field.raw(payload)
        return raw != 0 and self._table.is_available(raw)


class Reading:
    """Decodes one signal; its statistic belongs to one thread at a time."""

    def __init__(
        self,
        *,
        kind: FieldKind,
        settings: SignalSettings,
        stale_after_s: float,
        table: SignalTable,
        slot: Slot,
        validity: Validity | None,
    ) -> None:
        self.kind = kind
        self.table = table
        self.slot = slot
        self.stat = settings.stat
        self._settings = settings
        self._stale_after_s = stale_after_s
        self._validity = validity
        self._has_range = settings.min is not None or settings.max is not None
        self._all_count = not (
            self._has_range
            or table.field.is_float
            or table.choices
            or table.not_available_from is not None
            or settings.not_available_raw
        )
        self._any_raw_counts = not (
            table.field.is_float
            or table.not_available
            or table.not_available_from is not None
            or settings.not_available_raw
        )
        self._is_raw = (table.scale, table.offset, settings.scale, settings.offset) == (1, 0, 1, 0)
        self._decoded: tuple[bytes, Decoded | None] | None = None
        """The newest payload and what it says; replaced as one, for any thread may read."""
        self._raw_stat = self.stat
        if table.scale * settings.scale < 0 and self.stat in _OPPOSITE:
            self._raw_stat = _OPPOSITE[self.stat]
        self._interval = Interval()
        if self.stat is not Stat.LAST:
            slot.keep_history()

    def value(self, now_s: float) -> Decoded | None:
        """The newest value, or the statistic; ``None`` if it is stale or does not count."""
        payload = self.slot.fresh(now_s - self._stale_after_s)
        if payload is None:
            return None
        interval = self._interval
        if self.stat is not Stat.LAST and interval.count:
            number = self._number(interval.result(self._raw_stat))
            return (number, None) if math.isfinite(number) else None
        if not self._is_valid(now_s):
            return None
        return self._decode(payload)

    def take_in(self, payloads: list[bytes], now_s: float) -> None:
        """Count payloads of its slot in the statistic."""
        validity = self._validity
        if validity is not None and validity.slot is self.slot:
            payloads = [payload for payload in payloads if validity.holds(payload)]
        elif not self._is_valid(now_s):
            return
        raws = self.table.field.raws(payloads)
        if not self._all_count:
            raws = [raw for raw in raws if self._counts(raw)]
        if raws:
            self._interval.add(raws)

    def begin_interval(self) -> None:
        """A sample was taken: the statistic begins anew."""
        if self.stat is not Stat.LAST:
            self._interval = Interval()

    def _decode(self, payload: bytes) -> Decoded | None:
        before = self._decoded
        if before is not None and before[0] == payload:
            return before[1]
        decoded = self._decode_anew(payload)
        self._decoded = (payload, decoded)
        return decoded

    def _decode_anew(self, payload: bytes) -> Decoded | None:
        table = self.table
        raw = table.field.raw(payload)
        if not self._any_raw_counts and not self._is_available(raw):
            return None
        number = raw if self._is_raw else self._number(raw)
        # factors of the DBC and the config may take a finite raw value beyond what a float holds
        if not math.isfinite(number) or (self._has_range and not self._is_in_range(number)):
            return None
        return number, table.choice(raw) if table.choices else None

    def _counts(self, raw: Number) -> bool:
        """Whether a value goes into the statistic: a named one is no measurement."""
        if not self._is_available(raw) or self.table.choice(raw) is not None:
            return False
        return not self._has_range or self._is_in_range(self._number(raw))

    def _is_available(self, raw: Number) -> bool:
        return (
            math.isfinite(raw)
            and self.table.is_available(raw)
            and raw not in self._settings.not_available_raw
        )

    def _number(self, raw: Number) -> Number:
        settings = self._settings
        number = self.table.number(raw)
        if settings.scale != 1:
            number *= settings.scale
        if settings.offset != 0:
            number += settings.offset
        return number

    def _is_in_range(self, number: Number) -> bool:
        settings = self._settings
        above = settings.min is None or number >= settings.min
        return above and (settings.max is None or number <= settings.max)

    def _is_valid(self, now_s: float) -> bool:
        validity = self._validity
        return validity is None or validity.holds(validity.slot.fresh(now_s - self._stale_after_s))


class Interval:
    """The raw values since the last sample, boiled down."""

    __slots__ = ("count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total: Number = 0
        self.least: Number = math.inf
        self.greatest: Number = -math.inf

    def add(self, raws: list[Number]) -> None:
        """Count these values."""
        self.count += len(raws)
        self.total += sum(raws)
        self.least = min(self.least, *raws)
        self.greatest = max(self.greatest, *raws)

    def result(self, stat: Stat) -> Number:
        """What was asked for; only when something was counted."""
        if stat is Stat.MIN:
            return self.least
        if stat is Stat.MAX:
            return self.greatest
        return self.total / self.count
