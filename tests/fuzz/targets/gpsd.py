"""Lines from gpsd never raise; what comes out is a position on Earth, its numbers finite."""

import json
import math

from agent.sources.gpsd_protocol import FixMerger, parse_line

TPV = {
    "class": "TPV",
    "device": "/dev/ttyAMA0",
    "mode": 3,
    "time": "2025-01-15T14:32:18.000Z",
    "lat": 50.1105,
    "lon": 8.6821,
    "altMSL": 112.5,
    "eph": 5.2,
    "speed": 5.1,
    "track": 245.0,
}
SKY = {"class": "SKY", "device": "/dev/ttyAMA0", "hdop": 0.9, "satellites": [{"PRN": 1}]}
SEEDS = [
    json.dumps(TPV).encode() + b"\n" + json.dumps(TPV | {"epx": 3.0, "epy": 4.0}).encode(),
    json.dumps(TPV | {"mode": 2, "time": "2025-01-15T14:32:19Z"}).encode(),
    json.dumps({"class": "DEVICES", "devices": [{"path": "/dev/ttyAMA0"}]}).encode(),
    json.dumps(SKY, separators=(",", ":")).encode() + b"\n" + json.dumps(TPV).encode(),
]
TOKENS = [f'"{key}":'.encode() for key in TPV] + [b"NaN", b"-Infinity", b"1e999", b"9999-12-31"]


def take(data: bytes) -> None:
    merger = FixMerger(stale_after_s=3.0)
    for number, line in enumerate(data.split(b"\n")):
        report = parse_line(line)
        if report is None:
            continue
        received = merger.feed(report, float(number))
        if received is None:
            continue
        fix = received.fix
        assert -90 <= fix.lat <= 90
        assert -180 <= fix.lon <= 180
        for value in (fix.altitude_m, fix.accuracy_m, fix.speed_kmh, fix.heading):
            assert value is None or math.isfinite(value)
