"""The columns of the archive: flat, typed, alike for ever; units stand in the names.

What has no column of its own stays as JSON text: ``signals`` and ``details`` because every
vehicle has others, ``unknown_fields`` because a newer agent may send more than this
version knows, nested as it came. So nothing that a vehicle sent is lost.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel
from pydantic_core import to_json

from contract import Event, Sample

_MOMENT: Final = pa.timestamp("ms", tz="UTC")
_NUMBER: Final = pa.float64()
_TEXT: Final = pa.string()


class Row(NamedTuple):
    """One message and when the cloud took it."""

    message: Sample | Event
    received_at: datetime


Getter = Callable[[Row], Any]


def _of(*path: str) -> Getter:
    def get(row: Row) -> Any:
        value: Any = row.message
        for name in path:
            value = getattr(value, name)
            if value is None:
                return None
        return value

    return get


def _json(value: Mapping[str, Any] | None) -> str | None:
    return to_json(value, inf_nan_mode="null").decode() if value else None


def _codes(row: Row) -> list[str] | None:
    codes = _of("diagnostics", "error_codes")(row)
    return None if codes is None else list(codes)


_IDENTITY: Final[tuple[tuple[str, Any, Getter], ...]] = (
    ("vehicle_id", _TEXT, _of("vehicle_id")),
    ("run_id", _TEXT, _of("run_id")),
    ("sequence", pa.int64(), _of("sequence")),
    ("timestamp", _MOMENT, _of("timestamp")),
    ("time_quality", _TEXT, lambda row: row.message.time_quality.value),
    ("received_at", _MOMENT, lambda row: row.received_at),
    ("schema_version", pa.int16(), _of("schema_version")),
    ("lat", _NUMBER, _of("location", "lat")),
    ("lon", _NUMBER, _of("location", "lon")),
    ("altitude_m", _NUMBER, _of("location", "altitude")),
    ("accuracy_m", _NUMBER, _of("location", "accuracy")),
    ("fix_time", _MOMENT, _of("location", "fix_time")),
    ("fix_mode", _TEXT, _of("location", "fix_mode")),
    ("satellites", pa.int16(), _of("location", "satellites")),
    ("hdop", _NUMBER, _of("location", "hdop")),
)
_UNKNOWN: Final = (("unknown_fields", _TEXT, lambda row: _json(unknown_fields(row.message))),)

SAMPLES: Final[tuple[tuple[str, Any, Getter], ...]] = (
    *_IDENTITY,
    ("battery_percent", _NUMBER, _of("battery", "percent")),
    ("battery_voltage_v", _NUMBER, _of("battery", "voltage")),
    ("battery_current_a", _NUMBER, _of("battery", "current")),
    ("battery_temperature_c", _NUMBER, _of("battery", "temperature")),
    ("battery_charging", pa.bool_(), _of("battery", "charging")),
    ("speed_kmh", _NUMBER, _of("motion", "speed_kmh")),
    ("heading_deg", _NUMBER, _of("motion", "heading")),
    ("acceleration_x_mps2", _NUMBER, _of("motion", "acceleration", "x")),
    ("acceleration_y_mps2", _NUMBER, _of("motion", "acceleration", "y")),
    ("acceleration_z_mps2", _NUMBER, _of("motion", "acceleration", "z")),
    ("locked", pa.bool_(), _of("vehicle_status", "locked")),
    ("in_use", pa.bool_(), _of("vehicle_status", "in_use")),
    ("trip_id", _TEXT, _of("vehicle_status", "trip_id")),
    ("odometer_km", _NUMBER, _of("diagnostics", "odometer_km")),
    ("last_maintenance_km", _NUMBER, _of("diagnostics", "last_maintenance_km")),
    ("error_codes", pa.list_(_TEXT), _codes),
    ("signals", _TEXT, lambda row: _json(_of("signals")(row))),
    *_UNKNOWN,
)
EVENTS: Final[tuple[tuple[str, Any, Getter], ...]] = (
    *_IDENTITY,
    ("event_type", _TEXT, _of("event_type")),
    ("trip_id", _TEXT, _of("trip_id")),
    ("details", _TEXT, lambda row: _json(_of("details")(row))),
    *_UNKNOWN,
)


def schema(columns: Sequence[tuple[str, Any, Getter]]) -> pa.Schema:
    """The Arrow schema of a dataset."""
    return pa.schema([(name, kind) for name, kind, _ in columns])


def to_parquet(rows: Sequence[Row], columns: Sequence[tuple[str, Any, Getter]]) -> bytes:
    """One Parquet file, zstd; the same rows give the same bytes."""
    table = pa.table(
        [pa.array([get(row) for row in rows], type=kind) for _, kind, get in columns],
        schema=schema(columns),
    )
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def unknown_fields(message: BaseModel) -> dict[str, Any]:
    """What the models have no field for, nested as it came."""
    found = dict(message.__pydantic_extra__ or {})
    for name in type(message).model_fields:
        inner = getattr(message, name)
        if isinstance(inner, BaseModel) and (deeper := unknown_fields(inner)):
            found[name] = deeper
    return found
