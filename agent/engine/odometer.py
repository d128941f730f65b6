"""Kilometres by GPS, counted for good; and what two odometers say of the way between.

``distance.json`` in the state directory holds the count and where it was taken. It is
written, by temporary file, fsync and rename, after each ``SAVE_EVERY_M``, when a trip
begins or ends and at an orderly stop: some hundred small writes a day at most. What a power
cut takes from the count, and what was driven while the agent was not running, comes back
with the first good position of the next run, in a straight line, up to ``RESUME_M``;
a vehicle that turns up further away was carried, or nobody knows.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.engine.geo import distance_m
from agent.files import write_atomically
from agent.inputs import Fix
from agent.logs import StateLog

FILE_NAME: Final = "distance.json"
DAMAGED_NAME: Final = "distance.json.damaged"

SAVE_EVERY_M: Final = 1_000.0

RESUME_M: Final = (100.0, 5_000.0)
"""Less is the receivers' error; more was not driven while the agent started."""

GOOD_FIX_M: Final = 50.0
"""The first fixes of a receiver are its worst; the first that claims no larger error counts."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Odometers:
    """What each odometer says, km; ``None`` is unknown."""

    can_km: float | None = None
    gps_km: float | None = None

    def since(self, start: Odometers) -> tuple[float, str] | None:
        """Kilometres since ``start`` and who says so; CAN's odometer goes before GPS."""
        for name, before, now in (
            ("can", start.can_km, self.can_km),
            ("gps", start.gps_km, self.gps_km),
        ):
            if before is not None and now is not None and now >= before:
                return now - before, name
        return None


class GpsOdometer:
    """Used by the engine's thread alone."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._trouble = StateLog(_log, f"keeping {FILE_NAME}")
        self._travelled_m = self._saved_m = 0.0
        self._left_at: tuple[float, float] | None = None
        self._here: tuple[float, float] | None = None
        self._this_run_m = 0.0
        self._is_resumed = False
        self._load()

    @property
    def km(self) -> float | None:
        """Kilometres counted so far; ``None`` before the first position ever."""
        if self._here is None and self._left_at is None:
            return None
        return self._travelled_m / 1000

    def count(self, travelled_m: float, fix: Fix) -> None:
        """The vehicle has travelled so far since the last call, and is here."""
        self._here = (fix.lat, fix.lon)
        self._travelled_m += travelled_m
        self._this_run_m += travelled_m
        if not self._is_resumed and (fix.accuracy_m is None or fix.accuracy_m <= GOOD_FIX_M):
            self._is_resumed = True
            self._travelled_m += self._unseen_m(fix)
        if self._travelled_m - self._saved_m >= SAVE_EVERY_M:
            self.save()

    def save(self) -> None:
        """Write the count, if it has changed; a full disk costs at most what a power cut does."""
        if self._here is None or (self._travelled_m == self._saved_m and self._path.exists()):
            return
        lat, lon = self._here
        content = {"travelled_m": round(self._travelled_m, 1), "lat": lat, "lon": lon}
        try:
            write_atomically(self._path, json.dumps(content).encode())
        except OSError as error:
            self._trouble.failed(str(error))
        else:
            self._trouble.recovered()
        # not tried again before the next kilometre, whether it is kept or not
        self._saved_m = self._travelled_m

    def _unseen_m(self, fix: Fix) -> float:
        """What was driven since the file was written and before this run saw it."""
        if self._left_at is None:
            return 0.0
        least_m, most_m = RESUME_M
        away_m = distance_m(*self._left_at, fix.lat, fix.lon)
        if not least_m <= away_m <= most_m:
            return 0.0
        return max(away_m - self._this_run_m, 0.0)

    def _load(self) -> None:
        try:
            content = json.loads(self._path.read_bytes())
            travelled_m, lat, lon = (_number(content, key) for key in ("travelled_m", "lat", "lon"))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning(
                "%s cannot be used (%s): the distance by GPS counts from 0 again; the old file is"
                " kept as %s",
                self._path,
                error,
                DAMAGED_NAME,
            )
            self._set_aside()
            return
        self._travelled_m = self._saved_m = travelled_m
        self._left_at = (lat, lon)

    def _set_aside(self) -> None:
        try:
            self._path.replace(self._path.with_name(DAMAGED_NAME))
        except OSError as error:
            _log.warning("%s cannot be set aside: %s", self._path, error)


def _number(content: Any, key: str) -> float:
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is no number")
    if key == "travelled_m" and value < 0:
        raise ValueError("travelled_m is negative")
    return float(value)
