"""A u-blox receiver on a pseudo terminal: speaks UBX and obeys CFG-RATE.

Messages: u-blox 8 / M8 Receiver Description, UBX-NAV-PVT, UBX-CFG-RATE, UBX-ACK-ACK.
"""

import os
import pty
import select
import struct
import threading
import time
import tty
from datetime import UTC, datetime, timedelta
from pathlib import Path

SYNC = b"\xb5\x62"
NAV_PVT = 0x0107
ACK_ACK = 0x0501
CFG_RATE = 0x0608


def message(kind, payload):
    """A UBX frame: class, id, length, payload, Fletcher checksum."""
    body = struct.pack(">H", kind) + struct.pack("<H", len(payload)) + payload
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return SYNC + body + bytes([first, second])


def nav_pvt(moment, *, lat, lon, accuracy_m):
    """A 3D fix at 10 m/s to the north."""
    week_ms = (
        (moment - datetime(1980, 1, 6, tzinfo=UTC) + timedelta(seconds=18))
        / timedelta(milliseconds=1)
        % 604_800_000
    )
    return message(
        NAV_PVT,
        struct.pack(
            "<IHBBBBBBIiBBBBiiiiIIiiiiiIIH6xihH",
            round(week_ms),
            *(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second),
            0x07,
            20,
            moment.microsecond * 1000,
            *(3, 0x01, 0, 9),
            *(round(lon * 1e7), round(lat * 1e7), 160_000, 112_500),
            *(round(accuracy_m * 1000), 3_000),
            *(10_000, 0, 0, 10_000, 0),
            *(100, 100_000),
            150,
            *(0, 0, 0),
        ),
    )


class UbloxReceiver:
    """``periods_ms`` are the measurement periods that it was set to, in their order."""

    def __init__(self, accuracy_m=2.0):
        self._master, self._slave = pty.openpty()
        for end in self._master, self._slave:
            tty.setraw(end)
        self.device = os.ttyname(self._slave)
        # gpsd is nobody by the time it opens a device
        Path(self.device).chmod(0o666)
        self.periods_ms = []
        self._accuracy_m = accuracy_m
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ublox", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)

    def _run(self):
        moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
        due_s = time.monotonic()
        received = b""
        while not self._stopping.is_set():
            wait_s = max(due_s - time.monotonic(), 0)
            if select.select([self._master], [], [], min(wait_s, 0.1))[0]:
                received = self._obey(received + os.read(self._master, 4096))
            if time.monotonic() >= due_s:
                period = timedelta(milliseconds=self.periods_ms[-1] if self.periods_ms else 1000)
                moment += period
                due_s += period.total_seconds()
                lat = 50 + moment.timestamp() % 1000 / 10_000
                fix = nav_pvt(moment, lat=lat, lon=8.0, accuracy_m=self._accuracy_m)
                os.write(self._master, fix)

    def _obey(self, data):
        while (start := data.find(SYNC)) >= 0 and len(data) >= start + 8:
            kind, length = struct.unpack_from(">H", data, start + 2)[0], data[start + 4]
            end = start + 8 + length
            if len(data) < end:
                break
            if kind == CFG_RATE and length == 6:
                self.periods_ms.append(struct.unpack_from("<H", data, start + 6)[0])
            if kind >> 8 == 0x06:
                os.write(self._master, message(ACK_ACK, struct.pack(">H", kind)))
            data = data[end:]
        return data
