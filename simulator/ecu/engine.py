"""What a diesel van does, moment by moment: from the built-in drive, or held still."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

IDLE_RPM: Final = 820.0
KMH_PER_1000_RPM: Final = (8.0, 15.0, 24.0, 34.0, 45.0)
"""Per gear."""

SHIFT_UP_RPM: Final = 2_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """What the ECUs measure at one moment."""

    ignition: bool = True
    speed_kmh: float = 0.0
    rpm: float = IDLE_RPM
    load_percent: float = 18.0
    coolant_degc: float = 88.0
    fuel_percent: float = 62.0
    supply_volts: float = 14.1
    odometer_km: float = 2458.0
    engine_hours: float = 1234.5


EngineAt = Callable[[float], EngineState]
"""The state so many seconds after the start."""


def held(state: EngineState) -> EngineAt:
    """The same state at all times."""
    return lambda _elapsed_s: state


def rpm_at(speed_kmh: float) -> float:
    """The engine speed in the gear that a driver would have chosen."""
    for kmh_per_1000 in KMH_PER_1000_RPM:
        rpm = speed_kmh / kmh_per_1000 * 1000
        if rpm < SHIFT_UP_RPM:
            break
    return max(IDLE_RPM, rpm)


def driven(*, seed: int = 1, speed: float = 1.0, loop: bool = False) -> EngineAt:
    """The drive of ``milepost-sim synth``, with a diesel engine in place of the motor."""
    import random  # noqa: PLC0415  likewise

    from simulator.synth.frankfurt import WAY_POINTS  # noqa: PLC0415  a held state needs none
    from simulator.synth.route import Route  # noqa: PLC0415  likewise
    from simulator.synth.schedule import Schedule  # noqa: PLC0415  likewise
    from simulator.synth.vehicle import simulate  # noqa: PLC0415  likewise

    route = Route(WAY_POINTS)
    schedule = Schedule(
        route,
        random.Random(f"{seed}/schedule"),  # noqa: S311  noise, nothing secret
        parked_before_s=15.0,
        parked_after_s=140.0,
        stop_s=(7.0, 18.0),
    )
    states = simulate(route, schedule, battery_percent=60.0, odometer_km=2458.0, step_s=0.5)
    times_s = [state.time_s for state in states]
    duration_s = times_s[-1]

    def at(elapsed_s: float) -> EngineState:
        time_s = elapsed_s * speed
        time_s = time_s % duration_s if loop else min(time_s, duration_s)
        seen = states[bisect.bisect_right(times_s, time_s) - 1]
        running = seen.in_use
        return EngineState(
            ignition=running,
            speed_kmh=seen.speed_kmh,
            rpm=rpm_at(seen.speed_kmh) if running else 0.0,
            load_percent=min(100.0, 15 + 0.8 * seen.accelerator_percent) if running else 0.0,
            coolant_degc=min(88.0, 9.0 + time_s * 0.12),
            fuel_percent=max(0.0, 62.0 - (seen.odometer_km - 2458.0) * 0.12),
            supply_volts=14.1 if running else 12.6,
            odometer_km=seen.odometer_km,
            engine_hours=1234.5 + time_s / 3600,
        )

    return at
