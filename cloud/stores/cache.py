"""A register lookup that is asked for every sample, answered from memory."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.ports import Vehicle, VehicleRegister

_log = logging.getLogger(__name__)

TTL_S: Final = 300.0
NEGATIVE_TTL_S: Final = 30.0
"""A vehicle just registered is known after this."""
MAX_ENTRIES: Final = 10_000


class CachedRegister:
    """``VehicleRegister`` before another; the vehicle asked for longest ago goes first.

    While the register cannot be reached, an answer that has run out still serves. Not
    safe to share between threads: a handler runs one event at a time.
    """

    def __init__(
        self,
        register: VehicleRegister,
        clock: Clock,
        *,
        ttl_s: float = TTL_S,
        negative_ttl_s: float = NEGATIVE_TTL_S,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._register = register
        self._clock = clock
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[float, Vehicle | None]] = OrderedDict()
        self._failing = False

    def find(self, vehicle_id: str) -> Vehicle | None:
        """The vehicle, or None when the register does not know it.

        Raises:
            StoreError: the register failed and nothing is remembered.
        """
        now_s = self._clock.monotonic_s()
        entry = self._entries.get(vehicle_id)
        if entry is not None and now_s < entry[0]:
            self._entries.move_to_end(vehicle_id)
            return entry[1]
        try:
            vehicle = self._register.find(vehicle_id)
        except StoreError as error:
            if entry is None:
                raise
            if not self._failing:
                _log.warning("vehicle register: %s; serving what was known", error)
            self._failing = True
            vehicle = entry[1]
            lasts_s = self._negative_ttl_s
        else:
            if self._failing:
                _log.info("vehicle register: recovered")
            self._failing = False
            lasts_s = self._negative_ttl_s if vehicle is None else self._ttl_s
        self._entries[vehicle_id] = (now_s + lasts_s, vehicle)
        self._entries.move_to_end(vehicle_id)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return vehicle
