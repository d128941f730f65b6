"""The config file of one vehicle's agent, as an installer would write it.

At ``--speed N`` the route is covered N times as fast, so what the agent measures against
the road is told so: the highest plausible speed and braking, and the dwell times of the
mode table. Sampling rates stay as they are, in real time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from simulator.demo.signals import MappedSignal, SignalMap

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
    gps: dict[str, Any] = {"source": "none"}
    if config.gpsd_port is not None:
        gps = {"source": "gpsd", "host": "127.0.0.1", "port": config.gpsd_port}
    sections: list[tuple[str, Mapping[str, Any]]] = [
        ("[vehicle]", {"id": config.vehicle_id}),
        ("[state]", {"dir": str(config.state_dir), "runtime_dir": str(config.runtime_dir)}),
        ("[gps]", gps),
        ("[position]", {"max_speed_kmh": MAX_SPEED_KMH * config.speed}),
        (
            "[sampling.thresholds]",
            {name: round(dwell_s / config.speed, 3) for name, dwell_s in DWELLS_S.items()}
            | {name: mps2 * max(1.0, config.speed) for name, mps2 in HARSH_MPS2.items()},
        ),
        # this machine has a clock, whether or not its kernel says that NTP minds it
        ("[delivery]", {"shutdown_drain_s": DRAIN_S, "hold_unsynced_s": 0}),
        (
            "[broker]",
            {
                "host": "127.0.0.1",
                "port": config.broker_port,
                "ca_file": "ca.pem",
                "certificate_file": "certificate.pem",
                "key_file": "key.pem",
            },
        ),
    ]
    if config.can is not None:
        sections += _can_sections(config.can)
    lines = ["# Written by milepost-sim demo for one run."]
    for header, values in sections:
        lines += [
            "",
            header,
            *(f"{_key(name)} = {_value(value)}" for name, value in values.items()),
        ]
    return "\n".join(lines) + "\n"


def _can_sections(bus: CanBus) -> list[tuple[str, Mapping[str, Any]]]:
    signals = {name: _signal(entry) for name, entry in bus.signals.items()}
    return [
        (
            "[[can]]",
            {
                "interface": bus.interface,
                "channel": bus.channel,
                "fd": bus.fd,
                "dbc": [str(path.absolute()) for path in bus.dbcs],
            },
        ),
        ("[can.options]", bus.options),
        ("[can.signals]", signals),
    ]


def _signal(entry: MappedSignal) -> str | dict[str, str | float]:
    if entry.scale == 1 and not entry.valid_if:
        return entry.signal
    table: dict[str, str | float] = {"signal": entry.signal, "scale": entry.scale}
    return table | ({"valid_if": entry.valid_if} if entry.valid_if else {})


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else _text(name)


def _text(text: str) -> str:
    # a JSON string is a TOML basic string, but for DEL
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items())
        return f"{{ {inner} }}"
    return repr(value)
