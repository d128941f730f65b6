"""What the vehicle of a scenario replays, and where it truly was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import FileError
from simulator.scenario.evidence import Truth
from simulator.scenario.model import Scenario, Vehicle
from simulator.synth.cyclic import load_dbc
from simulator.synth.drive import DriveOptions, synthesise
from simulator.synth.profiles import profile_path
from simulator.synth.vehicle import VehicleState
from simulator.synth.vehicle_file import VehicleProfile, load_profile
from simulator.trace import Trace, read_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The logs of one drive; ``states`` are empty for a recorded one."""

    nmea: Path | None
    """The log, for a receiver on a serial line."""
    trace: Trace | None
    can: Path | None
    profile: VehicleProfile
    truth: Truth
    duration_s: float
    states: Sequence[VehicleState] = ()

    def messages_of(self, channel: str) -> list[Any]:
        """What the DBCs of the vehicle describe on that bus."""
        return [
            message
            for bus in self.profile.bus
            if bus.channel == channel
            for message in load_dbc(bus.dbc).messages
        ]


def profile_of(vehicle: Vehicle) -> VehicleProfile:
    """The simulator's vehicle that goes with the preset, or the file that was named.

    Raises:
        FileError: there is none, or it is wrong.
    """
    return load_profile(vehicle.profile or profile_path(vehicle.preset))


def prepare(scenario: Scenario, folder: Path, *, seed: int | None = None) -> Replayed:
    """Make the drive's logs in ``folder``, or read the recorded ones.

    Raises:
        SimulatorError: a log or the vehicle's file cannot be used.
    """
    vehicle = scenario.vehicle
    profile = profile_of(vehicle)
    if vehicle.nmea is not None:
        return _recorded(vehicle.nmea, vehicle.can, profile)
    if vehicle.can is not None:
        raise FileError("vehicle.can needs vehicle.nmea", hint="a CAN log tells no position")
    wanted = vehicle.drive
    drive = synthesise(
        DriveOptions(
            seed=wanted.seed if seed is None else seed,
            rate_hz=wanted.rate_hz,
            route=wanted.route,
            battery_percent=profile.battery_percent,
            parked_before_s=wanted.parked_before_s,
            parked_after_s=wanted.parked_after_s,
        ),
        profile,
        chosen=f"--vehicle {vehicle.preset}",
    )
    nmea = trace = can = None
    if drive.nmea:
        nmea = folder / "drive.nmea"
        nmea.write_text(drive.nmea, encoding="ascii")
        trace = read_trace(nmea)
    if drive.candump:
        can = folder / "drive.candump"
        can.write_text(drive.candump, encoding="utf-8")
    return Replayed(
        nmea=nmea,
        trace=trace,
        can=can,
        profile=profile,
        truth=Truth(
            [state.time_s for state in drive.states],
            [(state.lat, state.lon) for state in drive.states],
        ),
        duration_s=drive.duration_s,
        states=drive.states,
    )


def _recorded(nmea: Path, can: Path | None, profile: VehicleProfile) -> Replayed:
    trace = read_trace(nmea)
    known = [
        (epoch.offset_s, (epoch.lat, epoch.lon))
        for epoch in trace.epochs
        if epoch.has_fix and epoch.lat is not None and epoch.lon is not None
    ]
    if not known:
        raise FileError(f"{nmea} holds no fix: there is nothing to drive", hint="take another log")
    return Replayed(
        nmea=nmea,
        trace=trace,
        can=can,
        profile=profile,
        truth=Truth([offset_s for offset_s, _ in known], [place for _, place in known]),
        duration_s=trace.duration_s,
    )
