"""Whether the kernel says that its clock is disciplined, by NTP, PTP or a receiver.

``adjtimex(2)`` without changes only reads, but a sandbox tells system calls apart, not reading
from setting: ``ProtectClock=yes`` of the agent's unit refuses it. Then a helper outside of that
sandbox is asked, whose unit allows this call and next to nothing else: milepost-clock.service,
which systemd starts with the first question (docs/systemd.md). This module is both ends. It
needs the standard library only, for the helper stays as long as the board runs.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from pathlib import Path
from typing import Final

STA_UNSYNC: Final = 0x0040
TIME_ERROR: Final = 5
"""From ``sys/timex.h``."""

_TIMEX_BYTES: Final = 256
"""More than ``struct timex`` takes on any Linux; ``modes`` is its first int, 0 = only read."""

HELPER: Final = Path("/run/milepost-clock.sock")
"""As in milepost-clock.socket."""

ANSWER_TIMEOUT_S: Final = 1.0

_YES: Final = b"1"
_NO: Final = b"0"
_FIRST_PASSED_FD: Final = 3
"""``SD_LISTEN_FDS_START``, sd_listen_fds(3)."""


def kernel_is_synchronised(helper: Path = HELPER) -> bool:
    """Ask the kernel, or where that is refused the helper; ``False`` where nobody knows."""
    try:
        return read_kernel()
    except PermissionError:
        return _ask(helper)
    except OSError:
        return False


def read_kernel() -> bool:
    """Ask the kernel with ``adjtimex``; raises ``OSError`` where it is refused or unknown."""
    buffer = (ctypes.c_long * (_TIMEX_BYTES // ctypes.sizeof(ctypes.c_long)))()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except AttributeError:
        raise OSError(errno.ENOSYS, "this C library has no adjtimex") from None
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, "adjtimex")
    # struct timex { unsigned modes; long offset, freq, maxerror, esterror; int status; … }
    status = ctypes.c_int.from_buffer(buffer, 5 * ctypes.sizeof(ctypes.c_long)).value
    return bool(state != TIME_ERROR and not status & STA_UNSYNC)


def answer_for_ever(listener: socket.socket) -> None:
    """The helper: each connection is a question, answered with one byte."""
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.send(_YES if read_kernel() else _NO)
            except OSError as error:  # gone before the answer, or refused here too
                print(f"no answer: {error}", file=sys.stderr, flush=True)  # noqa: T201  its log


def _ask(helper: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(str(helper))
            return connection.recv(1) == _YES
    except OSError:
        return False


if __name__ == "__main__":
    answer_for_ever(socket.socket(fileno=_FIRST_PASSED_FD))
