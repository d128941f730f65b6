"""What is known of a run when it is over: the cloud's history and account, and the truth."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

Json = dict[str, Any]

EARTH_RADIUS_M: Final = 6_371_008.8


@dataclass(frozen=True, slots=True)
class Message:
    """One stored sample or event; ``body`` is as it was sent."""

    run_id: str
    timestamp: datetime
    body: Json


@dataclass(frozen=True, slots=True)
class Truth:
    """Where the vehicle truly was, by seconds since the drive's first moment."""

    times_s: Sequence[float]
    places: Sequence[tuple[float, float]]
    """Latitude and longitude, degrees."""

    def at(self, elapsed_s: float) -> tuple[float, float]:
        """Between two known places the way is straight; before and after, it stands."""
        index = bisect.bisect_right(self.times_s, elapsed_s)
        if index == 0:
            return self.places[0]
        if index == len(self.times_s):
            return self.places[-1]
        before_s, after_s = self.times_s[index - 1], self.times_s[index]
        share = (elapsed_s - before_s) / (after_s - before_s)
        (lat0, lon0), (lat1, lon1) = self.places[index - 1], self.places[index]
        return lat0 + (lat1 - lat0) * share, lon0 + (lon1 - lon0) * share


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """``begun`` is the wall time of the drive's first moment, ``ended`` that of the stop."""

    begun: datetime
    ended: datetime
    started: datetime
    """When the agent was started, which is before the drive begins."""
    messages: Sequence[Message]
    missing: int
    unexplained: int
    causes: dict[str, int] = field(default_factory=dict)
    truth: Truth

    @property
    def samples(self) -> list[Message]:
        """Those of the messages, in the order of their times."""
        return self._of_kind(event=False)

    @property
    def events(self) -> list[Message]:
        """Likewise."""
        return self._of_kind(event=True)

    @property
    def duration_s(self) -> float:
        """From the drive's first moment to the stop."""
        return (self.ended - self.begun).total_seconds()

    def elapsed_s(self, message: Message) -> float:
        """When it was taken, by its own timestamp, after the drive's first moment."""
        return (message.timestamp - self.begun).total_seconds()

    def position_error_m(self, sample: Message) -> float | None:
        """How far its position is from the truth at the time of the fix; None without one."""
        location = sample.body.get("location")
        if location is None:
            return None
        fix_time = location.get("fix_time")
        moment = sample.timestamp if fix_time is None else datetime.fromisoformat(fix_time)
        lat, lon = self.truth.at((moment - self.begun).total_seconds())
        return distance_m(lat, lon, location["lat"], location["lon"])

    def _of_kind(self, *, event: bool) -> list[Message]:
        found = [one for one in self.messages if ("event_type" in one.body) is event]
        return sorted(found, key=lambda message: message.timestamp)


def distance_m(lat0: float, lon0: float, lat1: float, lon1: float) -> float:
    """Along the sphere of the mean radius, by the haversine formula."""
    phi0, phi1 = math.radians(lat0), math.radians(lat1)
    half_lat, half_lon = (phi1 - phi0) / 2, math.radians(lon1 - lon0) / 2
    a = math.sin(half_lat) ** 2 + math.cos(phi0) * math.cos(phi1) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(a))


def messages_of(history: Sequence[Json]) -> list[Message]:
    """The rows of ``milepost-cloud history --full``."""
    return [
        Message(row["run_id"], datetime.fromisoformat(row["timestamp"]), row["message"])
        for row in history
    ]
