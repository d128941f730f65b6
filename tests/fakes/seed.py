"""The example of the contract's page: every group filled."""

from typing import Any

SEED: dict[str, Any] = {
    "schema_version": 1,
    "vehicle_id": "12345",
    "run_id": "f3a1c2d4",
    "sequence": 9182,
    "timestamp": "2025-01-15T14:32:18.123Z",
    "time_quality": "gps",
    "location": {"lat": 50.1105, "lon": 8.6821, "altitude": 112.5, "accuracy": 5.2},
    "battery": {
        "percent": 68,
        "voltage": 48.2,
        "current": 3.5,
        "temperature": 32.1,
        "charging": False,
    },
    "motion": {
        "speed_kmh": 18.5,
        "heading": 245,
        "acceleration": {"x": 0.2, "y": -0.1, "z": 9.8},
    },
    "vehicle_status": {
        "locked": False,
        "in_use": True,
        "trip_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    },
    "diagnostics": {"odometer_km": 2458, "error_codes": [], "last_maintenance_km": 2100},
    "signals": {"engine_rpm": 2150, "engine_status": "running", "fuel_level_pct": 75},
}
