"""JSON of a sample, event or status gives a message that can be encoded again, or ContractError."""

import json

from contract import ContractError, decode_event, decode_sample, decode_status, encode

IDENTITY = {
    "schema_version": 1,
    "vehicle_id": "12345",
    "run_id": "f3a1c2d4",
    "sequence": 9182,
    "timestamp": "2025-01-15T14:32:18.123Z",
    "time_quality": "gps",
}
SAMPLE = {
    **IDENTITY,
    "location": {"lat": 50.1105, "lon": 8.6821, "altitude": 112.5, "accuracy": 5.2},
    "battery": {"percent": 68, "voltage": 48.2, "charging": False},
    "motion": {"speed_kmh": 18.5, "heading": 245, "acceleration": {"x": 0.2, "y": -0.1, "z": 9.8}},
    "vehicle_status": {"locked": False, "in_use": True, "trip_id": "a1b2c3d4"},
    "diagnostics": {"odometer_km": 2458, "error_codes": ["P0420"], "last_maintenance_km": 2100},
    "signals": {"engine_rpm": 2150, "engine_status": "running"},
}
EVENT = {**IDENTITY, "event_type": "mode_changed", "details": {"from": "idle", "to": "normal"}}
STATUS = {
    "schema_version": 1,
    "vehicle_id": "12345",
    "run_id": "f3a1c2d4",
    "timestamp": "2025-01-15T14:32:18.123Z",
    "time_quality": "ntp",
    "state": "online",
    "software_version": "0.1.0",
    "mode": "normal",
    "backlog_messages": 3,
}
SEEDS = [json.dumps(message).encode() for message in (SAMPLE, EVENT, STATUS)]
TOKENS = [*(f'"{name}":'.encode() for name in SAMPLE), b"NaN", b"1e999", b'"\\ud800"']


def take(data: bytes) -> None:
    for decode in (decode_sample, decode_event, decode_status):
        try:
            message = decode(data)
        except ContractError as error:
            str(error)
        else:
            assert decode(encode(message)) == message
