"""Vehicle states as a candump log, encoded by the vehicle's DBC.

Each message has its own period and a phase of its own, so that frames do not fall on the
same instant, and every frame is up to a millisecond late, as on a real bus.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final

from simulator.synth.vehicle import VehicleState

CHANNEL: Final = "can0"
LAST_SERVICE_KM: Final = 2100.0
GRAVITY_MPS2: Final = 9.81
LATEST_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Cyclic:
    """A message that is sent every ``period_s``, first at ``phase_s``."""

    name: str
    period_s: float
    phase_s: float
    signals: Callable[[VehicleState], dict[str, float]]


MESSAGES: Final = (
    Cyclic(
        "DriveState",
        0.2,
        0.003,
        lambda state: {
            "VehicleSpeed": state.speed_kmh,
            "MotorSpeed": state.motor_rpm,
            "MotorTorque": state.motor_torque_nm,
            "AcceleratorPedal": state.accelerator_percent,
            "BrakePedal": state.braking,
            "Gear": 3 if state.in_use else 0,
        },
    ),
    Cyclic(
        "Acceleration",
        0.2,
        0.007,
        lambda state: {
            "AccelerationX": state.acceleration_x_mps2,
            "AccelerationY": state.acceleration_y_mps2,
            "AccelerationZ": GRAVITY_MPS2,
        },
    ),
    Cyclic(
        "BatteryState",
        0.5,
        0.012,
        lambda state: {
            "StateOfCharge": state.battery_percent,
            "PackVoltage": state.battery_voltage,
            "PackCurrent": state.battery_current_a,
            "PackTemperature": state.battery_temperature_degc,
            "Charging": state.charging,
            "ContactorClosed": state.in_use or state.charging,
        },
    ),
    Cyclic(
        "BodyState",
        1.0,
        0.016,
        lambda state: {
            "InUse": state.in_use,
            "Locked": state.locked,
            "CargoDoorOpen": 0,
            "CabinTemperature": state.cabin_degc,
        },
    ),
    Cyclic(
        "Distance",
        1.0,
        0.021,
        lambda state: {"Odometer": state.odometer_km, "LastService": LAST_SERVICE_KM},
    ),
)


@cache
def demo_database() -> Any:
    """The demonstration vehicle's DBC, as cantools loads it."""
    import cantools  # noqa: PLC0415  half a second that only CAN logs need

    text = resources.files("simulator").joinpath("traces/milepost-demo.dbc").read_text("utf-8")
    return cantools.database.load_string(text, "dbc")


def candump_lines(
    states: Sequence[VehicleState], rng: random.Random, *, start: datetime
) -> Iterator[str]:
    """The log's lines in the order of their times; ``states`` are evenly spaced."""
    database = demo_database()
    step_s = states[1].time_s - states[0].time_s
    epoch_us = round(start.timestamp() * 1_000_000)
    due = [(message.phase_s, index) for index, message in enumerate(MESSAGES)]
    sent = [0] * len(MESSAGES)
    while True:
        due_s, index = min(due)
        position = int(due_s / step_s)
        if position >= len(states):
            return
        message = MESSAGES[index]
        frame = database.get_message_by_name(message.name)
        data = frame.encode(message.signals(states[position]), strict=True)
        time_us = epoch_us + round((due_s + rng.random() * LATEST_S) * 1_000_000)
        seconds, microseconds = divmod(time_us, 1_000_000)
        yield f"({seconds}.{microseconds:06d}) {CHANNEL} {frame.frame_id:03X}#{data.hex().upper()}"
        sent[index] += 1
        due[index] = (message.phase_s + sent[index] * message.period_s, index)
