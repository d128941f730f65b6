"""The agent's inbox, where root reads and writes in a directory that is not root's.

::

    package.deb     fetched by the agent
    request.json    written last by the agent: please install it
    taken.json      the same, renamed by the updater, so that the agent cannot withdraw it
    result.json     written by the updater

Everything goes through the directory's descriptor, follows no link, opens regular files
only and reads no more than it is told to. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from agent.updater.board import UpdateError

PACKAGE_NAME: Final = "package.deb"
REQUEST: Final = "request.json"
TAKEN: Final = "taken.json"
RESULT: Final = "result.json"
MAX_REQUEST_BYTES: Final = 16 * 1024


class Inbox:
    """Open as long as its ``with`` block."""

    def __init__(self, descriptor: int) -> None:
        self._folder = descriptor

    def take(self) -> dict[str, Any] | None:
        """The request, which from now on is the updater's; ``None`` where there is none.

        One that was taken before a power cut comes again.

        Raises:
            UpdateError: it is no JSON object, or no regular file.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(REQUEST, TAKEN, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            with self.open(TAKEN) as file:
                request = json.loads(file.read(MAX_REQUEST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UpdateError(f"the request cannot be read: {error}") from error
        if not isinstance(request, dict):
            raise UpdateError("the request is no JSON object")
        return request

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A regular file, for reading.

        Raises:
            OSError: it is not there, or is a link, a device, a pipe or a directory.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self._folder)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{name} is no regular file")
            yield file

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result for the directory's owner, and only then forget the request."""
        draft = f".{RESULT}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        owner = os.fstat(self._folder)
        descriptor = os.open(draft, flags, 0o600, dir_fd=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(result).encode() + b"\n")
            file.flush()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fsync(descriptor)
        os.rename(draft, RESULT, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.forget()
        os.fsync(self._folder)

    def forget(self) -> None:
        """Remove the request and the package, whatever they are."""
        for name in (TAKEN, PACKAGE_NAME):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)


@contextmanager
def opened(path: Path) -> Iterator[Inbox | None]:
    """The inbox; ``None`` where there is none.

    Raises:
        UpdateError: something else stands there, e.g. a link.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise UpdateError(f"{path} is no directory: {error.strerror}") from error
    try:
        yield Inbox(descriptor)
    finally:
        os.close(descriptor)
