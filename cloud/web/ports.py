"""What the live map needs of the stores, and nothing more: it never writes.

``cloud.stores.queries.Queries`` is the implementation. All calls come from one thread
of the map's own. Any exception means "cannot be read now": the page says so, and the
next reading is tried as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrailPoint:
    """Where a vehicle was at one moment; milliseconds since 1970, degrees."""

    timestamp_ms: int
    lat: float
    lon: float


class FleetQueries(Protocol):
    """The read side of the stores; timestamps are RFC 3339, absent is null."""

    def vehicles(self) -> Sequence[Json]:
        """Every vehicle that has reported, with its latest ``position`` (flat, or null)."""
        ...

    def statuses(self) -> Sequence[Json]:
        """The latest status of every vehicle that has sent one, as the contract has it."""
        ...

    def alerts(self, *, open_only: bool = False) -> Sequence[Json]:
        """Alerts, newest first."""
        ...

    def account(self, vehicle_id: str) -> Json:
        """A vehicle's ``received``, ``missing`` and its ``causes``, ``late``, ``duplicates``."""
        ...

    def latency_ms(self) -> Json:
        """``p50``, ``p95``, ``p99`` (ms, or null) and ``count``, from few rows."""
        ...

    def trail(
        self, vehicle_id: str, *, since: datetime, every_s: float = 1.0
    ) -> Sequence[tuple[int, float, float]]:
        """``(timestamp_ms, lat, lon)`` in order of time, late samples in their place."""
        ...


class DrawnAreas(Protocol):
    """Operating areas and geofences."""

    def geojson(self) -> Json:
        """A FeatureCollection of polygons with the properties ``name`` and ``kind``."""
        ...
