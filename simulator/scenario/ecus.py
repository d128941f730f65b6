"""The ECUs of a scenario's vehicle: they tell of the same drive as its receiver and its buses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.demo.bus import BusAddress
from simulator.ecu.engine import EngineAt, EngineState
from simulator.ecu.j1939 import parse_fault
from simulator.ecu.node import EcuNode, EcuOptions
from simulator.ecu.obd import parse_code
from simulator.ecu.truck import TruckNode, TruckOptions
from simulator.errors import FileError
from simulator.scenario.drive import Replayed
from simulator.synth.vehicle import VehicleState
from simulator.synth.vehicle_file import EcuMap, EcuProtocol


def ecus(drive: Replayed, buses: Mapping[str, BusAddress]) -> list[EcuNode | TruckNode]:
    """One node for each ``[[ecu]]`` of the vehicle's profile.

    Raises:
        FileError: a fault code is none, or the drive has no engine to tell of.
    """
    found = [_node(one, drive, buses[one.channel]) for one in drive.profile.ecu]
    if found and not any(state.engine_rpm is not None for state in drive.states[:1]):
        raise FileError(
            "an [[ecu]] tells of an engine, and this drive has none",
            hint="take a synthetic drive, and a model with an engine: diesel-van or truck",
        )
    return found


def engine_of(states: Sequence[VehicleState]) -> EngineAt:
    """What the ECUs measure so many seconds after the drive's first moment."""
    step_s = states[1].time_s - states[0].time_s

    def at(elapsed_s: float) -> EngineState:
        state = states[min(max(int(elapsed_s / step_s), 0), len(states) - 1)]
        return EngineState(
            ignition=state.in_use,
            speed_kmh=state.speed_kmh,
            rpm=state.engine_rpm or 0.0,
            load_percent=state.engine_load_percent or 0.0,
            coolant_degc=state.coolant_degc or 0.0,
            fuel_percent=state.fuel_percent or 0.0,
            supply_volts=state.battery_voltage,
            odometer_km=state.odometer_km,
        )

    return at


def _node(wanted: EcuMap, drive: Replayed, bus: BusAddress) -> EcuNode | TruckNode:
    engine = engine_of(drive.states) if drive.states else None
    try:
        if wanted.protocol is EcuProtocol.OBD:
            codes = [parse_code(text) for text in wanted.faults]
            return EcuNode(
                EcuOptions(number=wanted.address, stored=codes),
                interface=bus.interface,
                channel=bus.channel,
                bus_options=bus.options,
                engine=engine,
            )
        faults = [parse_fault(text) for text in wanted.faults]
        return TruckNode(
            TruckOptions(address=wanted.address, faults=faults),
            interface=bus.interface,
            channel=bus.channel,
            bus_options=bus.options,
            engine=engine,
        )
    except ValueError as error:
        raise FileError(
            f"ecu.faults: {error}", hint='write ["P0301"] for OBD-II, ["110:3"] for J1939'
        ) from error
