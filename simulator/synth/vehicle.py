"""What the vehicle's own electronics measure: battery, motor or engine, body.

Forces after the usual road-load equation: rolling, air, inertia. What a vehicle has not
(an engine's speed in an electric one) is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulator.synth.engine import EngineRoom
from simulator.synth.models import LIGHT_VAN, Pack, VehicleModel
from simulator.synth.route import Route
from simulator.synth.schedule import Schedule

AIR_KG_PER_M3: Final = 1.2
GRAVITY_MPS2: Final = 9.81
AIR_DEGC: Final = 7.0

IGNITION_BEFORE_DEPARTURE_S: Final = 6.0
UNLOCK_BEFORE_DEPARTURE_S: Final = 11.0
IGNITION_AFTER_ARRIVAL_S: Final = 4.0
LOCK_AFTER_ARRIVAL_S: Final = 14.0
PLUG_IN_AFTER_ARRIVAL_S: Final = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleState:
    """What a vehicle knows of itself, at one moment; units stand in the names.

    The names are the quantities that ``milepost-sim synth can`` maps to signals.
    """

    time_s: float
    lat: float
    lon: float
    heading_deg: float
    speed_kmh: float
    accelerator_percent: float
    braking: bool
    acceleration_x_mps2: float
    acceleration_y_mps2: float
    acceleration_z_mps2: float
    battery_percent: float
    battery_voltage: float
    battery_current_a: float
    """Positive discharges."""
    battery_temperature_degc: float
    charging: bool
    in_use: bool
    powered: bool
    """In use or charging."""
    locked: bool
    odometer_km: float
    cabin_degc: float
    motor_rpm: float | None = None
    motor_torque_nm: float | None = None
    engine_rpm: float | None = None
    engine_load_percent: float | None = None
    coolant_degc: float | None = None
    fuel_percent: float | None = None
    fuel_l_per_h: float | None = None


def simulate(
    route: Route,
    schedule: Schedule,
    *,
    battery_percent: float,
    odometer_km: float,
    model: VehicleModel = LIGHT_VAN,
    fuel_percent: float = 60.0,
    step_s: float = 0.1,
) -> list[VehicleState]:
    """The whole drive, one state every ``step_s`` from time 0."""
    states = []
    pack = model.pack
    room = None
    if model.engine is not None:
        room = EngineRoom(model.engine, fuel_percent=fuel_percent, air_degc=AIR_DEGC)
    charge_ah = pack.capacity_ah * battery_percent / 100
    pack_degc, cabin_degc = 16.0, 9.0
    for step in range(int(schedule.duration_s / step_s) + 1):
        time_s = step * step_s
        motion = schedule.at(time_s)
        place = route.place(motion.distance_m)
        in_use = (
            schedule.departure_s - IGNITION_BEFORE_DEPARTURE_S
            <= time_s
            < schedule.arrival_s + IGNITION_AFTER_ARRIVAL_S
        )
        # beside an engine the alternator charges, else the charger at home
        plugged_in = time_s >= schedule.arrival_s + PLUG_IN_AFTER_ARRIVAL_S
        charging = in_use if room is not None else plugged_in
        force_n = _force_n(model, motion.speed_mps, motion.acceleration_mps2)
        wheel_w = force_n * motion.speed_mps
        percent = 100 * charge_ah / pack.capacity_ah
        open_v = pack.cells_in_series * _open_cell_v(pack, percent)
        electric_w = _electric_w(model, wheel_w if room is None else 0.0, in_use=in_use)
        current_a = pack.charger_a if charging else _current_a(pack, electric_w, open_v)
        charge_ah = min(pack.capacity_ah, max(0.0, charge_ah - current_a * step_s / 3600))
        heat_w = current_a**2 * pack.inner_ohm - (pack_degc - AIR_DEGC) * pack.cooling_w_per_k
        pack_degc += heat_w * step_s / pack.heat_j_per_k
        cabin_degc += ((20.0 if in_use else AIR_DEGC) - cabin_degc) * step_s / 420
        wheel_rad_s = motion.speed_mps / model.wheel_radius_m
        drive_line: dict[str, float] = {}
        if room is None:
            torque_nm = force_n * model.wheel_radius_m / model.gear_ratio
            drive_line["motor_rpm"] = wheel_rad_s * model.gear_ratio * 60 / 6.283185307
            drive_line["motor_torque_nm"] = torque_nm if in_use else 0.0
        else:
            room.step(
                step_s,
                running=in_use,
                wheel_rad_s=wheel_rad_s,
                power_w=wheel_w / model.drive_efficiency + model.in_use_w,
            )
            drive_line["engine_rpm"] = room.rpm
            drive_line["engine_load_percent"] = room.load_percent
            drive_line["coolant_degc"] = room.coolant_degc
            drive_line["fuel_percent"] = room.fuel_percent
            drive_line["fuel_l_per_h"] = room.fuel_l_per_h
        states.append(
            VehicleState(
                time_s=time_s,
                lat=place.lat,
                lon=place.lon,
                heading_deg=place.heading_deg,
                speed_kmh=motion.speed_mps * 3.6,
                accelerator_percent=_pedal_percent(model, motion.speed_mps, force_n),
                braking=motion.speed_mps > 0.05 and motion.acceleration_mps2 < -0.4,
                acceleration_x_mps2=motion.acceleration_mps2,
                acceleration_y_mps2=motion.speed_mps**2 * route.curvature(motion.distance_m),
                acceleration_z_mps2=GRAVITY_MPS2,
                battery_percent=percent,
                battery_voltage=open_v - current_a * pack.inner_ohm,
                battery_current_a=current_a,
                battery_temperature_degc=pack_degc,
                charging=charging,
                in_use=in_use,
                powered=in_use or charging,
                locked=_locked(schedule, time_s),
                odometer_km=odometer_km + motion.distance_m / 1000,
                cabin_degc=cabin_degc,
                **drive_line,
            )
        )
    return states


def _locked(schedule: Schedule, time_s: float) -> bool:
    return (
        time_s < schedule.departure_s - UNLOCK_BEFORE_DEPARTURE_S
        or time_s >= schedule.arrival_s + LOCK_AFTER_ARRIVAL_S
    )


def _force_n(model: VehicleModel, speed_mps: float, acceleration_mps2: float) -> float:
    if speed_mps < 0.02:
        return 0.0
    rolling_n = model.mass_kg * GRAVITY_MPS2 * model.rolling_coefficient
    air_n = 0.5 * AIR_KG_PER_M3 * model.air_drag_area_m2 * speed_mps**2
    return rolling_n + air_n + model.mass_kg * acceleration_mps2


def _electric_w(model: VehicleModel, wheel_w: float, *, in_use: bool) -> float:
    drive_w = wheel_w / model.drive_efficiency if wheel_w >= 0 else wheel_w * model.brake_recovery
    return drive_w + (model.in_use_w if in_use else model.standby_w)


def _current_a(pack: Pack, power_w: float, open_v: float) -> float:
    """The current that gives ``power_w`` at the terminals, inner resistance counted."""
    root = max(0.0, open_v**2 - 4 * pack.inner_ohm * power_w)
    return float((open_v - root**0.5) / (2 * pack.inner_ohm))


def _open_cell_v(pack: Pack, percent: float) -> float:
    (low, low_v), *rest = pack.cell_v
    for high, high_v in rest:
        if percent <= high:
            return low_v + (high_v - low_v) * (percent - low) / (high - low)
        low, low_v = high, high_v
    return low_v


def _pedal_percent(model: VehicleModel, speed_mps: float, force_n: float) -> float:
    if speed_mps < 0.02:
        return 0.0
    return min(100.0, max(0.0, 100 * force_n / (model.mass_kg * model.pedal_full_mps2)))
