"""Another wall clock for one process, by libfaketime, which a real program cannot tell.

The library stands between the process and the kernel: ``time()`` and ``clock_gettime`` of
the wall clock are off by what a file says, so Python, OpenSSL and SQLite all are in 1970. The
monotonic clock stays, as it does on a board. Writing the file anew is what chrony does when
it steps the clock.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from simulator.clock import utc_now
from simulator.demo.errors import DemoError

BOOT_TAKES_S: Final = 20
"""What passes between the kernel's 1970-01-01 00:00:00 and the agent's start."""

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  where shm_open puts it

PLACES: Final = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def library() -> Path:
    """Where libfaketime is.

    Raises:
        DemoError: it is not installed.
    """
    for pattern in PLACES:
        for path in sorted(Path("/").glob(pattern.removeprefix("/"))):
            return path
    raise DemoError(
        "clock-1970 needs libfaketime, which is not installed",
        hint="sudo apt-get install faketime",
    )


def forget_ended() -> None:
    """Remove what the library left of processes that were killed: a semaphore, perhaps locked.

    A later process of the same number would take it for its own.
    """
    for pattern in ("faketime_shm_*", "sem.faketime_sem_*"):
        for path in SHARED_MEMORY.glob(pattern):
            number = path.name.rpartition("_")[2]
            if number.isdigit() and not Path("/proc", number).exists():
                with contextlib.suppress(OSError):
                    path.unlink()


class WrongClock:
    """``environment()`` is for the process; ``set_wrong`` and ``set_right`` at any time."""

    def __init__(self, folder: Path) -> None:
        self._library = library()
        self._offset_file = folder / "wall-clock-offset"

    def environment(self) -> dict[str, str]:
        """What the process is started with."""
        forget_ended()
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset_file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_wrong(self) -> None:
        """The clock of a board that has just booted without one."""
        self._write(f"-{int(utc_now().timestamp()) - BOOT_TAKES_S}")

    def set_right(self) -> None:
        """One step to the right time."""
        self._write("+0")

    def _write(self, text: str) -> None:
        temporary = self._offset_file.with_suffix(f".{os.getpid()}")
        temporary.write_text(text, encoding="ascii")
        temporary.replace(self._offset_file)
