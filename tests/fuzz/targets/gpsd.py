"""What gpsd sends raises GpsLostError alone; a fix suits the contract, its numbers are finite."""

import json
from pathlib import Path

from agent.config import GpsSettings
from agent.sources.gps.choice import ReceiverChoice
from agent.sources.gps.faults import GpsLostError
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.session import MAX_LINE_BYTES, GpsdSession
from contract import Location

PORT = "/dev/ttyAMA0"
TPV = {
    "class": "TPV",
    "device": PORT,
    "mode": 3,
    "time": "2025-01-15T14:32:18.000Z",
    "lat": 50.1105,
    "lon": 8.6821,
    "altMSL": 112.5,
    "eph": 5.2,
    "speed": 5.1,
    "track": 245.0,
}
SKY = {"class": "SKY", "device": PORT, "hdop": 0.9, "satellites": [{"PRN": 1, "used": True}]}
DEVICE = {"path": PORT, "driver": "u-blox", "activated": 1, "cycle": 1.0, "mincycle": 0.1}
OLD = {key: TPV[key] for key in TPV if key not in {"altMSL", "eph"}}


def lines(*reports: dict[str, object]) -> bytes:
    return b"".join(json.dumps(report).encode() + b"\n" for report in reports)


SEEDS = [
    lines({"class": "DEVICES", "devices": [DEVICE]}, SKY, TPV, TPV | {"hAcc": 1.5}),
    lines(TPV, OLD | {"epx": 3.0, "epy": 4.0, "alt": 100}),
    lines(TPV | {"mode": 2, "time": "2025-01-15T14:32:19Z"}, SKY | {"uSat": 7}),
    lines({"class": "DEVICE", **DEVICE}, {"class": "DEVICE", **DEVICE, "activated": 0}),
    b"$GNTXT,01,01,02,ANTSTATUS=OPEN*2B\r\n" + lines(TPV),
]
TOKENS = [f'"{key}":'.encode() for key in (*TPV, *DEVICE)] + [b"NaN", b"1e999", b"9999-12-31"]


def take(data: bytes) -> None:
    choice = ReceiverChoice((), fall_back_after_s=5.0, return_after_s=30.0, now_s=0.0)
    memory = CycleMemory(Path("/nowhere"))
    session = GpsdSession(GpsSettings(), choice, {}, lambda _path: True, 0.0, memory=memory)
    try:
        for number, line in enumerate(data.split(b"\n")):
            for received in session.feed(line + b"\n", float(number)):
                fix = received.fix
                Location(
                    lat=fix.lat,
                    lon=fix.lon,
                    altitude=fix.altitude_m,
                    accuracy=fix.accuracy_m,
                    fix_mode=fix.mode,
                    satellites=fix.satellites,
                    hdop=fix.hdop,
                )
                assert fix.time is None or fix.time.utcoffset() is not None
                assert fix.speed_kmh is None or 0 <= fix.speed_kmh <= 2_001
                assert fix.heading is None or 0 <= fix.heading <= 360
            session.look(float(number))
            assert all(b"\n" in command for command in session.commands(0.2))
            json.dumps(session.account())
    except GpsLostError as error:
        str(error)
    assert len(session._buffer) <= 2 * MAX_LINE_BYTES
