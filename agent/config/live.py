"""Which keys may be changed while the agent runs, by the vehicle's shadow.

The one list of them. What is left out is left out on purpose: who the vehicle is, where it
connects to and keeps its state, and its sources cannot be changed from afar, because a
mistake there would need somebody at the vehicle; the rest is read at the start only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.config.load import AgentSettings

LIVE: Final[frozenset[str]] = frozenset(
    {
        "sampling.in_trip.interval_s",
        "sampling.normal.interval_s",
        "sampling.idle.interval_s",
        "sampling.saver.interval_s",
        "sampling.thresholds.trip_enter_speed_kmh",
        "sampling.thresholds.trip_enter_dwell_s",
        "sampling.thresholds.trip_leave_speed_kmh",
        "sampling.thresholds.trip_leave_dwell_s",
        "sampling.thresholds.trip_blind_dwell_s",
        "sampling.thresholds.parked_dwell_s",
        "sampling.thresholds.idle_enter_battery_percent",
        "sampling.thresholds.idle_leave_battery_percent",
        "sampling.thresholds.idle_when_battery_unknown",
        "sampling.thresholds.saver_enter_battery_percent",
        "sampling.thresholds.saver_leave_battery_percent",
        "sampling.thresholds.battery_dwell_s",
        "sampling.thresholds.battery_low_percent",
        "sampling.thresholds.battery_recovered_percent",
        "sampling.thresholds.harsh_braking_mps2",
        "sampling.thresholds.harsh_acceleration_mps2",
        "outbox.flush_interval_s",
        "outbox.max_mb",
        "outbox.max_age_days",
        "delivery.batch_s",
        "delivery.max_publishes_per_s",
        "delivery.max_bytes_per_s",
        "budget.data_mb_per_day",
        "budget.flash_mb_per_day",
        "budget.near_percent",
        "budget.trickle_s",
    }
)

LEAST: Final[Mapping[str, float]] = {"delivery.max_publishes_per_s": 1.0}
"""Lower bounds beside the key's own: less, and the vehicle could hardly be told otherwise."""

LIVE_SECTIONS: Final[frozenset[str]] = frozenset(key.partition(".")[0] for key in LIVE)


def live_values(settings: AgentSettings) -> dict[str, Any]:
    """The values of all live keys, as JSON, nested by section."""
    return _chosen(settings.model_dump(mode="json", include=set(LIVE_SECTIONS)), "")


def is_part_of_live(path: str) -> bool:
    """Whether a live key lies below this dotted path."""
    return any(key.startswith(f"{path}.") for key in LIVE)


def _chosen(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in LIVE:
            chosen[name] = value
        elif is_part_of_live(key):
            chosen[name] = _chosen(value, f"{key}.")
    return chosen
