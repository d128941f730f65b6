"""Trips: an id that holds from ``trip_started`` to ``trip_ended``, across a restart too.

The state file is written when a trip begins or ends and at an orderly stop, and at no
other time: ``trip.json`` in the state directory, by temporary file, fsync and rename.
After a power cut it says when the trip began, not when the agent died; such a trip is
taken up again if it is younger than a day. After an orderly stop it is taken up again
within ``trip_resume_s``. Without trusted time the boot decides: the same one goes on.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent.engine.odometer import Odometers
from agent.files import write_atomically
from agent.ports import TimeBase

FILE_NAME: Final = "trip.json"
LONGEST_TRIP: Final = timedelta(hours=24)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trip:
    """A trip that is under way.

    ``started_at`` and ``stopped_at`` are ISO 8601 in UTC, as far as it was known:
    ``trusted_time`` says so of the former, ``trusted_stop`` of the latter. ``started_s``
    is monotonic, in the boot that ``started_boot`` names. ``started_can_km`` and
    ``started_gps_km`` are what the odometers said.
    """

    trip_id: str
    started_at: str
    boot_id: str
    trusted_time: bool
    stopped_at: str | None = None
    trusted_stop: bool = False
    started_s: float | None = None
    started_boot: str = ""
    started_can_km: float | None = None
    started_gps_km: float | None = None

    @property
    def odometers(self) -> Odometers:
        """What they said when it began."""
        return Odometers(self.started_can_km, self.started_gps_km)


class TripKeeper:
    """The trip under way, and its file."""

    def __init__(self, folder: Path, *, boot_id: str, resume_s: float) -> None:
        self._path = folder / FILE_NAME
        self._boot_id = boot_id
        self._resume = timedelta(seconds=resume_s)
        self._trip: Trip | None = None

    @property
    def trip_id(self) -> str | None:
        """The id of the trip under way."""
        return self._trip.trip_id if self._trip else None

    @property
    def odometers(self) -> Odometers:
        """What the odometers said when the trip under way began."""
        return self._trip.odometers if self._trip else Odometers()

    def restore(self, base: TimeBase, now_s: float) -> tuple[Trip | None, Trip | None]:
        """Read the file at the start: the trip that goes on, or the one that is over."""
        trip = self._read()
        if trip is None:
            return None, None
        if self._goes_on(trip, base.at(now_s), trusted=base.trusted):
            trip = self._with_true_start(trip, base)
            self._trip = replace(trip, boot_id=self._boot_id, stopped_at=None)
            return self._trip, None
        self._write(None)
        return None, trip

    def begin(self, base: TimeBase, now_s: float, odometers: Odometers) -> str:
        """A new trip; returns its id."""
        self._trip = Trip(
            trip_id=str(uuid.uuid4()),
            started_at=base.at(now_s).isoformat(),
            boot_id=self._boot_id,
            trusted_time=base.trusted,
            started_s=now_s,
            started_boot=self._boot_id,
            started_can_km=odometers.can_km,
            started_gps_km=odometers.gps_km,
        )
        self._write(self._trip)
        return self._trip.trip_id

    def end(self) -> str | None:
        """The trip is over; returns its id."""
        ended = self.trip_id
        self._trip = None
        self._write(None)
        return ended

    def lasted_s(self, base: TimeBase, now_s: float) -> float | None:
        """How long the trip has lasted; ``None`` where that cannot be known.

        By the monotonic clock within a boot, so that time which becomes known on the way
        does not count as driven; by UTC across boots, where both ends were trusted.
        """
        trip = self._trip
        if trip is None:
            return None
        if trip.started_s is not None and self._is_this_boot(trip.started_boot):
            return max(now_s - trip.started_s, 0.0)
        if not (trip.trusted_time and base.trusted):
            return None
        lasted = base.at(now_s) - datetime.fromisoformat(trip.started_at)
        return max(lasted.total_seconds(), 0.0)

    def stop(self, base: TimeBase, now_s: float) -> None:
        """The agent stops in an orderly way; note when, if a trip is under way."""
        if self._trip is not None:
            trip = self._with_true_start(self._trip, base)
            stopped_at = base.at(now_s).isoformat()
            self._write(replace(trip, stopped_at=stopped_at, trusted_stop=base.trusted))

    def _with_true_start(self, trip: Trip, base: TimeBase) -> Trip:
        """The trip with its start put right, if the time became known since."""
        if trip.trusted_time or not base.trusted or trip.started_s is None:
            return trip
        if not self._is_this_boot(trip.started_boot):
            return trip
        started_at = base.at(trip.started_s).isoformat()
        return replace(trip, started_at=started_at, trusted_time=True)

    def _is_this_boot(self, boot_id: str) -> bool:
        return bool(boot_id) and boot_id == self._boot_id

    def _goes_on(self, trip: Trip, now: datetime, *, trusted: bool) -> bool:
        if trip.boot_id == self._boot_id and trip.stopped_at is None:
            return True
        same_boot = trip.boot_id == self._boot_id
        if trip.stopped_at is not None:
            if not (trusted and trip.trusted_stop):
                return same_boot
            return now - datetime.fromisoformat(trip.stopped_at) <= self._resume
        if not (trusted and trip.trusted_time):
            return same_boot
        return now - datetime.fromisoformat(trip.started_at) <= LONGEST_TRIP

    def _read(self) -> Trip | None:
        try:
            return _parse(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            _log.warning("%s cannot be used (%s); no trip is taken up", self._path, error)
            return None

    def _write(self, trip: Trip | None) -> None:
        """A disk that cannot be written costs only the trip's going on after a restart."""
        try:
            if trip is None:
                self._path.unlink(missing_ok=True)
            else:
                write_atomically(self._path, json.dumps(asdict(trip)).encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)


def _parse(data: bytes) -> Trip:
    trip = Trip(**json.loads(data))
    for moment in (trip.started_at, trip.stopped_at):
        if moment is not None and datetime.fromisoformat(moment).tzinfo is None:
            raise ValueError("a time without a zone")
    for km in (trip.started_can_km, trip.started_gps_km):
        if not isinstance(km, int | float | None):
            raise TypeError("an odometer that is no number")
    return trip
