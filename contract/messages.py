"""The messages, as frozen pydantic models.

Units stand in the names or in the field's description. A group whose source is
absent is absent (``None`` here, no key on the wire), never filled with zeros.
Unknown fields pass and are kept, so an older cloud stores what a newer agent sends.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from contract.fields import (
    MAX_SEQUENCE,
    Message,
    RunId,
    Scalar,
    Sequence,
    SignalName,
    Timestamp,
    VehicleId,
)

SCHEMA_VERSION: Final = 1

MAX_SIGNALS: Final = 256
MAX_ERROR_CODES: Final = 64
MAX_DETAILS: Final = 64
MAX_DROP_TOTALS: Final = 64


class TimeQuality(StrEnum):
    """What stands behind a timestamp."""

    GPS = "gps"
    NTP = "ntp"
    UNSYNCED = "unsynced"
    """No trusted time was seen before that boot of the board ended.

    Nor before the agent's bound on waiting for one had passed (``delivery.hold_unsynced_s``).
    """


class Mode(StrEnum):
    """Sampling modes; rates and guards are the agent's."""

    IN_TRIP = "in_trip"
    NORMAL = "normal"
    IDLE = "idle"
    SAVER = "saver"


class FixMode(StrEnum):
    """What a position holds; a position without a fix is not sent at all."""

    FIX_2D = "2d"
    """Latitude and longitude; the altitude was assumed, so it is absent."""

    FIX_3D = "3d"


class EventType(StrEnum):
    """The events that this version knows. A decoder lets others of the same form pass."""

    TRIP_STARTED = "trip_started"
    TRIP_ENDED = "trip_ended"
    MODE_CHANGED = "mode_changed"
    BATTERY_LOW = "battery_low"
    BATTERY_RECOVERED = "battery_recovered"
    FAULT_RAISED = "fault_raised"
    FAULT_CLEARED = "fault_cleared"
    HARSH_BRAKING = "harsh_braking"
    HARSH_ACCELERATION = "harsh_acceleration"
    DROPPED = "dropped"
    BUDGET_NEAR = "budget_near"
    BUDGET_REACHED = "budget_reached"
    BUDGET_RESTORED = "budget_restored"


class VehicleState(StrEnum):
    """Whether the agent holds its connection to the broker."""

    ONLINE = "online"
    OFFLINE = "offline"


class Location(Message):
    """Where the vehicle is, WGS 84."""

    lat: Annotated[float, Field(ge=-90, le=90, description="Latitude, degrees")]
    lon: Annotated[float, Field(ge=-180, le=180, description="Longitude, degrees")]
    altitude: Annotated[
        float | None, Field(ge=-12_000, le=100_000, description="Above mean sea level, metres")
    ] = None
    accuracy: Annotated[
        float | None, Field(ge=0, description="Horizontal, 95 % radius, metres")
    ] = None
    fix_time: Annotated[
        Timestamp | None,
        Field(description="When the receiver measured; an unchanged fix keeps its own time"),
    ] = None
    fix_mode: FixMode | None = None
    satellites: Annotated[int | None, Field(ge=0, le=255, description="Used in the fix")] = None
    hdop: Annotated[
        float | None, Field(ge=0, le=100, description="Horizontal dilution of precision")
    ] = None


class Battery(Message):
    """The vehicle's traction battery or, where there is none, its supply."""

    percent: Annotated[float | None, Field(ge=0, le=100, description="State of charge, %")] = None
    voltage: Annotated[float | None, Field(ge=-10, le=2_000, description="Volts")] = None
    current: Annotated[
        float | None, Field(ge=-10_000, le=10_000, description="Amperes, positive discharges")
    ] = None
    temperature: Annotated[float | None, Field(ge=-100, le=300, description="Degrees Celsius")] = (
        None
    )
    charging: bool | None = None


class Acceleration(Message):
    """Vehicle axes (ISO 8855: x forward, y left, z up), m/s², gravity included."""

    x: Annotated[float, Field(ge=-1_000, le=1_000)]
    y: Annotated[float, Field(ge=-1_000, le=1_000)]
    z: Annotated[float, Field(ge=-1_000, le=1_000)]


class Motion(Message):
    """How the vehicle moves."""

    speed_kmh: Annotated[float | None, Field(ge=0, le=2_000)] = None
    heading: Annotated[
        float | None, Field(ge=0, le=360, description="Degrees clockwise from true north")
    ] = None
    acceleration: Acceleration | None = None


class VehicleStatus(Message):
    """What the vehicle says of itself."""

    locked: bool | None = None
    in_use: bool | None = None
    trip_id: Annotated[str | None, Field(min_length=1, max_length=64)] = None


class Diagnostics(Message):
    """Service data."""

    odometer_km: Annotated[float | None, Field(ge=0, le=10_000_000)] = None
    error_codes: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...] | None,
        Field(max_length=MAX_ERROR_CODES, strict=False),
    ] = None
    last_maintenance_km: Annotated[float | None, Field(ge=0, le=10_000_000)] = None


class _Identified(Message):
    """``(vehicle_id, run_id, sequence)`` is unique for ever."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    vehicle_id: VehicleId
    run_id: Annotated[RunId, Field(description="Drawn at each start of the agent")]
    sequence: Annotated[
        Sequence, Field(description="Counts the run's samples and events together from 1")
    ]
    timestamp: Annotated[Timestamp, Field(description="When the sample was taken, UTC")]
    time_quality: TimeQuality


class Sample(_Identified):
    """One telemetry sample: the state of the vehicle at one moment."""

    location: Location | None = None
    battery: Battery | None = None
    motion: Motion | None = None
    vehicle_status: VehicleStatus | None = None
    diagnostics: Diagnostics | None = None
    signals: Annotated[
        dict[SignalName, Scalar] | None,
        Field(max_length=MAX_SIGNALS, description="Mapped CAN signals that have no group"),
    ] = None


class Event(_Identified):
    """Something that happened. Events are never thinned and go before samples."""

    event_type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    location: Location | None = None
    trip_id: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    details: Annotated[dict[SignalName, Scalar] | None, Field(max_length=MAX_DETAILS)] = None


class PreviousRun(Message):
    """Where the run before this one ended, as far as is known."""

    run_id: RunId
    last_sequence: Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]
    unflushed_s: Annotated[
        float | None,
        Field(
            ge=0,
            description="Messages created so shortly before its end may be lost without a trace; "
            "0 after an orderly end",
        ),
    ] = None


class DropTotal(Message):
    """How many messages of one run were given up for one reason, in all: the latest says all.

    ``first_sequence`` and ``last_sequence`` are the lowest and highest of them; what lies
    between need not be dropped, as thinning takes every second one.
    """

    run_id: Annotated[
        RunId | None, Field(description="Absent: in a damaged file, of which run is unknown")
    ] = None
    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    total_messages: Annotated[int, Field(ge=0)]
    first_sequence: Sequence | None = None
    last_sequence: Sequence | None = None


class Status(Message):
    """The agent's own state; retained by the broker, and its last will when offline."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    vehicle_id: VehicleId
    run_id: RunId
    state: VehicleState
    timestamp: Timestamp
    time_quality: TimeQuality
    software_version: Annotated[str | None, Field(max_length=64)] = None
    mode: Annotated[Mode | None, Field(description="In force; it sets the rate")] = None
    wanted_mode: Annotated[
        Mode | None, Field(description="Without a budget's limit; that of the trips")
    ] = None
    limited_by: Annotated[
        str | None, Field(max_length=64, description="The budget that lowers the rate")
    ] = None
    sample_interval_s: Annotated[float | None, Field(gt=0)] = None
    last_sequence: Annotated[
        int | None, Field(ge=0, le=MAX_SEQUENCE, description="The newest that was created")
    ] = None
    acknowledged_messages: Annotated[int | None, Field(ge=0)] = None
    backlog_messages: Annotated[
        int | None, Field(ge=0, description="Created, and neither acknowledged nor dropped")
    ] = None
    dropped_messages: Annotated[
        dict[SignalName, Annotated[int, Field(ge=0)]] | None,
        Field(max_length=MAX_DETAILS, description="By reason, since the agent's process started"),
    ] = None
    drops: Annotated[
        tuple[DropTotal, ...] | None,
        Field(
            max_length=MAX_DROP_TOTALS,
            strict=False,
            description="By run and reason, in all; the runs that lost something last",
        ),
    ] = None
    previous_run: PreviousRun | None = None
    fixes_rejected: Annotated[
        dict[SignalName, Annotated[int, Field(ge=0)]] | None,
        Field(
            max_length=MAX_DETAILS,
            description="Positions not believed, by reason, since the agent's process started",
        ),
    ] = None
    frames_dropped: Annotated[
        dict[SignalName, Annotated[int, Field(ge=0)]] | None,
        Field(
            max_length=MAX_DETAILS,
            description="Mapped CAN frames that came and could not be used or kept up with, by "
            "bus, since the agent's process started",
        ),
    ] = None


AnyMessage = Sample | Event | Status

Json = dict[str, Any]
"""A decoded JSON object, before validation."""
