"""The vehicles that can be simulated: mass, battery and, where there is one, engine.

Figures are those of common vehicles of each class, rounded; none is a manufacturer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LFP_CELL_V: Final = (
    (0.0, 2.80),
    (5.0, 3.08),
    (10.0, 3.17),
    (20.0, 3.235),
    (40.0, 3.285),
    (70.0, 3.325),
    (90.0, 3.345),
    (100.0, 3.42),
)
"""State of charge in per cent, resting cell voltage: lithium iron phosphate."""

NMC_CELL_V: Final = (
    (0.0, 3.00),
    (5.0, 3.35),
    (10.0, 3.45),
    (20.0, 3.55),
    (40.0, 3.64),
    (60.0, 3.76),
    (80.0, 3.96),
    (100.0, 4.16),
)
"""The same for nickel manganese cobalt."""

LEAD_CELL_V: Final = ((0.0, 1.92), (20.0, 1.97), (40.0, 2.02), (60.0, 2.06), (100.0, 2.13))
"""The same for a lead-acid starter battery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A battery: the traction battery or, beside an engine, the starter battery.

    Charging currents are negative.
    """

    cells_in_series: int
    cell_v: tuple[tuple[float, float], ...]
    capacity_ah: float
    inner_ohm: float
    charger_a: float
    heat_j_per_k: float
    cooling_w_per_k: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A combustion engine with a gearbox; ``ratios`` are of the whole drive line."""

    ratios: tuple[float, ...]
    idle_rpm: float
    shift_up_rpm: float
    full_power_w: float
    efficiency: float
    fuel_wh_per_litre: float
    idle_fuel_l_per_h: float
    tank_litres: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleModel:
    """What the forces and the currents are computed from."""

    mass_kg: float
    rolling_coefficient: float
    air_drag_area_m2: float
    drive_efficiency: float
    brake_recovery: float
    standby_w: float
    in_use_w: float
    gear_ratio: float
    wheel_radius_m: float
    pedal_full_mps2: float
    top_speed_kmh: float
    pack: Pack
    engine: Engine | None = None


LIGHT_VAN: Final = VehicleModel(
    mass_kg=900.0,
    rolling_coefficient=0.012,
    air_drag_area_m2=1.1,
    drive_efficiency=0.84,
    brake_recovery=0.45,
    standby_w=18.0,
    in_use_w=620.0,  # heater, lights and computers of a van in use in March
    gear_ratio=9.3,
    wheel_radius_m=0.28,
    pedal_full_mps2=2.4,
    top_speed_kmh=90.0,
    pack=Pack(
        cells_in_series=16,
        cell_v=LFP_CELL_V,
        capacity_ah=130.0,
        inner_ohm=0.010,
        charger_a=-150.0,
        heat_j_per_k=42_000.0,
        cooling_w_per_k=6.0,
    ),
)
"""The vehicle of the built-in drive: a light electric van, 48 V, 130 Ah."""

MODELS: Final[dict[str, VehicleModel]] = {
    "light-van": LIGHT_VAN,
    "e-bike": VehicleModel(
        mass_kg=108.0,
        rolling_coefficient=0.008,
        air_drag_area_m2=0.55,
        drive_efficiency=0.78,
        brake_recovery=0.0,
        standby_w=0.6,
        in_use_w=7.0,
        gear_ratio=5.0,
        wheel_radius_m=0.33,
        pedal_full_mps2=1.8,
        top_speed_kmh=25.0,
        pack=Pack(
            cells_in_series=13,
            cell_v=NMC_CELL_V,
            capacity_ah=15.0,
            inner_ohm=0.080,
            charger_a=-4.0,
            heat_j_per_k=3_200.0,
            cooling_w_per_k=0.4,
        ),
    ),
    "electric-van": VehicleModel(
        mass_kg=2_600.0,
        rolling_coefficient=0.010,
        air_drag_area_m2=1.7,
        drive_efficiency=0.88,
        brake_recovery=0.60,
        standby_w=40.0,
        in_use_w=1_400.0,
        gear_ratio=10.5,
        wheel_radius_m=0.34,
        pedal_full_mps2=2.6,
        top_speed_kmh=130.0,
        pack=Pack(
            cells_in_series=96,
            cell_v=NMC_CELL_V,
            capacity_ah=145.0,
            inner_ohm=0.070,
            charger_a=-28.0,
            heat_j_per_k=290_000.0,
            cooling_w_per_k=40.0,
        ),
    ),
    "diesel-van": VehicleModel(
        mass_kg=2_500.0,
        rolling_coefficient=0.011,
        air_drag_area_m2=1.8,
        drive_efficiency=0.90,
        brake_recovery=0.0,
        standby_w=0.4,
        in_use_w=380.0,
        gear_ratio=0.0,
        wheel_radius_m=0.34,
        pedal_full_mps2=2.2,
        top_speed_kmh=150.0,
        pack=Pack(
            cells_in_series=6,
            cell_v=LEAD_CELL_V,
            capacity_ah=95.0,
            inner_ohm=0.006,
            charger_a=-18.0,
            heat_j_per_k=18_000.0,
            cooling_w_per_k=4.0,
        ),
        engine=Engine(
            ratios=(15.6, 8.2, 5.2, 3.7, 2.9, 2.4),
            idle_rpm=800.0,
            shift_up_rpm=2_300.0,
            full_power_w=96_000.0,
            efficiency=0.34,
            fuel_wh_per_litre=9_960.0,
            idle_fuel_l_per_h=0.7,
            tank_litres=70.0,
        ),
    ),
    "truck": VehicleModel(
        mass_kg=16_000.0,
        rolling_coefficient=0.007,
        air_drag_area_m2=5.6,
        drive_efficiency=0.92,
        brake_recovery=0.0,
        standby_w=4.0,
        in_use_w=900.0,
        gear_ratio=0.0,
        wheel_radius_m=0.50,
        pedal_full_mps2=1.6,
        top_speed_kmh=89.0,
        pack=Pack(
            cells_in_series=12,
            cell_v=LEAD_CELL_V,
            capacity_ah=180.0,
            inner_ohm=0.005,
            charger_a=-35.0,
            heat_j_per_k=70_000.0,
            cooling_w_per_k=8.0,
        ),
        engine=Engine(
            ratios=(38.0, 25.0, 17.0, 11.6, 7.9, 5.4, 3.7, 2.6),
            idle_rpm=600.0,
            shift_up_rpm=1_500.0,
            full_power_w=300_000.0,
            efficiency=0.41,
            fuel_wh_per_litre=9_960.0,
            idle_fuel_l_per_h=2.2,
            tank_litres=400.0,
        ),
    ),
}
"""By name, for ``--model``."""
