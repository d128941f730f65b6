"""Alerts and positions in words and JSON, alike in every store."""

from __future__ import annotations

import json
from typing import Any, Final

from cloud.ports import Alert, AlertKind, Position
from contract.fields import format_timestamp

_TITLES: Final = {
    AlertKind.BATTERY_LOW: "battery low",
    AlertKind.OUTSIDE_OPERATING_AREA: "outside the operating area",
}


def wording(alert: Alert) -> str:
    """One line for people, e.g. ``van-1: battery low since 2025-01-15T14:32:18.123Z (12 %)``."""
    title = _TITLES[alert.kind]
    detail = f" ({alert.detail})" if alert.detail else ""
    opened = format_timestamp(alert.opened_at)
    if alert.resolved_at is None:
        return f"{alert.vehicle_id}: {title} since {opened}{detail}"
    resolved = format_timestamp(alert.resolved_at)
    return f"{alert.vehicle_id}: no longer {title}, from {opened} to {resolved}{detail}"


def alert_item(alert: Alert) -> dict[str, Any]:
    """An alert as JSON; absent is null."""
    return {
        "alert_id": alert.alert_id,
        "vehicle_id": alert.vehicle_id,
        "kind": alert.kind.value,
        "opened_at": format_timestamp(alert.opened_at),
        "resolved_at": None if alert.resolved_at is None else format_timestamp(alert.resolved_at),
        "detail": alert.detail,
    }


def position_item(position: Position) -> dict[str, Any]:
    """A position as JSON, flat; what is absent is left out."""
    location = position.location
    item = {
        "vehicle_id": position.vehicle_id,
        "timestamp": format_timestamp(position.timestamp),
        "run_id": position.run_id,
        "sequence": position.sequence,
        "lat": location.lat,
        "lon": location.lon,
        "altitude": location.altitude,
        "accuracy": location.accuracy,
        "fix_time": None if location.fix_time is None else format_timestamp(location.fix_time),
        "speed_kmh": position.speed_kmh,
        "heading": position.heading,
        "battery_percent": position.battery_percent,
        "charging": position.charging,
        "trip_id": position.trip_id,
    }
    return {key: value for key, value in item.items() if value is not None}


def position_json(position: Position) -> str:
    """``position_item`` as text."""
    return json.dumps(position_item(position), separators=(",", ":"))
