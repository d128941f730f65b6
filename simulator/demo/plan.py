"""Which vehicles there are, from which logs; decided before anything starts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from simulator.can_log import CanLog
from simulator.demo.errors import DemoError
from simulator.demo.signals import BUILT_IN, SignalMap, is_synthetic, map_for
from simulator.trace import Trace, read_trace

BUILT_IN_ID: Final = "demo-van"
DBC: Final = "milepost-demo.dbc"
MAX_ID: Final = 64
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class VehiclePlan:
    """One vehicle: who it is and what it replays; at least one of ``trace`` and ``can``."""

    vehicle_id: str
    trace: Trace | None = None
    can: Path | None = None
    dbcs: tuple[Path, ...] = ()
    signals: SignalMap = field(default_factory=dict)
    can_fd: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The fleet, and the files that tell the cloud of it."""

    vehicles: tuple[VehiclePlan, ...]
    fleet: Path | None = None
    areas: Path | None = None
    can_is_optional: bool = False
    """On a machine where no bus can be had, drive without; nobody asked for it."""


def built_in_file(name: str) -> Path:
    """A file of the built-in drive, wherever the package lies."""
    return Path(str(resources.files("simulator"))) / "traces" / name


def built_in_plan() -> Plan:
    """The default drive with its CAN bus, its fleet register and its areas."""
    vehicle = VehiclePlan(
        vehicle_id=BUILT_IN_ID,
        trace=read_trace(built_in_file("default.nmea")),
        can=built_in_file("default.candump"),
        dbcs=(built_in_file(DBC),),
        signals=BUILT_IN,
    )
    return Plan(
        (vehicle,),
        fleet=built_in_file("default-fleet.toml"),
        areas=built_in_file("default-areas.geojson"),
        can_is_optional=True,
    )


def plan_of(
    traces: Sequence[Path],
    cans: Sequence[Path],
    dbcs: Sequence[Path],
    signals: SignalMap,
) -> Plan:
    """One vehicle a trace; the first CAN log belongs to the first of them, and so on.

    CAN logs beyond the traces are vehicles without a GPS receiver. A CAN log of
    ``milepost-sim synth`` needs neither DBC nor map.

    Raises:
        TraceError: a trace cannot be used.
        DemoError: a DBC cannot be used.
        CanLogError: a CAN log cannot be used.
    """
    count = max(len(traces), len(cans))
    names = unique_ids([(traces[i] if i < len(traces) else cans[i]).stem for i in range(count)])
    vehicles = []
    for index, vehicle_id in enumerate(names):
        trace = read_trace(traces[index]) if index < len(traces) else None
        if trace is not None and trace.counts.fixes == 0 and index >= len(cans):
            raise DemoError(
                f"{traces[index]} holds no fix: there is nothing to drive",
                hint="choose a log in which the receiver had a position",
            )
        can = cans[index] if index < len(cans) else None
        vehicles.append(
            VehiclePlan(vehicle_id=vehicle_id, trace=trace)
            if can is None
            else _with_can(vehicle_id, trace, can, tuple(dbcs), signals)
        )
    return Plan(tuple(vehicles))


def _with_can(
    vehicle_id: str,
    trace: Trace | None,
    can: Path,
    dbcs: tuple[Path, ...],
    signals: SignalMap,
) -> VehiclePlan:
    made_here = is_synthetic(can)
    if made_here:
        dbcs = (built_in_file(DBC),)
    wanted = {**BUILT_IN, **signals} if made_here else map_for(can, dbcs, signals)
    fd = CanLog(can).survey().fd_frames > 0
    return VehiclePlan(
        vehicle_id=vehicle_id, trace=trace, can=can, dbcs=dbcs, signals=wanted, can_fd=fd
    )


def unique_ids(names: Sequence[str]) -> list[str]:
    """Each name in characters that are safe in a topic and a path, no two the same."""
    ids: list[str] = []
    for name in names:
        base = _UNSAFE.sub("-", name).strip("-")[:MAX_ID] or "vehicle"
        candidate, number = base, 1
        while candidate in ids:
            number += 1
            candidate = f"{base}-{number}"
        ids.append(candidate)
    return ids


def write_fleet(path: Path, vehicles: Sequence[VehiclePlan]) -> None:
    """The cloud's register for vehicles that have none: a name from the file's name."""
    lines = ["# Written by milepost-sim demo."]
    for vehicle in vehicles:
        name = vehicle.vehicle_id.replace("_", " ").replace("-", " ").strip().capitalize()
        lines += [
            "",
            f'[vehicles."{vehicle.vehicle_id}"]',
            'type = "recorded"',
            f"name = {json.dumps(name or vehicle.vehicle_id)}",
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
