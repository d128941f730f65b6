"""Frames of any id and length give finite numbers, short texts and flags, or no value.

An input is frames: four bytes of id with SocketCAN's flags, one of length, data padded to 64.
"""

import math
import struct
import tempfile
from pathlib import Path

from agent.config import CanSettings
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.slots import RawFrame
from agent.sources.dbc.compile import compile_in_process
from tests.fuzz.targets import dbc

FRAME = struct.Struct("<IB64s")
PACK = 2566844926
EEC1 = 0x8CF0_0400
ERROR = 0x2000_0040
J1939 = """BO_ 2364540158 EEC1: 8 E
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" E
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";
BA_DEF_DEF_ "VFrameFormat" "J1939PG";
"""
FOLDER = tempfile.TemporaryDirectory(prefix="milepost-fuzz-")


def _map() -> tuple[CanSettings, dict[str, object]]:
    files = []
    for name, text in (("small", dbc.SMALL), ("wide", dbc.WIDE), ("j1939", J1939)):
        path = Path(FOLDER.name) / f"{name}.dbc"
        path.write_text(text)
        files.append(path)
    settings = CanSettings(
        dbc=tuple(files),
        fd=True,
        signals={
            "signals.rpm": {"signal": "Rpm", "stat": "mean"},
            "signals.temperature": "Temp",
            "signals.cell": {"signal": "Cell", "scale": 1e300},
            "signals.last": {"signal": "Last", "stat": "max", "valid_if": "A"},
            "motion.heading": {"signal": "A", "min": 0, "max": 359},
            "vehicle_status.in_use": "Mux",
            "diagnostics.error_codes": ["Temp", "A"],
            "signals.engine_rpm": {"signal": "EngineSpeed", "source_address": 0},
        },
    )
    return settings, compile_in_process(files, references(settings))


SETTINGS, TABLES = _map()


def frame(identifier: int, data: bytes) -> bytes:
    return FRAME.pack(identifier, len(data), data)


SEEDS = [
    frame(256, bytes(range(8))) + frame(256, b"\xff" * 8),
    frame(PACK, b"\x01\x00\x00\xc0\x7f\x00\x00\x00") + frame(PACK, b"\x02" * 8),
    frame(1024, bytes(range(64))) + frame(1024, b"\xff" * 48),
    frame(EEC1, b"\xff\xff\xff\x68\x13\xff\xff\xff") + frame(ERROR, b"\0" * 8),
]
TOKENS = [struct.pack("<I", one) for one in (256, 1024, PACK, EEC1)]


def take(data: bytes) -> None:
    signals = SignalMap(SETTINGS, TABLES)
    for number, at in enumerate(range(0, len(data) - FRAME.size + 1, FRAME.size)):
        raw: RawFrame = FRAME.unpack_from(data, at)
        signals.take([(raw[0], min(raw[1], 64), raw[2])], float(number))
        for name, value in signals.read(float(number)).items():
            assert not isinstance(value, float) or math.isfinite(value), (name, value)
            assert not isinstance(value, str) or len(value) <= 256
        if number % 3 == 2:
            signals.sampled()
