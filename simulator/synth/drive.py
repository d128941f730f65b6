"""One synthetic drive as the two logs that a replay takes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final

from simulator.synth.can_log import candump_lines
from simulator.synth.frankfurt import ROUTES
from simulator.synth.models import MODELS
from simulator.synth.nmea_log import sentences
from simulator.synth.profiles import BUILT_IN, profile_path
from simulator.synth.receiver import receive
from simulator.synth.route import Route
from simulator.synth.schedule import Schedule
from simulator.synth.vehicle import VehicleState, simulate
from simulator.synth.vehicle_file import VehicleProfile, load_profile

DEFAULT_START: Final = datetime(2025, 3, 4, 8, 0, tzinfo=UTC)
RATES_HZ: Final = (1, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveOptions:
    """What can be chosen; the same options always give the same bytes."""

    seed: int = 1
    rate_hz: int = 1
    start: datetime = DEFAULT_START
    battery_percent: float = 23.5
    odometer_km: float = 2458.0
    parked_before_s: float = 15.0
    parked_after_s: float = 140.0
    stop_s: tuple[float, float] = (7.0, 18.0)
    route: str = "frankfurt"

    def words(self) -> str:
        """The options as they are written on the command line, defaults written out."""
        route = "" if self.route == "frankfurt" else f" --route {self.route}"
        return (
            f"--seed {self.seed} --rate {self.rate_hz}"
            f" --start {self.start:%Y-%m-%dT%H:%M:%SZ} --battery {self.battery_percent:g}{route}"
        )


@dataclass(frozen=True, slots=True)
class Drive:
    """The two logs (empty for what the vehicle has not), and what a person wants to know."""

    nmea: str
    candump: str
    duration_s: float
    length_km: float
    lowest_battery_percent: float
    states: Sequence[VehicleState]
    """What the vehicle truly did, moment by moment."""


@cache
def built_in_profile() -> VehicleProfile:
    """The vehicle of the built-in drive."""
    return load_profile(profile_path(BUILT_IN))


def synthesise(
    options: DriveOptions | None = None, vehicle: VehicleProfile | None = None, *, chosen: str = ""
) -> Drive:
    """Make a drive. Every stage draws from its own stream of the one seed.

    ``vehicle`` is the built-in one unless given; ``chosen`` says how it was chosen on the
    command line, e.g. ``--vehicle e-bike``, for the logs' headers.

    Raises:
        ValueError: a rate that NMEA receivers of this kind do not have, an unknown route.
        FileError: a DBC of the vehicle cannot be read, or lacks what its map names.
    """
    options = options or DriveOptions()
    if options.rate_hz not in RATES_HZ:
        raise ValueError(f"rate {options.rate_hz} Hz; the synthesiser knows 1 and 5")
    if options.route not in ROUTES:
        raise ValueError(f"route {options.route!r}; there are {', '.join(ROUTES)}")
    built_in = vehicle is None
    vehicle = vehicle or built_in_profile()
    model = MODELS[vehicle.model]
    route = Route(ROUTES[options.route])
    schedule = Schedule(
        route,
        _stream(options.seed, "schedule"),
        parked_before_s=options.parked_before_s,
        parked_after_s=options.parked_after_s,
        stop_s=options.stop_s,
        top_speed_kmh=model.top_speed_kmh,
    )
    states = simulate(
        route,
        schedule,
        battery_percent=options.battery_percent,
        odometer_km=options.odometer_km,
        model=model,
    )
    epochs = receive(
        route,
        schedule,
        _stream(options.seed, "receiver"),
        start=options.start,
        rate_hz=options.rate_hz,
    )
    words = options.words() if built_in else f"can {chosen} {options.words()}"
    nmea = candump = ""
    if vehicle.gps:
        nmea = _log("drive: GPS, NMEA 0183", words, sentences(epochs))
    if vehicle.bus:
        signals = ", ".join(dict.fromkeys(bus.dbc.name for bus in vehicle.bus))
        frames = candump_lines(
            states, vehicle.bus, _stream(options.seed, "can"), start=options.start
        )
        # the first words tell the demo that it knows this bus
        kind = "drive: CAN" if built_in else "bus"
        candump = _log(f"{kind}, candump -l; signals: {signals}", words, frames)
    return Drive(
        nmea=nmea,
        candump=candump,
        duration_s=schedule.duration_s,
        length_km=route.length_m / 1000,
        lowest_battery_percent=min(state.battery_percent for state in states),
        states=states,
    )


def _stream(seed: int, stage: str) -> random.Random:
    return random.Random(f"{seed}/{stage}")  # noqa: S311  noise, nothing secret


def _log(content: str, words: str, lines: Iterable[str]) -> str:
    header = (
        f"# Milepost synthetic {content}",
        f"# made by: milepost-sim synth {words}",
    )
    return "\n".join([*header, *lines]) + "\n"
