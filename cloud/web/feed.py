"""The feed: what changed since the last reading of the stores, and no more.

Pure but for the queries that it is given: one call reads, compares and returns a
message for every open page. A page that joins gets ``snapshot`` and from then on the
messages; ``Hub`` makes sure that none is missed in between.

A message has only the keys that are needed::

    {"now": ms,                                     the server's clock, for ages
     "vehicles": {id: {changed field: value}},      merged into what the page knows
     "gone": [id],
     "trails": {id: {"all": [[dlat, dlon, ...]]}    in place of what the page knows
                  | {"add": [lat, lon], "gap": bool}},   1e-5 degrees
     "alerts": {alert_id: {...} | null},            null: resolved
     "reset": true,                                 a snapshot: forget everything before
     "problem": "..." | null}                       the stores cannot be read, or can again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cloud.clock import milliseconds
from cloud.web.ports import FleetQueries, Json, TrailPoint
from cloud.web.trail import Trail, pack
from cloud.web.views import alert_view, fleet_view, moment_ms

TRAIL_WINDOW: Final = timedelta(minutes=30)
FLEET_POINTS: Final = 9_000
"""Points of all trails together; about 60 KB to a page that joins."""
MAX_POINTS: Final = 400
MIN_POINTS: Final = 40
GAP_REREAD: Final = timedelta(seconds=5)
"""A trail with a gap is read again after this, then half as often each time in vain:
late fixes may have closed the gap."""
MAX_GAP_REREAD: Final = timedelta(seconds=80)
TRAILS_PER_READING: Final = 16
"""So that fifty trails to read do not hold up a reading."""


def trail_limit(vehicles: int) -> int:
    """Points that each trail may have in a fleet of this size."""
    return max(MIN_POINTS, min(MAX_POINTS, FLEET_POINTS // max(1, vehicles)))


@dataclass(slots=True)
class _Known:
    """One vehicle as the pages know it."""

    trail: Trail
    view: Json = field(default_factory=dict)
    read_trail_at: datetime | None = None
    read_again_after: timedelta = GAP_REREAD


@dataclass(slots=True)
class Feed:
    """Compares readings. Not thread safe: ``Hub`` calls it from one thread at a time."""

    queries: FleetQueries
    _known: dict[str, _Known] = field(default_factory=dict)
    _alerts: dict[str, Json] = field(default_factory=dict)

    def snapshot(self, now: datetime) -> Json:
        """Everything, as it was at the last reading."""
        return {
            "now": milliseconds(now),
            "reset": True,
            "vehicles": {vehicle_id: known.view for vehicle_id, known in self._known.items()},
            "trails": {
                vehicle_id: {"all": known.trail.packed()}
                for vehicle_id, known in self._known.items()
                if known.trail.segments
            },
            "alerts": dict(self._alerts),
        }

    def forget(self) -> None:
        """Begin anew, as when no page was open for a while."""
        self._known.clear()
        self._alerts.clear()

    def read(self, now: datetime) -> Json | None:
        """Read the stores; the message to the pages, or None when nothing changed.

        Raises:
            Exception: whatever the queries raise; what is known stays as it was then.
        """
        vehicles = self.queries.vehicles()
        fleet = fleet_view(vehicles, self.queries.statuses())
        alerts = {
            alert["alert_id"]: alert_view(alert) for alert in self.queries.alerts(open_only=True)
        }
        positions = {
            vehicle["vehicle_id"]: _point(vehicle["position"])
            for vehicle in vehicles
            if vehicle["position"]
        }
        histories = {
            vehicle_id: [
                TrailPoint(*row) for row in self.queries.trail(vehicle_id, since=now - TRAIL_WINDOW)
            ]
            for vehicle_id in self._trails_to_read(positions, now)
        }
        # Every reading succeeded; from here on what is known changes.
        for vehicle_id in fleet.keys() - self._known.keys():
            self._known[vehicle_id] = _Known(Trail(MAX_POINTS), read_trail_at=now)
        gone = sorted(self._known.keys() - fleet.keys())
        for vehicle_id in gone:
            del self._known[vehicle_id]
        found = {
            "vehicles": self._take_vehicles(fleet),
            "gone": gone,
            "trails": self._take_trails(positions, histories, now),
            "alerts": _changes(self._alerts, alerts),
        }
        self._alerts = alerts
        message: Json = {key: value for key, value in found.items() if value}
        return {"now": milliseconds(now)} | message if message else None

    def _trails_to_read(self, positions: dict[str, TrailPoint], now: datetime) -> list[str]:
        """New vehicles, and those whose trail has a gap and is due; a bounded number."""
        due = []
        for vehicle_id in positions:
            known = self._known.get(vehicle_id)
            if known is None or (known.read_trail_at is not None and known.read_trail_at <= now):
                due.append(vehicle_id)
        return due[:TRAILS_PER_READING]

    def _take_vehicles(self, fleet: dict[str, Json]) -> dict[str, Json]:
        changed = {}
        for vehicle_id, view in fleet.items():
            known = self._known[vehicle_id]
            change = _changes(known.view, view)
            if change:
                changed[vehicle_id] = change
            known.view = view
        return changed

    def _take_trails(
        self,
        positions: dict[str, TrailPoint],
        histories: Mapping[str, Sequence[TrailPoint]],
        now: datetime,
    ) -> dict[str, Json]:
        limit = trail_limit(len(positions))
        changes: dict[str, Json] = {}
        for vehicle_id, position in positions.items():
            known = self._known[vehicle_id]
            known.trail.limit = limit
            if vehicle_id in histories:
                change = _take_history(known, histories[vehicle_id], now)
            else:
                change = _added(known.trail, position)
            if known.trail.trim(milliseconds(now - TRAIL_WINDOW)):
                change = {"all": known.trail.packed()}
            if change:
                changes[vehicle_id] = change
            if known.trail.gaps and known.read_trail_at is None:
                known.read_trail_at = now + known.read_again_after
        return changes


def _take_history(known: _Known, fixes: Sequence[TrailPoint], now: datetime) -> Json:
    """Replace a trail by what the history holds; the change for the pages, if any."""
    before = known.trail.packed()
    known.trail.load(fixes)
    after = known.trail.packed()
    in_vain = before == after
    known.read_again_after = (
        min(known.read_again_after * 2, MAX_GAP_REREAD) if in_vain else GAP_REREAD
    )
    known.read_trail_at = now + known.read_again_after if known.trail.gaps else None
    return {} if in_vain else {"all": after}


def _point(position: Json) -> TrailPoint:
    moment = moment_ms(position["timestamp"]) or 0
    return TrailPoint(moment, position["lat"], position["lon"])


def _added(trail: Trail, point: TrailPoint) -> Json:
    """Take a live position; the change for the pages, empty when there is none to see."""
    gaps = trail.gaps
    if not trail.add(point):
        return {}
    return {"add": pack(trail.segments[-1][-1:]), "gap": trail.gaps > gaps}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The keys that differ, with their new value; None where one is gone."""
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    return changed | {key: None for key in before if key not in after}
