"""A serial line on a pseudo terminal: bytes take the time that their baud rate gives them.

As on a UART, whoever reads at another baud rate gets noise, and what comes while nobody
has the port open is lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
import tty
from pathlib import Path
from random import Random
from typing import Final

from simulator.clock import monotonic_s
from simulator.errors import PortError

BITS_A_BYTE: Final = 10
"""Start, eight data, stop."""

_CHUNK_S: Final = 0.016
"""USB adapters hand on what came in so long; a UART's buffer does much the same."""

_FULL_S: Final = 1.0
"""A reader that takes nothing for so long has lost the rest, as a UART's buffer would."""

_OUTPUT_SPEED: Final = 5
"""Of the list that ``tcgetattr`` gives."""


class SerialLine:
    """``open`` makes the port; ``link`` is a symbolic link to it, e.g. ``/tmp/gps0``."""

    def __init__(self, *, baud: int, link: Path | None = None) -> None:
        self.baud = baud
        self.port = ""
        """The path to open; after ``open``."""
        self.bytes_sent = 0
        self.bytes_lost = 0
        """What nobody read in time."""
        self._link = link
        self._master: int | None = None
        self._closing = threading.Lock()
        self._terminal = ""
        self._speed_code: int | None = getattr(termios, f"B{baud}", None)
        self._noise = Random(baud)  # noqa: S311 -- noise on a line guards nothing

    def open(self) -> None:
        """Make the pseudo terminal and the link.

        Raises:
            PortError: there are no more of them, or the link cannot be made.
        """
        try:
            self._master, slave = os.openpty()
            tty.setraw(slave)
            self.port = self._terminal = os.ttyname(slave)
            os.close(slave)
            os.set_blocking(self._master, False)
            if self._link is not None:
                self._make_link(self._link)
                self.port = str(self._link)
        except OSError as error:
            self.close()
            raise PortError(
                f"cannot make a serial port{f' at {self._link}' if self._link else ''}: "
                f"{error.strerror}",
                hint="choose a --link in a folder that you may write to, e.g. /tmp/gps0",
            ) from error

    def close(self) -> None:
        """Unplug: who has the port open gets an error. From any thread, idempotent."""
        link = self._link
        if link is not None and link.is_symlink() and str(link.readlink()) == self._terminal:
            link.unlink()
        with self._closing:
            master, self._master = self._master, None
        if master is not None:
            os.close(master)

    def has_reader(self) -> bool:
        """Whether a program has the port open."""
        if self._master is None:
            return False
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def send(self, data: bytes, due_s: float, stopping: threading.Event, speed: float) -> float:
        """Send from ``due_s`` on (monotonic); when the line will be free again.

        ``speed`` is how many times as fast as real the line is. Returns early when told to stop.
        """
        bytes_per_s = self.baud / BITS_A_BYTE * speed
        size = min(max(int(bytes_per_s * _CHUNK_S), 1), 4_096)
        for start in range(0, len(data), size):
            chunk = data[start : start + size]
            due_s += len(chunk) / bytes_per_s
            while (left_s := due_s - monotonic_s()) > 0:
                if stopping.wait(left_s):
                    return due_s
            self._write(chunk, stopping)
        return due_s

    def _write(self, chunk: bytes, stopping: threading.Event) -> None:
        self._hear_out()
        if self._master is None or not self.has_reader():
            self.bytes_lost += len(chunk)
            return
        if self._is_misread():
            chunk = self._noise.randbytes(len(chunk))
        give_up_s = monotonic_s() + _FULL_S
        while chunk and not stopping.is_set():
            try:
                written = os.write(self._master, chunk)
            except BlockingIOError:
                written = 0
            except OSError:
                break
            self.bytes_sent += written
            chunk = chunk[written:]
            if chunk and monotonic_s() >= give_up_s:
                break
            if chunk:
                select.select([], [self._master], [], 0.05)
        self.bytes_lost += len(chunk)

    def _is_misread(self) -> bool:
        """Whether the reader has set another baud rate (a pseudo terminal itself has none)."""
        if self._master is None or self._speed_code is None:
            return False
        with contextlib.suppress(termios.error):
            # of the master it gives the settings of the other side (Linux, tty_ioctl)
            return bool(termios.tcgetattr(self._master)[_OUTPUT_SPEED] != self._speed_code)
        return False

    def _hear_out(self) -> None:
        """Take what the reader writes, or its writes would block one day."""
        with contextlib.suppress(OSError):
            if self._master is not None:
                os.read(self._master, 4_096)

    def _make_link(self, link: Path) -> None:
        if link.is_symlink() and str(link.readlink()).startswith("/dev/pts/"):
            # of a simulator that was killed
            link.unlink()
        link.symlink_to(self._terminal)
