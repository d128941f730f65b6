"""What stands at a place, and putting something there so that a cut leaves the old or the new."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from agent.errors import StateError
from agent.files import sync_folder

PLAIN_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Standing:
    """A file (``data``), a symbolic link (``link``), or nothing at all."""

    data: bytes | None = None
    link: str | None = None
    mode: int = PLAIN_MODE
    uid: int | None = None
    gid: int | None = None

    @property
    def is_absent(self) -> bool:
        """Nothing is there."""
        return self.data is None and self.link is None

    @property
    def digest(self) -> str:
        """Of what is in it; not of whose it is."""
        if self.link is not None:
            return f"link:{self.link}"
        return "absent" if self.data is None else sha256(self.data).hexdigest()

    @property
    def text(self) -> str:
        """For a diff."""
        if self.link is not None:
            return f"-> {self.link}\n"
        return (self.data or b"").decode("utf-8", "replace")


ABSENT: Final = Standing()


def look(path: Path) -> Standing:
    """What stands there.

    Raises:
        StateError: a folder or a device is there, or it cannot be read.
    """
    try:
        about = path.lstat()
        mode, uid, gid = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
        if stat.S_ISLNK(about.st_mode):
            return Standing(link=str(path.readlink()), mode=mode, uid=uid, gid=gid)
        if stat.S_ISREG(about.st_mode):
            return Standing(data=path.read_bytes(), mode=mode, uid=uid, gid=gid)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {error.strerror}", hint="Run it with sudo."
        ) from error
    raise StateError(f"{path} is neither a file nor a link", hint="Move it away, then try again.")


def place(path: Path, wanted: Standing) -> None:
    """Put ``wanted`` there; its folder must be there.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    clear(path)
    if wanted.is_absent:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        return
    temporary = _temporary(path)
    if wanted.link is not None:
        temporary.symlink_to(wanted.link)
    else:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            file.write(wanted.data or b"")
            # the boot partition is FAT, which has neither
            with contextlib.suppress(PermissionError):
                os.fchmod(file.fileno(), wanted.mode)
            if wanted.uid is not None and wanted.gid is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), wanted.uid, wanted.gid)
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def clear(path: Path) -> None:
    """Remove what a cut has left beside it."""
    _temporary(path).unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".milepost-new")


def make_folders(path: Path) -> list[Path]:
    """Make what is missing of a folder's path; gives those made, the outer first."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o755)
        sync_folder(folder.parent)
    return missing[::-1]
