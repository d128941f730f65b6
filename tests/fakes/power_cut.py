"""A power cut before the n-th change of the file system, in this process.

Python tells its audit hooks of each open, rename, unlink, mkdir, rmdir and symlink before
it happens, and a hook that raises keeps it from happening. From the cut on nothing more
happens in the folder, whatever ``finally`` clauses try.
"""

import contextlib
import os
import sys
from pathlib import Path

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class PowerCutError(BaseException):
    """No ``except Exception`` gets to see it, as none gets to see a real one."""


class PowerCut:
    """Changes in ``folder`` from here on are counted; the one after ``changes`` is the cut."""

    def __init__(self, folder, changes):
        self._folder = str(Path(folder).resolve())
        self._left = changes
        self.happened = False

    def before(self, event, args):
        path = self._changed(event, args)
        if path is None or not os.fspath(path).startswith(self._folder):
            return
        if self._left == 0:
            self.happened = True
            raise PowerCutError(f"{event} {path}")
        self._left -= 1

    @staticmethod
    def _changed(event, args):
        if event == "open":
            path, _, flags = args
            is_path = isinstance(path, (str, bytes, os.PathLike))
            return path if is_path and isinstance(flags, int) and flags & _WRITES else None
        if event not in _CHANGES:
            return None
        if event in {"os.remove", "os.rmdir"} and args[1] not in (None, -1):
            # relative to an open folder, as shutil.rmtree does it
            with contextlib.suppress(OSError):
                return Path(f"/proc/self/fd/{args[1]}").readlink() / args[0]
        return args[1] if event == "os.symlink" else args[0]


_active = []


def _hook(event, args):
    if _active and (event == "open" or event.startswith("os.")):
        _active[-1].before(event, args)


_installed = []


@contextlib.contextmanager
def power_cut(folder, changes):
    """Let so many changes through; ``happened`` of what it gives says whether there was a cut."""
    if not _installed:
        sys.addaudithook(_hook)  # which cannot be taken away again
        _installed.append(True)
    cut = PowerCut(folder, changes)
    _active.append(cut)
    try:
        with contextlib.suppress(PowerCutError):
            yield cut
    finally:
        _active.remove(cut)
