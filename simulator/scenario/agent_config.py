"""The preset's config, made fit for this desk: what ``milepost-agent init`` wrote, read back."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.demo.bus import BusAddress
from simulator.errors import FileError
from simulator.toml_text import toml_text

Json = dict[str, Any]

DRAIN_S: Final = 60.0
ON_A_BUS: Final = ("can", "obd", "j1939")
"""Sections of the agent's config that name a channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the vehicle has here in place of its hardware."""

    state_dir: Path
    runtime_dir: Path
    gps: Mapping[str, Any]
    """The section of the agent's config that says where its receiver is."""
    broker_port: int
    buses: Mapping[str, BusAddress]
    """By the channel's name on the vehicle."""
    has_clock: bool


def adapt(config: Path, here: Surroundings, over: Mapping[str, Any]) -> None:
    """Rewrite the config for this desk, with the scenario's own keys over it.

    Raises:
        FileError: it reads a bus that the simulator's vehicle has not.
    """
    table = tomllib.loads(config.read_text(encoding="utf-8"))
    table = merged(merged(table, _desk(here)), over)
    for name in ON_A_BUS:
        for section in table.get(name, ()):
            section.update(_bus(section.get("channel", "can0"), here))
    config.write_text(toml_text(table), encoding="utf-8")


def merged(table: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """``over`` laid on ``table``, tables key by key."""
    result = dict(table)
    for key, value in over.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def _desk(here: Surroundings) -> Json:
    delivery: Json = {"shutdown_drain_s": DRAIN_S}
    if here.has_clock:
        # whether or not this machine's kernel says that NTP minds it
        delivery["hold_unsynced_s"] = 0
    return {
        "state": {"dir": str(here.state_dir), "runtime_dir": str(here.runtime_dir)},
        "gps": here.gps,
        "delivery": delivery,
        "broker": {
            "port": here.broker_port,
            "ca_file": "ca.pem",
            "certificate_file": "certificate.pem",
            "key_file": "key.pem",
        },
    }


def _bus(channel: str, here: Surroundings) -> Json:
    address = here.buses.get(channel)
    if address is None:
        raise FileError(
            f"the preset reads {channel}, and the simulator's vehicle has no such bus",
            hint="give vehicle.profile a [[bus]] of that channel",
        )
    return {
        "interface": address.interface,
        "channel": address.channel,
        "options": dict(address.options),
    }
