"""What the browser is told of a vehicle and of an alert, from what the stores show.

Flat, so that a change is a few keys, and rounded to what can be seen, so that noise is
no change. Times are milliseconds since 1970, as JavaScript counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from cloud.clock import milliseconds
from cloud.web.ports import Json

ALERT_TITLES: Final[Mapping[str, str]] = {
    "battery_low": "Battery low",
    "outside_operating_area": "Outside the operating area",
}


def moment_ms(text: str | None) -> int | None:
    """An RFC 3339 timestamp in milliseconds."""
    return None if text is None else milliseconds(datetime.fromisoformat(text))


def vehicle_view(vehicle: Json, status: Json | None) -> Json:
    """One vehicle; what is unknown is absent."""
    position: Json = vehicle["position"] or {}
    status = status or {}
    view = {
        "name": vehicle["name"] or vehicle["vehicle_id"],
        "type": vehicle["vehicle_type"],
        "lat": _rounded(position.get("lat"), 5),
        "lon": _rounded(position.get("lon"), 5),
        "accuracy": _rounded(position.get("accuracy"), 0),
        "fix": moment_ms(position.get("fix_time", position.get("timestamp"))),
        "speed": _rounded(position.get("speed_kmh"), 0),
        "heading": _rounded(position.get("heading"), 0),
        "battery": _rounded(position.get("battery_percent"), 0),
        "charging": position.get("charging"),
        "trip": position.get("trip_id"),
        "state": status.get("state", vehicle["state"]),
        "mode": status.get("mode", vehicle["mode"]),
        "limited": status.get("limited_by"),
        "interval": status.get("sample_interval_s"),
        "backlog": status.get("backlog_messages", vehicle["backlog_messages"]),
        "said": moment_ms(vehicle["status_timestamp"]),
        "version": vehicle["software_version"],
    }
    return {key: value for key, value in view.items() if value is not None}


def fleet_view(vehicles: Iterable[Json], statuses: Iterable[Json]) -> dict[str, Json]:
    """Every vehicle that has reported, by its id."""
    status_of = {status["vehicle_id"]: status for status in statuses}
    return {
        vehicle["vehicle_id"]: vehicle_view(vehicle, status_of.get(vehicle["vehicle_id"]))
        for vehicle in vehicles
    }


def alert_view(alert: Json) -> Json:
    """One open alert."""
    kind = alert["kind"]
    return {
        "vehicle": alert["vehicle_id"],
        "kind": kind,
        "title": ALERT_TITLES.get(kind, kind.replace("_", " ").capitalize()),
        "opened": moment_ms(alert["opened_at"]),
        "detail": alert["detail"],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    if value is None:
        return None
    return round(value, digits) if digits else round(value)
