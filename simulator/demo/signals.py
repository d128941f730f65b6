"""Which CAN signals the demo's agents map to which fields of the contract.

The built-in drive has a map of its own. For a log and DBCs of somebody else's the demo
maps what the person says (``--signal``) and, under ``signals``, every other signal that
occurs in the log, so that a drive can be looked at before anyone wrote a config.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from simulator.can_log import CanLog
from simulator.demo.errors import DemoError

SYNTHETIC: Final = b"# Milepost synthetic drive: CAN"
MAX_AUTOMATIC: Final = 200
"""The contract takes 256 signals a sample."""

MAX_FRAMES_LOOKED_AT: Final = 100_000
FRAMES_DECODED_PER_ID: Final = 400
_FIELD_NAME: Final = re.compile(r"[^A-Za-z0-9_]+")
_SIGNAL: Final = re.compile(
    r"([A-Za-z_][\w.]*)(?:\*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))?(?:\?([A-Za-z_][\w.]*))?"
)


@dataclass(frozen=True, slots=True)
class MappedSignal:
    """One entry of the agent's ``[can.signals]``."""

    signal: str
    scale: float = 1.0
    valid_if: str = ""
    """A signal that must not be zero for this one to count."""


SignalMap = Mapping[str, MappedSignal]

BUILT_IN: Final[SignalMap] = {
    "battery.percent": MappedSignal("BatteryState.StateOfCharge"),
    "battery.voltage": MappedSignal("BatteryState.PackVoltage"),
    "battery.current": MappedSignal("BatteryState.PackCurrent"),
    "battery.temperature": MappedSignal("BatteryState.PackTemperature"),
    "battery.charging": MappedSignal("BatteryState.Charging"),
    "motion.speed_kmh": MappedSignal("DriveState.VehicleSpeed"),
    "motion.acceleration.x": MappedSignal("Acceleration.AccelerationX"),
    "motion.acceleration.y": MappedSignal("Acceleration.AccelerationY"),
    "motion.acceleration.z": MappedSignal("Acceleration.AccelerationZ"),
    "vehicle_status.in_use": MappedSignal("BodyState.InUse"),
    "vehicle_status.locked": MappedSignal("BodyState.Locked"),
    "diagnostics.odometer_km": MappedSignal("Distance.Odometer"),
    "diagnostics.last_maintenance_km": MappedSignal("Distance.LastService"),
    "signals.motor_rpm": MappedSignal("DriveState.MotorSpeed"),
    "signals.motor_torque_nm": MappedSignal("DriveState.MotorTorque"),
    "signals.gear": MappedSignal("DriveState.Gear"),
    "signals.cabin_degc": MappedSignal("BodyState.CabinTemperature"),
}
"""For ``firmware-config/dbc/milepost-demo.dbc``."""


def is_synthetic(log: Path) -> bool:
    """Whether ``milepost-sim synth`` made this CAN log, by its header; False if unreadable."""
    try:
        with log.open("rb") as lines:
            return lines.readline(200).startswith(SYNTHETIC)
    except OSError:
        return False


def parse_signal(text: str) -> tuple[str, MappedSignal]:
    """``FIELD=SIGNAL[*SCALE][?VALID]``, e.g. ``motion.speed_kmh=Speed*3.6?SpeedValid``.

    Raises:
        ValueError: it has another form.
    """
    name, equals, right = text.partition("=")
    match = _SIGNAL.fullmatch(right.strip())
    if not equals or not name.strip() or match is None:
        raise ValueError(f"{text!r} is not FIELD=SIGNAL, e.g. location.lat=gnss_pos.Latitude")
    scale = 1.0 if match[2] is None else float(match[2])
    return name.strip(), MappedSignal(match[1], scale, match[3] or "")


def map_for(log: Path, dbcs: tuple[Path, ...], wanted: SignalMap) -> SignalMap:
    """``wanted``, and the log's other signals under ``signals``.

    Raises:
        DemoError: a DBC cannot be read, or describes nothing that the log has.
    """
    databases = [_load(path) for path in dbcs]
    taken = {entry.signal for entry in wanted.values()}
    found: dict[str, MappedSignal] = {}
    for message, signal in _occurring(log, databases):
        full = f"{message}.{signal}"
        if full in taken or signal in taken or len(found) >= MAX_AUTOMATIC:
            continue
        name = "signals." + _FIELD_NAME.sub("_", signal)[:56]
        if name in found or name in wanted:
            name = "signals." + _FIELD_NAME.sub("_", full)[:56]
        found.setdefault(name, MappedSignal(full))
    if not found and not wanted:
        raise DemoError(
            f"no frame of {log} is described by {', '.join(path.name for path in dbcs)}",
            hint="give the DBC of that bus with --dbc; several may be given",
        )
    return {**wanted, **found}


def _load(path: Path) -> Any:
    import cantools  # noqa: PLC0415  half a second that only CAN logs need

    try:
        return cantools.database.load_file(path, database_format="dbc", strict=False)
    except (OSError, ValueError, cantools.Error) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DemoError(
            f"the DBC {path} cannot be read: {first}",
            hint="check it with: cantools dump FILE",
        ) from error


def _occurring(log: Path, databases: list[Any]) -> Iterable[tuple[str, str]]:
    """Message and signal of all that frames of the log carry, in the order met."""
    messages = {
        (message.frame_id, message.is_extended_frame): message
        for database in reversed(databases)
        for message in database.messages
    }
    seen: dict[tuple[str, str], None] = {}
    decoded: dict[tuple[int, bool], int] = {}
    for frame in islice(CanLog(log), MAX_FRAMES_LOOKED_AT):
        key = (frame.arbitration_id, frame.extended)
        message = messages.get(key)
        if message is None or frame.remote or frame.error:
            continue
        decoded[key] = decoded.get(key, 0) + 1
        if decoded[key] > FRAMES_DECODED_PER_ID:
            continue
        for signal in _signals_in(message, frame.data):
            seen.setdefault((message.name, signal))
    return seen


def _signals_in(message: Any, data: bytes) -> list[str]:
    try:
        values = message.decode(data, decode_choices=False, allow_truncated=True)
    except (ValueError, KeyError, IndexError, AttributeError):
        return []
    except Exception as error:
        # cantools has an error of its own, and bitstruct another
        if type(error).__module__.startswith(("cantools", "bitstruct")):
            return []
        raise
    return list(values) if isinstance(values, dict) else []
