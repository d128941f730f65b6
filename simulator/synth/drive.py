"""One synthetic drive as the two logs that a replay takes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from simulator.synth.can_log import candump_lines
from simulator.synth.frankfurt import WAY_POINTS
from simulator.synth.nmea_log import sentences
from simulator.synth.receiver import receive
from simulator.synth.route import Route
from simulator.synth.schedule import Schedule
from simulator.synth.vehicle import simulate

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

    def command(self) -> str:
        """The command line that gives these bytes, defaults written out."""
        return (
            f"milepost-sim synth --seed {self.seed} --rate {self.rate_hz}"
            f" --start {self.start:%Y-%m-%dT%H:%M:%SZ} --battery {self.battery_percent:g}"
        )


@dataclass(frozen=True, slots=True)
class Drive:
    """The two logs, and what a person wants to know of them."""

    nmea: str
    candump: str
    duration_s: float
    length_km: float
    lowest_battery_percent: float


def synthesise(options: DriveOptions | None = None) -> Drive:
    """Make a drive. Every stage draws from its own stream of the one seed.

    Raises:
        ValueError: a rate that NMEA receivers of this kind do not have.
    """
    options = options or DriveOptions()
    if options.rate_hz not in RATES_HZ:
        raise ValueError(f"rate {options.rate_hz} Hz; the synthesiser knows 1 and 5")
    route = Route(WAY_POINTS)
    schedule = Schedule(
        route,
        _stream(options.seed, "schedule"),
        parked_before_s=options.parked_before_s,
        parked_after_s=options.parked_after_s,
        stop_s=options.stop_s,
    )
    states = simulate(
        route,
        schedule,
        battery_percent=options.battery_percent,
        odometer_km=options.odometer_km,
    )
    epochs = receive(
        route,
        schedule,
        _stream(options.seed, "receiver"),
        start=options.start,
        rate_hz=options.rate_hz,
    )
    frames = candump_lines(states, _stream(options.seed, "can"), start=options.start)
    return Drive(
        nmea=_log(options, "GPS, NMEA 0183", sentences(epochs)),
        candump=_log(options, "CAN, candump -l; signals: milepost-demo.dbc", frames),
        duration_s=schedule.duration_s,
        length_km=route.length_m / 1000,
        lowest_battery_percent=min(state.battery_percent for state in states),
    )


def _stream(seed: int, stage: str) -> random.Random:
    return random.Random(f"{seed}/{stage}")  # noqa: S311  noise, nothing secret


def _log(options: DriveOptions, content: str, lines: Iterable[str]) -> str:
    header = (
        f"# Milepost synthetic drive: {content}",
        f"# made by: {options.command()}",
    )
    return "\n".join([*header, *lines]) + "\n"
