"""One open serial port with a receiver behind it, from its opening to its loss."""

from __future__ import annotations

import contextlib
import errno
import os
import termios
from typing import Any, Final

import serial

from agent.inputs import FixReceived
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.nmea.stream import NmeaStream
from agent.sources.nmea.ublox import QUESTIONS, UbloxReceiver

PORT_ERRORS: Final = (OSError, ValueError, termios.error)
"""What opening and using a port raises: pyserial lets termios' own errors through."""

PAUSE_S: Final = 0.06
"""A line silent for so long has ended its epoch: USB adapters deliver every 16 ms at the latest."""

PAUSE_BYTES: Final = 30
"""At low rates the line must be silent for longer than so many bytes take."""

GATHER_S: Final = 0.04
GATHER_BYTES: Final = 2_000
"""Of the kernel's 4,095."""

READ_BYTES: Final = 4_096
BITS_A_BYTE: Final = 10
"""Start, eight data, stop."""

USB_BAUD: Final = 10_000_000
"""A receiver with USB of its own has no UART, and any baud rate is right."""


class SerialSession:
    """Every method may raise ``PORT_ERRORS``: the port cannot be opened, or is gone."""

    def __init__(self, device: str, baud: int, own_cycle_s: float | None = None) -> None:
        """``own_cycle_s``: of a u-blox that was left with another one."""
        self.device = device
        # exclusive: two readers of one port would get a part each
        self.port = serial.Serial(device, baud, timeout=0, write_timeout=1, exclusive=True)
        self._has_uart = not os.path.realpath(device).startswith("/dev/ttyACM")
        self._receiver = UbloxReceiver(own_cycle_s)
        self._burst_bytes = 0
        self._epoch_bytes = 0
        """What one epoch takes on the line: the longest burst between two pauses."""
        self.is_mid_epoch = False
        """Whether something came since the last pause."""
        self.stream = NmeaStream(device)

    def change_baud(self, baud: int) -> None:
        """Begin anew at a rate; what came at another one is forgotten."""
        if baud != self.port.baudrate:
            self.port.baudrate = baud
            self.port.reset_input_buffer()
        self.stream = NmeaStream(self.device)
        self._burst_bytes = self._epoch_bytes = 0
        self.is_mid_epoch = False

    @property
    def pause_s(self) -> float:
        """How long the line must be quiet until its epoch is over."""
        return max(PAUSE_S, PAUSE_BYTES * BITS_A_BYTE / self.port.baudrate)

    @property
    def gather_s(self) -> float:
        """How long the kernel may be left to gather bytes."""
        return min(GATHER_S, GATHER_BYTES * BITS_A_BYTE / self.port.baudrate)

    def read(self, now_s: float) -> list[FixReceived]:
        """The fixes that what can be read now completes."""
        try:
            data = os.read(self.port.fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise OSError(errno.ENODEV, "ready to be read, and nothing there")
        self.is_mid_epoch = True
        self._burst_bytes += len(data)
        fixes = list(self.stream.feed(data, now_s))
        for message in self.stream.take_ubx():
            self._receiver.take(message)
        return fixes

    def pause(self) -> FixReceived | None:
        """The line fell quiet; the fix that was waiting for more."""
        self.is_mid_epoch = False
        self._epoch_bytes = max(self._epoch_bytes, self._burst_bytes)
        self._burst_bytes = 0
        return self.stream.pause()

    def ask_receiver(self) -> None:
        """Ask whether it is a u-blox; the answer comes between the sentences, or never."""
        self._write(QUESTIONS)

    def apply_cycle(self, wanted_s: float | None, memory: CycleMemory) -> float | None:
        """Have a u-blox give a fix every ``wanted_s``; the cycle, if it was changed now."""
        if self._epoch_bytes == 0:
            return None
        baud = self.port.baudrate if self._has_uart else USB_BAUD
        command = self._receiver.command(wanted_s, self._epoch_bytes * BITS_A_BYTE / baud)
        own_s, cycle_s = self._receiver.own_cycle_s, self._receiver.cycle_s
        if not command or own_s is None or cycle_s is None:
            return None
        with memory.changing(self.device, own_s, cycle_s):
            self._write(command)
        return cycle_s

    def _write(self, data: bytes) -> None:
        # a line that takes nothing has nobody to ask
        with contextlib.suppress(serial.SerialTimeoutException):
            self.port.write(data)

    def silence(self) -> str:
        """Why nothing usable comes."""
        if self.stream.bytes_read == 0:
            return "the receiver says nothing"
        if self.stream.ubx_messages > 0 and self.stream.sentences == 0:
            return "the receiver speaks UBX only; switch its NMEA output on"
        if self.stream.sentences > 0:
            return "the receiver says nothing more"
        return "only noise comes, no NMEA sentence; is it another baud rate, or another device?"

    def account(self) -> dict[str, Any]:
        """What came so far."""
        return {
            "device": self.device,
            "baud": self.port.baudrate,
            "receiver": self._receiver.version,
            "cycle_s": self._receiver.cycle_s,
            **self.stream.account(),
        }

    def close(self) -> None:
        """Give the port back."""
        with contextlib.suppress(*PORT_ERRORS):
            self.port.close()


_UNPLUGGED: Final = frozenset({errno.ENOENT, errno.EIO, errno.ENXIO, errno.ENODEV})

_REASONS: Final = {
    errno.ENOENT: "it is not there",
    errno.EIO: "it was unplugged",
    errno.ENXIO: "it was unplugged",
    errno.ENODEV: "it was unplugged",
    errno.EACCES: "no permission; add the agent's user to the group dialout",
    errno.EBUSY: "another program has it; is it gpsd?",
    errno.EAGAIN: "another program has it; is it gpsd?",
    errno.ENOTTY: "it is no serial port",
}


def reason_of(error: BaseException) -> str:
    """One of ``PORT_ERRORS`` in words that say what to do."""
    number = _number(error)
    if number is None:
        return str(error)
    return _REASONS.get(number) or os.strerror(number)


def was_unplugged(error: BaseException) -> bool:
    """Whether one of ``PORT_ERRORS`` means that the port is not there any more."""
    return _number(error) in _UNPLUGGED


def _number(error: BaseException) -> int | None:
    number = getattr(error, "errno", None)
    if isinstance(error, termios.error) and error.args:
        number = error.args[0]
    if number is None:
        # pyserial hides some numbers in its text
        number = next((known for known in _REASONS if os.strerror(known) in str(error)), None)
    return number
