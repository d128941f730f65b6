"""The config file of one vehicle's agent, as an installer would write it.

At ``--speed N`` the route is covered N times as fast, so what the agent measures against
the road is told so: the highest plausible speed and braking, and the dwell times of the
mode table. Sampling rates stay as they are, in real time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from simulator.demo.signals import MappedSignal, SignalMap
from simulator.toml_text import toml_text

MAX_SPEED_KMH: Final = 400.0
HARSH_MPS2: Final = {"harsh_braking_mps2": 4.0, "harsh_acceleration_mps2": 3.0}
DRAIN_S: Final = 180.0
"""Longer than the publisher's longest back-off: after an outage everything arrives."""

DWELLS_S: Final = {
    "trip_enter_dwell_s": 5.0,
    "trip_leave_dwell_s": 120.0,
    "trip_blind_dwell_s": 600.0,
    "parked_dwell_s": 60.0,
    "battery_dwell_s": 10.0,
}
"""The agent's defaults, at speed 1."""


@dataclass(frozen=True, slots=True)
class CanBus:
    """A bus on this machine, and what to read from it."""

    interface: str
    channel: str
    options: Mapping[str, int]
    fd: bool
    dbcs: tuple[Path, ...]
    signals: SignalMap


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What differs from vehicle to vehicle."""

    vehicle_id: str
    state_dir: Path
    runtime_dir: Path
    gpsd_port: int | None
    broker_port: int
    speed: float
    can: CanBus | None = field(default=None)


def config_text(config: AgentConfig) -> str:
    """The TOML file. Certificates are named relative to it."""
    return "# Written by milepost-sim demo for one run.\n\n" + toml_text(_tables(config))


def _tables(config: AgentConfig) -> dict[str, Any]:
    gps: dict[str, Any] = {"source": "none"}
    if config.gpsd_port is not None:
        gps = {"source": "gpsd", "host": "127.0.0.1", "port": config.gpsd_port}
    dwells = {name: round(dwell_s / config.speed, 3) for name, dwell_s in DWELLS_S.items()}
    return {
        "vehicle": {"id": config.vehicle_id},
        "state": {"dir": str(config.state_dir), "runtime_dir": str(config.runtime_dir)},
        "gps": gps,
        "position": {"max_speed_kmh": MAX_SPEED_KMH * config.speed},
        "sampling": {
            "thresholds": dwells
            | {name: mps2 * max(1.0, config.speed) for name, mps2 in HARSH_MPS2.items()}
        },
        # this machine has a clock, whether or not its kernel says that NTP minds it
        "delivery": {"shutdown_drain_s": DRAIN_S, "hold_unsynced_s": 0},
        "broker": {
            "host": "127.0.0.1",
            "port": config.broker_port,
            "ca_file": "ca.pem",
            "certificate_file": "certificate.pem",
            "key_file": "key.pem",
        },
        "can": [] if config.can is None else [_can_table(config.can)],
    }


def _can_table(bus: CanBus) -> dict[str, Any]:
    return {
        "interface": bus.interface,
        "channel": bus.channel,
        "fd": bus.fd,
        "dbc": [str(path.absolute()) for path in bus.dbcs],
        "options": bus.options,
        "signals": {name: _signal(entry) for name, entry in bus.signals.items()},
    }


def _signal(entry: MappedSignal) -> str | dict[str, str | float]:
    if entry.scale == 1 and not entry.valid_if:
        return entry.signal
    table: dict[str, str | float] = {"signal": entry.signal, "scale": entry.scale}
    return table | ({"valid_if": entry.valid_if} if entry.valid_if else {})
