"""A combustion engine beside the road load: speed, load, fuel, coolant.

Not a simulation of combustion: what a diagnostics socket tells should hang together, so
that rpm follows the road speed through a gear, fuel follows work, coolant warms up.
"""

from __future__ import annotations

import math
from typing import Final

from simulator.synth.models import Engine

WARM_DEGC: Final = 88.0
WARM_UP_S: Final = 260.0
COOL_DOWN_S: Final = 5_400.0


class EngineRoom:
    """Steps with the drive; the properties are those of the last step."""

    def __init__(self, engine: Engine, *, fuel_percent: float, air_degc: float) -> None:
        self._engine = engine
        self._fuel_l = engine.tank_litres * fuel_percent / 100
        self._air_degc = air_degc
        self.coolant_degc = air_degc
        self.rpm = 0.0
        self.load_percent = 0.0
        self.fuel_l_per_h = 0.0

    @property
    def fuel_percent(self) -> float:
        """Of the tank."""
        return 100 * self._fuel_l / self._engine.tank_litres

    def step(self, step_s: float, *, running: bool, wheel_rad_s: float, power_w: float) -> None:
        """Go on by ``step_s`` with the power that the wheels and the alternator take."""
        engine = self._engine
        target_degc = WARM_DEGC if running else self._air_degc
        pace_s = WARM_UP_S if running else COOL_DOWN_S
        self.coolant_degc += (target_degc - self.coolant_degc) * step_s / pace_s
        if not running:
            self.rpm = self.load_percent = self.fuel_l_per_h = 0.0
            return
        self.rpm = max(engine.idle_rpm, self._geared_rpm(wheel_rad_s))
        work_w = max(0.0, power_w)
        self.load_percent = min(100.0, 100 * work_w / engine.full_power_w)
        burnt_l_per_h = work_w / engine.efficiency / engine.fuel_wh_per_litre
        self.fuel_l_per_h = max(engine.idle_fuel_l_per_h, burnt_l_per_h)
        self._fuel_l = max(0.0, self._fuel_l - self.fuel_l_per_h * step_s / 3600)

    def _geared_rpm(self, wheel_rad_s: float) -> float:
        """In the lowest gear that keeps below the shift point, or in the highest there is."""
        axle_rpm = wheel_rad_s * 60 / math.tau
        in_gear = [axle_rpm * ratio for ratio in self._engine.ratios]
        return next((rpm for rpm in in_gear if rpm <= self._engine.shift_up_rpm), in_gear[-1])
