"""What came of a run. Every figure is counted at its own end, so that a loss shows.

Created and acknowledged are the agents' figures (their last accounts), stored and
duplicated are a query of the cloud's history, replayed is the simulator's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.network.relay import RelayCounts

Json = dict[str, Any]

PERCENTILES: Final = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class VehicleEnd:
    """What the demo knows of one vehicle when its agent has ended."""

    vehicle_id: str
    fixes_replayed: int
    frames_sent: int
    account: Json


def build_report(ends: Sequence[VehicleEnd], cloud: Json) -> Json:
    """The report as the demo writes it."""
    by_id = {vehicle["vehicle_id"]: vehicle for vehicle in cloud["vehicles"]}
    latency = cloud["latency_ms"]
    return {
        "vehicles": [_vehicle(end, by_id.get(end.vehicle_id)) for end in ends],
        "latency_ms": {name: latency.get(name) for name in PERCENTILES},
        "alerts": cloud["alerts"],
        "archive_rows": cloud["archive_rows"],
        "dead_letters": cloud["dead_letters"],
    }


def _vehicle(end: VehicleEnd, stored: Json | None) -> Json:
    account = end.account
    run_id = account["run_id"]
    stored = stored or {}
    created = account["samples_created"]
    acknowledged = account["samples_acknowledged"]
    samples_stored = stored.get("samples_stored", 0)
    waiting = min(account.get("backlog_messages", 0), created - acknowledged)
    return {
        "vehicle_id": end.vehicle_id,
        "run_id": run_id,
        "fixes_replayed": end.fixes_replayed,
        "frames_sent": end.frames_sent,
        "samples_created": created,
        "samples_acknowledged": acknowledged,
        "samples_stored": samples_stored,
        "samples_waiting": waiting,
        "samples_lost": samples_lost(created, acknowledged, samples_stored, waiting),
        "samples_duplicated": stored.get("samples_duplicated", 0),
        "last_sequence": account["last_sequence"],
        "events_created": account["events_created"],
        "events_acknowledged": account["events_acknowledged"],
        "events_stored": stored.get("events_stored", 0),
        "bytes_published": account["bytes_published"],
        "bytes_received": stored.get("bytes_received", 0),
        "flash_bytes_written": account["flash_bytes_written"],
        "first_publish_s": account.get("first_publish_s"),
        "fixes_received": account.get("fixes_received"),
        "fixes_rejected": account.get("fixes_rejected", {}),
        "dropped_messages": account.get("dropped_messages", {}),
        "seconds_in_mode": account["seconds_in_mode"],
        "events": account["events"],
    }


def network_report(counts: RelayCounts) -> Json:
    """What the relay between vehicles and broker counted: TLS records, all vehicles."""
    return {
        "connections": counts.connections,
        "connections_refused": counts.refused,
        "bytes_to_broker": counts.bytes_to_target,
        "bytes_to_vehicles": counts.bytes_to_client,
        "bytes_swallowed": counts.bytes_swallowed,
    }


def samples_lost(created: int, acknowledged: int, stored: int, waiting: int) -> int:
    """Samples that are nowhere: neither in the cloud nor in the vehicle's outbox.

    Whichever is more: what is missing in the balance, or what was acknowledged and is not
    stored. The second shows a loss even where as many waiting samples had in fact arrived.
    """
    return max(0, created - stored - waiting, acknowledged - stored)


def total_lost(report: Json) -> int:
    """Samples lost, all vehicles."""
    return sum(vehicle["samples_lost"] for vehicle in report["vehicles"])


def total_waiting(report: Json) -> int:
    """Samples that still wait in an outbox, all vehicles."""
    return sum(vehicle["samples_waiting"] for vehicle in report["vehicles"])


def messages_missing(ends: Sequence[VehicleEnd], cloud: Json) -> int:
    """Acknowledged samples and events that the cloud's history does not show yet."""
    by_id = {vehicle["vehicle_id"]: vehicle for vehicle in cloud["vehicles"]}
    missing = 0
    for end in ends:
        run = by_id.get(end.vehicle_id, {}).get("runs", {}).get(end.account["run_id"], {})
        acknowledged = end.account["samples_acknowledged"] + end.account["events_acknowledged"]
        missing += max(0, acknowledged - run.get("stored", 0))
    return missing


def write_json(path: Path, report: Json) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
