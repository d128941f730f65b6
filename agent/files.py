"""Small state files that survive a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace a file so that a power cut leaves the old or the new one.

    It has ``mode`` (less the umask) from its making, so that a secret is never readable
    for others, not even for a moment.

    Raises:
        OSError: neither the file nor its folder could be written; the old one stays.
    """
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # of an earlier power cut: it would keep its own mode
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """See that what was made, renamed or removed in it survives a power cut.

    Raises:
        OSError: the disk did not take it.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        with contextlib.suppress(OSError):
            os.close(folder)
