"""Frames of a truck's bus give faults, VIN and hours of the documented form; never raise.

An input is frames: four bytes of id, eight of data. Multi-packet messages are bounded by their
source; each frame comes a tenth of a second after the one before.
"""

import re
import struct

import can

from agent.config.obd import J1939Settings
from agent.inputs import Inbox
from agent.sources.j1939 import frames
from agent.sources.j1939.source import J1939Source
from agent.sources.j1939.transport import MOST_BYTES
from tests.fakes.clock import FakeClock

FRAME = struct.Struct("<I8s")
CODE = re.compile(r"SPN \d{1,6} FMI \d{1,2}")
TP_CM, TP_DT = (frames.make_id(group, 0) for group in (frames.TRANSPORT, frames.TRANSPORT_DATA))
DM1, VIN, HOURS, CLAIM = (
    frames.make_id(group, 0)
    for group in (frames.DM1, frames.VEHICLE_ID, frames.ENGINE_HOURS, frames.ADDRESS_CLAIMED)
)


def log(*pieces: tuple[int, bytes]) -> bytes:
    return b"".join(FRAME.pack(frame_id, data) for frame_id, data in pieces)


def broadcast(group: int, message: bytes) -> bytes:
    packets = [message[at : at + 7].ljust(7, b"\xff") for at in range(0, len(message), 7)]
    announced = struct.pack("<BHBB", 32, len(message), len(packets), 255)
    return log(
        (TP_CM, announced + group.to_bytes(3, "little")),
        *((TP_DT, bytes([number]) + packet) for number, packet in enumerate(packets, 1)),
    )


SEEDS = [
    log((DM1, b"\x44\xff\x64\x00\x03\x01\xff\xff"), (DM1, b"\x00\xff" + bytes(6))),
    broadcast(frames.DM1, b"\x44\xff\x64\x00\x03\x01\x6e\x00\x40\x05\xff\xff\xff\xff"),
    broadcast(frames.VEHICLE_ID, b"WVWZZZ1KZAW000001*"),
    log((HOURS, b"\x10\x27\x00\x00\xff\xff\xff\xff"), (CLAIM, bytes(8))),
]
TOKENS = [struct.pack("<I", one) for one in (TP_CM, TP_DT, DM1, VIN, HOURS, CLAIM)]
MAX_BYTES = 300 * FRAME.size


def take(data: bytes) -> None:
    clock = FakeClock()
    source = J1939Source(J1939Settings(channel="can0"), Inbox(), clock)
    for at in range(0, len(data) - FRAME.size + 1, FRAME.size):
        frame_id, payload = FRAME.unpack_from(data, at)
        frame_id &= 0x1FFF_FFFF
        source._take(can.Message(arbitration_id=frame_id, data=payload, is_extended_id=True))
        clock.advance(0.1)
        now_s = clock.monotonic_s()
        source._forget_silent(now_s)
        values = source.read(now_s)
        codes = values.pop("diagnostics.error_codes", ())
        assert all(CODE.fullmatch(code) for code in codes), codes
        assert len(values.pop("signals.vin", "-" * 17)) == 17
        assert 0 <= values.pop("signals.engine_hours", 0) < 250_000_000
        assert all(isinstance(value, bool) for value in values.values()), values
    kept = source._messages._open.values()
    assert sum(len(message.data) for message in kept) <= 256 * (MOST_BYTES + 7)
