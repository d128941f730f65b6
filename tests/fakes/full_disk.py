"""A disk that is full from the n-th write on: opens for writing, mkdir and symlink fail.

As on a real one, removing and renaming still work. Python tells its audit hooks of each of
these before it happens, and what a hook raises is what the caller gets.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path

_GROWS = {"os.mkdir", "os.symlink"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_active = []
_installed = []


class FullDisk:
    """Writes below ``folder``; ``happened`` once one has failed."""

    def __init__(self, folder, writes):
        self._folder = str(Path(folder).resolve())
        self._left = writes
        self.happened = False

    def before(self, event, args):
        if event == "open":
            path, _, flags = args
            grows = isinstance(flags, int) and flags & _WRITES
        else:
            path, grows = args[1] if event == "os.symlink" else args[0], event in _GROWS
        if not grows or not isinstance(path, (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(path)
        if not path.startswith(self._folder) or path.endswith("lock"):
            return
        if self._left <= 0:
            self.happened = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self._left -= 1


def _hook(event, args):
    if _active and (event == "open" or event in _GROWS):
        _active[-1].before(event, args)


@contextlib.contextmanager
def full_disk(folder, writes):
    """Let so many writes through."""
    if not _installed:
        sys.addaudithook(_hook)  # which cannot be taken away again
        _installed.append(True)
    disk = FullDisk(folder, writes)
    _active.append(disk)
    try:
        yield disk
    finally:
        _active.remove(disk)
