"""Disks as a power cut may leave them, made from the log of ``disk_shim.c``.

What was synced is there. Of what was written since, any part may be: all, nothing, some,
and the last write torn at a sector. Names (rename, unlink) are taken to be kept in order,
as the journal of ext4 keeps them.
"""

import json
from dataclasses import dataclass

SECTOR_BYTES = 512


@dataclass(frozen=True)
class Change:
    """One record of the log."""

    kind: str
    name: str
    other: str
    offset: int
    data: bytes


def read_log(path):
    """The changes, in order; marks among them."""
    content = path.read_bytes()
    changes, at = [], 0
    while at < len(content):
        end = content.index(b"\n", at)
        kind, name, other, offset, size = content[at:end].decode().split(" ")
        at = end + 1 + int(size)
        changes.append(Change(kind, name, other, int(offset), content[end + 1 : at]))
    return changes


class Disk:
    """What is durable, and what was written since and may be."""

    def __init__(self, folder):
        self._files = {path.name: path.read_bytes() for path in folder.glob("outbox.db*")}
        self._pending = {}
        self.marked = {}

    def apply(self, change):
        """The next record of the log."""
        if change.kind == "M":
            self.marked = json.loads(change.name)
        elif change.kind == "S":
            self._files[change.name] = self._with(change.name, self._waiting(change.name))
            self._pending[change.name] = []
        elif change.kind == "R":
            for files in (self._files, self._pending):
                if change.name in files:
                    files[change.other] = files.pop(change.name)
        elif change.kind == "U":
            self._files.pop(change.name, None)
            self._pending.pop(change.name, None)
        else:
            self._pending.setdefault(change.name, []).append(change)

    def _waiting(self, name):
        return self._pending.get(name, [])

    def _with(self, name, changes):
        content = bytearray(self._files.get(name, b""))
        for change in changes:
            if change.kind == "T":
                content = content[: change.offset].ljust(change.offset, b"\0")
            else:
                content = content.ljust(change.offset, b"\0")
                content[change.offset : change.offset + len(change.data)] = change.data
        return bytes(content)

    def leave(self, folder, how, random):
        """Write the files as a cut leaves them: ``nothing``, ``all``, ``some`` or ``torn``."""
        folder.mkdir()
        for name in self._files.keys() | self._pending.keys():
            waiting = self._waiting(name)
            if how == "nothing":
                waiting = []
            elif how == "some":
                waiting = [change for change in waiting if random.random() < 0.5]
            elif how == "torn" and waiting:
                *waiting, last = waiting
                sectors = len(last.data) // SECTOR_BYTES
                if last.kind == "W" and sectors:
                    size = random.randint(0, sectors) * SECTOR_BYTES
                    waiting.append(Change("W", name, "-", last.offset, last.data[:size]))
            (folder / name).write_bytes(self._with(name, waiting))
