"""Reads the pages of an SQLite file and of its log without SQLite, however damaged.

After the file format in sqlite.org/fileformat2.html: section 1.3 the header, 1.5 the
free list, 4.1 and 4.2 the log. Nothing here raises for damaged content.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

DEFAULT_PAGE_BYTES: Final = 4096
_MAGIC: Final = b"SQLite format 3\x00"
_LOG_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
_LOG_MAGIC: Final = 0x377F0682
"""The last bit says in which byte order the checksums were made."""

_MASK: Final = 0xFFFFFFFF


class Pages:
    """The newest version of each page: from the log where a committed frame has it."""

    def __init__(self, path: Path) -> None:
        log = path.with_name(path.name + "-wal")
        self._file = path.open("rb") if path.exists() else None
        self._log = log.open("rb") if log.exists() else None
        self.page_bytes = self._find_page_bytes()
        self._frames = self._committed_frames()
        in_file = self._size(self._file) // self.page_bytes
        self.count = max(in_file, max(self._frames, default=0))

    def close(self) -> None:
        """Idempotent."""
        for file in (self._file, self._log):
            if file is not None:
                file.close()

    def page(self, number: int) -> bytes:
        """Page ``number``, from 1; empty where it is not there or cannot be read."""
        offset = self._frames.get(number)
        try:
            if offset is not None and self._log is not None:
                self._log.seek(offset)
                content = self._log.read(self.page_bytes)
            elif self._file is not None:
                self._file.seek((number - 1) * self.page_bytes)
                content = self._file.read(self.page_bytes)
            else:
                return b""
        except OSError:
            return b""  # a worn card answers EIO for one sector, not for the next
        return content if len(content) == self.page_bytes else b""

    def is_complete(self) -> bool:
        """Every page that the header tells of is there."""
        header = self.page(1)
        told = int.from_bytes(header[28:32], "big") if header.startswith(_MAGIC) else 0
        in_file = self._size(self._file) // self.page_bytes
        return all(number in self._frames for number in range(in_file + 1, told + 1))

    def free_pages(self) -> set[int]:
        """Pages of the free list: what is in them was deleted long ago."""
        found: set[int] = set()
        header = self.page(1)
        trunk = int.from_bytes(header[32:36], "big") if header.startswith(_MAGIC) else 0
        while 0 < trunk <= self.count and trunk not in found:
            found.add(trunk)
            content = self.page(trunk)
            entries = min(int.from_bytes(content[4:8], "big"), self.page_bytes // 4 - 2)
            for entry in range(entries if content else 0):
                found.add(int.from_bytes(content[8 + 4 * entry : 12 + 4 * entry], "big"))
            trunk = int.from_bytes(content[:4], "big")
        return found

    def _size(self, file: IO[bytes] | None) -> int:
        return file.seek(0, 2) if file is not None else 0

    def _find_page_bytes(self) -> int:
        head = self._start(self._file, 18)
        if head.startswith(_MAGIC):
            found = int.from_bytes(head[16:18], "big")
            found = 65_536 if found == 1 else found
        else:
            found = int.from_bytes(self._start(self._log, 12)[8:12], "big")
        sound = 512 <= found <= 65_536 and found & (found - 1) == 0
        return found if sound else DEFAULT_PAGE_BYTES

    def _start(self, file: IO[bytes] | None, size: int) -> bytes:
        if file is None:
            return b""
        try:
            file.seek(0)
            return file.read(size)
        except OSError:
            return b""

    def _committed_frames(self) -> dict[int, int]:
        """Page number -> offset of its content in the log.

        SQLite stops at the first frame whose checksum is wrong; behind a hole that is damage
        transactions are taken here as far as they go.
        """
        frames: dict[int, int] = {}
        pending: dict[int, int] = {}
        for frame in _read_log(self._log)[0] if self._log is not None else ():
            if frame.content_bytes != self.page_bytes:
                break
            if frame.usable:
                pending[frame.page] = frame.offset
            if frame.commits:
                frames.update(pending)
                pending.clear()
        return frames


def is_short(path: Path) -> bool:
    """Whether pages are missing at the end: SQLite would read zeros where a long row goes on."""
    if not path.exists() or not path.stat().st_size:
        return False
    pages = Pages(path)
    try:
        return not pages.is_complete()
    finally:
        pages.close()


def log_has_hole(path: Path) -> bool:
    """Whether SQLite would silently stop in the middle of a log: synced commits follow.

    Reads the whole log, 1 MB at most in about 0.1 s; after an orderly end there is none.
    """
    if not path.exists():
        return False
    with path.open("rb") as log:
        return _read_log(log)[1]


@dataclass(frozen=True, slots=True)
class _Frame:
    page: int
    offset: int
    content_bytes: int
    commits: bool
    usable: bool


def _read_log(log: IO[bytes]) -> tuple[list[_Frame], bool]:
    """The frames to take, and whether there is damage among them.

    A power cut leaves of the one transaction that was not synced any of its frames, in any
    order that the disk chose: then SQLite, which ends at the first that is not there, has all
    that a commit had returned for, and what lies behind must not replace it. Where more than
    that transaction's own commit follows, what is missing was synced once.
    """
    frames = list(_frames(log))
    hole = next((index for index, frame in enumerate(frames) if not frame.usable), len(frames))
    behind = [frame for frame in frames[hole:] if frame.usable]
    commits = [index for index, frame in enumerate(behind) if frame.commits]
    if not commits or commits == [len(behind) - 1]:
        return frames[:hole], False
    return frames, True


def _frames(log: IO[bytes]) -> Iterator[_Frame]:
    """The frames of a log; those of an earlier use of it, and torn ones, are not usable.

    A frame's checksum goes on from the one before it, whose own is in its header, so
    frames behind a bad one can be told too. The first behind a lost header cannot be
    checked; it is taken for its salts.
    """
    try:
        log.seek(0)
        head = log.read(_LOG_HEADER.size)
        if len(head) < _LOG_HEADER.size:
            return
        magic, _, size, _, salt1, salt2, sum1, sum2 = _LOG_HEADER.unpack(head)
        if magic & ~1 != _LOG_MAGIC or not 512 <= size <= 65_536:
            return
        order, known = ">" if magic & 1 else "<", True
        while len(frame := log.read(_FRAME_HEADER.size + size)) == _FRAME_HEADER.size + size:
            page, committed, own_salt1, own_salt2, own1, own2 = _FRAME_HEADER.unpack_from(frame)
            content = frame[_FRAME_HEADER.size :]
            offset = log.tell() - size
            if (own_salt1, own_salt2) != (salt1, salt2):
                known = False
                yield _Frame(page, offset, size, commits=False, usable=False)
                continue
            sound = not known or _checksum(order, (frame[:8], content), sum1, sum2) == (own1, own2)
            sum1, sum2, known = own1, own2, True
            yield _Frame(page, offset, size, commits=committed > 0, usable=sound)
    except OSError:
        return  # a worn card: what was read so far is what there is


def _checksum(order: str, parts: Iterable[bytes], sum1: int, sum2: int) -> tuple[int, int]:
    """Section 4.2 of the file format: over pairs of 32-bit words."""
    for part in parts:
        words = struct.unpack(f"{order}{len(part) // 4}I", part)
        for first, second in zip(words[::2], words[1::2], strict=True):
            sum1 = (sum1 + first + sum2) & _MASK
            sum2 = (sum2 + second + sum1) & _MASK
    return sum1, sum2
