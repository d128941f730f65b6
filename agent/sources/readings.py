"""The newest value of each contract field that a source has worked out; thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from agent.inputs import SignalValue

ERROR_CODES: Final = "diagnostics.error_codes"


@dataclass(frozen=True, slots=True)
class _Reading:
    value: SignalValue
    received_s: float
    stale_after_s: float | None


class Readings:
    """Values go stale; trouble codes are held by their owner until it says otherwise.

    Codes are what an ECU keeps in memory: they do not go away because a vehicle sleeps.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, _Reading] = {}
        self._codes: dict[Hashable, tuple[str, ...]] = {}

    def put(
        self, name: str, value: SignalValue, now_s: float, stale_after_s: float | None = None
    ) -> None:
        """A new value; ``None`` as its age limit holds it for ever."""
        with self._lock:
            self._values[name] = _Reading(value, now_s, stale_after_s)

    def put_codes(self, owner: Hashable, codes: tuple[str, ...]) -> None:
        """All codes that one owner (an ECU, and the service asked) has now."""
        with self._lock:
            self._codes[owner] = codes

    def read(self, now_s: float) -> dict[str, SignalValue]:
        """Contract field -> value, without stale ones; codes once any owner has told some."""
        with self._lock:
            values: dict[str, SignalValue] = {
                name: one.value
                for name, one in self._values.items()
                if one.stale_after_s is None or now_s - one.received_s <= one.stale_after_s
            }
            if self._codes:
                values[ERROR_CODES] = tuple(
                    sorted({code for codes in self._codes.values() for code in codes})
                )
        return values

    def sampled(self) -> None:
        """What was read last went into a sample; nothing here is over an interval."""

    def received_s(self, name: str) -> float | None:
        """When the newest value of a field came (monotonic)."""
        with self._lock:
            reading = self._values.get(name)
        return reading.received_s if reading else None
