"""What ``serve`` leaves in its data directory for others: a lock and ``serve.json``.

``serve.json`` is there exactly while the cloud is ready to take messages; a crash leaves
it behind, and the lock then tells that nobody serves.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cloud.errors import ConfigError
from cloud.files import write_atomically

LOCK_NAME: Final = "serve.lock"
READY_NAME: Final = "serve.json"


class DataLock:
    """Held by the one process that serves a data directory; freed by the kernel."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            ConfigError: another process has it, or the directory cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(
                f"cannot use the data directory {self._path.parent}: {error.strerror}",
                hint="give a directory that this user may write to with --data",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise ConfigError(
                f"{self._path.parent} is served already, by process {holder or 'unknown'}",
                hint="stop that one, or give another directory with --data",
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(descriptor)
            raise ConfigError(
                f"cannot write to the data directory {self._path.parent}: {error.strerror}",
                hint="make room there, or give another directory with --data",
            ) from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_ready(data_dir: Path, *, mqtt_port: int, http_url: str, files_port: int) -> None:
    """Tell others where this process listens."""
    document = {
        "pid": os.getpid(),
        "mqtt_port": mqtt_port,
        "http_url": http_url,
        "files_port": files_port,
    }
    write_atomically(data_dir / READY_NAME, json.dumps(document).encode() + b"\n", 0o644)


def remove_ready(data_dir: Path) -> None:
    """Take it back; nothing happens when it is not there."""
    (data_dir / READY_NAME).unlink(missing_ok=True)
