"""One entry of ``[can.signals]``: from a payload to a value in the contract's unit."""

from __future__ import annotations

import math
from typing import Final

from agent.config import FieldKind, SignalSettings, Stat
from agent.sources.can_slots import Slot
from agent.sources.dbc_table import Number, SignalTable

MAX_TEXT: Final = 256
"""The contract's limit for a text."""

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
        self._not_available = frozenset(settings.not_available_raw)
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
            return interval.result(self.stat), None
        if not self._is_valid(now_s):
            return None
        return self._decode(payload)

    def take_in(self, payloads: list[bytes], now_s: float) -> None:
        """Count payloads of its slot in the statistic."""
        validity = self._validity
        same_message = validity is not None and validity.slot is self.slot
        if not same_message and not self._is_valid(now_s):
            return
        for payload in payloads:
            if same_message and validity is not None and not validity.holds(payload):
                continue
            decoded = self._decode(payload)
            if decoded is not None and decoded[1] is None:
                self._interval.add(decoded[0])

    def begin_interval(self) -> None:
        """A sample was taken: the statistic begins anew."""
        if self.stat is not Stat.LAST:
            self._interval = Interval()

    def _decode(self, payload: bytes) -> Decoded | None:
        raw = self.table.field.raw(payload)
        if not self.table.is_available(raw) or raw in self._not_available:
            return None
        settings = self._settings
        number = self.table.number(raw)
        if settings.scale != 1:
            number *= settings.scale
        if settings.offset != 0:
            number += settings.offset
        if not math.isfinite(number):  # as NaN was sent, or it is out of a double's range
            return None
        if settings.min is not None and number < settings.min:
            return None
        if settings.max is not None and number > settings.max:
            return None
        return number, self.table.choice(raw)

    def _is_valid(self, now_s: float) -> bool:
        validity = self._validity
        return validity is None or validity.holds(validity.slot.fresh(now_s - self._stale_after_s))


class Interval:
    """The values since the last sample, boiled down."""

    __slots__ = ("count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total: Number = 0
        self.least: Number = math.inf
        self.greatest: Number = -math.inf

    def add(self, number: Number) -> None:
        """Count one value."""
        self.count += 1
        self.total += number
        self.least = min(self.least, number)
        self.greatest = max(self.greatest, number)

    def result(self, stat: Stat) -> Number:
        """What was asked for; only when something was counted."""
        if stat is Stat.MIN:
            return self.least
        if stat is Stat.MAX:
            return self.greatest
        return self.total / self.count
