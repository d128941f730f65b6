"""What the vehicle's own electronics measure: battery, motor, body.

A light electric van of 900 kg with a 48 V traction battery (16 lithium iron phosphate
cells in series, 130 Ah). Forces after the usual road-load equation: rolling, air, inertia.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulator.synth.route import Route
from simulator.synth.schedule import Schedule

MASS_KG: Final = 900.0
ROLLING_COEFFICIENT: Final = 0.012
AIR_DRAG_AREA_M2: Final = 1.1
AIR_KG_PER_M3: Final = 1.2
GRAVITY_MPS2: Final = 9.81
DRIVE_EFFICIENCY: Final = 0.84
BRAKE_RECOVERY: Final = 0.45
STANDBY_W: Final = 18.0
IN_USE_W: Final = 620.0
"""Heater, lights and computers of a van in use in March."""

CAPACITY_AH: Final = 130.0
CELLS: Final = 16
INNER_OHM: Final = 0.010
CHARGER_A: Final = -150.0
HEAT_J_PER_K: Final = 42_000.0
COOLING_W_PER_K: Final = 6.0
AIR_DEGC: Final = 7.0

GEAR_RATIO: Final = 9.3
WHEEL_RADIUS_M: Final = 0.28
PEDAL_FULL_MPS2: Final = 2.4

IGNITION_BEFORE_DEPARTURE_S: Final = 6.0
UNLOCK_BEFORE_DEPARTURE_S: Final = 11.0
IGNITION_AFTER_ARRIVAL_S: Final = 4.0
LOCK_AFTER_ARRIVAL_S: Final = 14.0
PLUG_IN_AFTER_ARRIVAL_S: Final = 24.0

OPEN_CELL_V: Final = (
    (0.0, 2.80),
    (5.0, 3.08),
    (10.0, 3.17),
    (20.0, 3.235),
    (40.0, 3.285),
    (70.0, 3.325),
    (90.0, 3.345),
    (100.0, 3.42),
)
"""State of charge in per cent, resting cell voltage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleState:
    """What the CAN bus carries, at one moment."""

    time_s: float
    speed_kmh: float
    motor_rpm: float
    motor_torque_nm: float
    accelerator_percent: float
    braking: bool
    acceleration_x_mps2: float
    acceleration_y_mps2: float
    battery_percent: float
    battery_voltage: float
    battery_current_a: float
    battery_temperature_degc: float
    charging: bool
    in_use: bool
    locked: bool
    odometer_km: float
    cabin_degc: float


def simulate(
    route: Route,
    schedule: Schedule,
    *,
    battery_percent: float,
    odometer_km: float,
    step_s: float = 0.1,
) -> list[VehicleState]:
    """The whole drive, one state every ``step_s`` from time 0."""
    states = []
    charge_ah = CAPACITY_AH * battery_percent / 100
    pack_degc, cabin_degc = 16.0, 9.0
    for step in range(int(schedule.duration_s / step_s) + 1):
        time_s = step * step_s
        motion = schedule.at(time_s)
        in_use = (
            schedule.departure_s - IGNITION_BEFORE_DEPARTURE_S
            <= time_s
            < schedule.arrival_s + IGNITION_AFTER_ARRIVAL_S
        )
        charging = time_s >= schedule.arrival_s + PLUG_IN_AFTER_ARRIVAL_S
        force_n = _force_n(motion.speed_mps, motion.acceleration_mps2)
        percent = 100 * charge_ah / CAPACITY_AH
        open_v = CELLS * _open_cell_v(percent)
        current_a = (
            CHARGER_A
            if charging
            else _current_a(_electric_w(force_n * motion.speed_mps, in_use=in_use), open_v)
        )
        charge_ah = min(CAPACITY_AH, max(0.0, charge_ah - current_a * step_s / 3600))
        heat_w = current_a**2 * INNER_OHM - (pack_degc - AIR_DEGC) * COOLING_W_PER_K
        pack_degc += heat_w * step_s / HEAT_J_PER_K
        cabin_degc += ((20.0 if in_use else AIR_DEGC) - cabin_degc) * step_s / 420
        wheel_rad_s = motion.speed_mps / WHEEL_RADIUS_M
        states.append(
            VehicleState(
                time_s=time_s,
                speed_kmh=motion.speed_mps * 3.6,
                motor_rpm=wheel_rad_s * GEAR_RATIO * 60 / 6.283185307,
                motor_torque_nm=force_n * WHEEL_RADIUS_M / GEAR_RATIO if in_use else 0.0,
                accelerator_percent=_pedal_percent(motion.speed_mps, force_n),
                braking=motion.speed_mps > 0.05 and motion.acceleration_mps2 < -0.4,
                acceleration_x_mps2=motion.acceleration_mps2,
                acceleration_y_mps2=motion.speed_mps**2 * route.curvature(motion.distance_m),
                battery_percent=percent,
                battery_voltage=open_v - current_a * INNER_OHM,
                battery_current_a=current_a,
                battery_temperature_degc=pack_degc,
                charging=charging,
                in_use=in_use,
                locked=_locked(schedule, time_s),
                odometer_km=odometer_km + motion.distance_m / 1000,
                cabin_degc=cabin_degc,
            )
        )
    return states


def _locked(schedule: Schedule, time_s: float) -> bool:
    return (
        time_s < schedule.departure_s - UNLOCK_BEFORE_DEPARTURE_S
        or time_s >= schedule.arrival_s + LOCK_AFTER_ARRIVAL_S
    )


def _force_n(speed_mps: float, acceleration_mps2: float) -> float:
    if speed_mps < 0.02:
        return 0.0
    rolling_n = MASS_KG * GRAVITY_MPS2 * ROLLING_COEFFICIENT
    air_n = 0.5 * AIR_KG_PER_M3 * AIR_DRAG_AREA_M2 * speed_mps**2
    return rolling_n + air_n + MASS_KG * acceleration_mps2


def _electric_w(wheel_w: float, *, in_use: bool) -> float:
    drive_w = wheel_w / DRIVE_EFFICIENCY if wheel_w >= 0 else wheel_w * BRAKE_RECOVERY
    return drive_w + (IN_USE_W if in_use else STANDBY_W)


def _current_a(power_w: float, open_v: float) -> float:
    """The current that gives ``power_w`` at the terminals, inner resistance counted."""
    root = max(0.0, open_v**2 - 4 * INNER_OHM * power_w)
    return float((open_v - root**0.5) / (2 * INNER_OHM))


def _open_cell_v(percent: float) -> float:
    (low, low_v), *rest = OPEN_CELL_V
    for high, high_v in rest:
        if percent <= high:
            return low_v + (high_v - low_v) * (percent - low) / (high - low)
        low, low_v = high, high_v
    return low_v


def _pedal_percent(speed_mps: float, force_n: float) -> float:
    if speed_mps < 0.02:
        return 0.0
    return min(100.0, max(0.0, 100 * force_n / (MASS_KG * PEDAL_FULL_MPS2)))
