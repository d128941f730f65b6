"""A disk with a volatile write cache: what a power cut may lose is really lost.

Killing QEMU alone loses nothing that the guest has written, flushed or not: it is in this
machine's page cache. So the guest's disk is this one. Its invariants:

1. What was written before a flush (or with FUA) was answered survives a power cut whole.
2. Of the writes since then each may be lost, may have arrived, or may be torn: any of its
   sectors arrived and the others did not. A later write may arrive though an earlier one is
   lost. A sector is never torn itself. So says ATA and NVMe of a volatile cache.
3. Until then reads see the newest write.
4. A cache that runs full is emptied into the durable part, as drives do.
"""

import os
import threading
import time
from dataclasses import dataclass
from enum import Enum

SECTOR_BYTES = 512
BLOCK_BYTES = 4096
CACHE_BYTES = 32 * 1024 * 1024


class PowerGoneError(Exception):
    """The disk has no power: whoever asks gets no answer at all."""


class Fate(Enum):
    """What a power cut does to the unflushed writes."""

    LOST = "lost"
    """All are gone: a cache that empties itself only when told to."""

    TORN = "torn"
    """Each by itself is lost, arrived or torn."""


@dataclass(frozen=True)
class CutDamage:
    """What one power cut did."""

    unflushed_writes: int
    unflushed_bytes: int
    lost: int
    arrived: int
    torn: int


class VolatileDisk:
    """The disk in ``path``; thread-safe."""

    def __init__(self, path):
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self._file).st_size
        self._pending = []
        self._pending_bytes = 0
        self._newest = {}
        self._lock = threading.Lock()
        self._has_power = True
        self.bytes_written = 0
        self.flushes = 0

    def read(self, offset, length):
        """``length`` bytes at ``offset``."""
        with self._lock:
            self._need_power()
            data = bytearray(os.pread(self._file, length, offset))
            if self._newest:
                first, last = offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES
                for block in range(first, last + 1):
                    newest = self._newest.get(block)
                    if newest is not None:
                        begin = max(offset, block * BLOCK_BYTES)
                        end = min(offset + length, (block + 1) * BLOCK_BYTES)
                        data[begin - offset : end - offset] = newest[
                            begin - block * BLOCK_BYTES : end - block * BLOCK_BYTES
                        ]
            return bytes(data)

    def write(self, offset, data):
        """Into the cache."""
        with self._lock:
            self._need_power()
            self.bytes_written += len(data)
            self._pending.append((offset, data))
            self._pending_bytes += len(data)
            done = 0
            while done < len(data):
                block, begin = divmod(offset + done, BLOCK_BYTES)
                piece = data[done : done + BLOCK_BYTES - begin]
                newest = self._newest.get(block)
                if newest is None:
                    newest = bytearray(os.pread(self._file, BLOCK_BYTES, block * BLOCK_BYTES))
                    self._newest[block] = newest
                newest[begin : begin + len(piece)] = piece
                done += len(piece)
            if self._pending_bytes > CACHE_BYTES:
                self._settle()

    def flush(self):
        """Everything that was written is durable when this returns."""
        with self._lock:
            self._need_power()
            self.flushes += 1
            self._settle()

    def darken(self, *, aim_s=0.0):
        """The power goes: no request is answered until ``power_cut`` has said what is lost.

        With ``aim_s`` it goes at the worst moment: as soon as something is unflushed, or
        after so many seconds.
        """
        deadline = time.monotonic() + aim_s
        while True:
            with self._lock:
                if self._pending or time.monotonic() >= deadline:
                    self._has_power = False
                    return
            time.sleep(0.0005)

    def power_cut(self, fate, random):
        """The cache loses what it holds; the disk can be used again, as after the next start."""
        with self._lock:
            self._has_power = True
            pending, total_bytes = self._pending, self._pending_bytes
            self._forget()
            counts = dict.fromkeys(("lost", "arrived", "torn"), 0)
            for offset, data in pending:
                outcome = "lost" if fate is Fate.LOST else random.choice(tuple(counts))
                if outcome == "torn" and len(data) <= SECTOR_BYTES:
                    outcome = random.choice(("lost", "arrived"))
                counts[outcome] += 1
                if outcome == "arrived":
                    os.pwrite(self._file, data, offset)
                elif outcome == "torn":
                    self._tear(offset, data, random)
            return CutDamage(len(pending), total_bytes, **counts)

    def close(self):
        """Lose what is unflushed and close the file; idempotent."""
        with self._lock:
            self._forget()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _need_power(self):
        if not self._has_power:
            raise PowerGoneError

    def _settle(self):
        for offset, data in self._pending:
            os.pwrite(self._file, data, offset)
        self._forget()

    def _forget(self):
        self._pending, self._pending_bytes, self._newest = [], 0, {}

    def _tear(self, offset, data, random):
        for begin in range(0, len(data), SECTOR_BYTES):
            if random.random() < 0.5:
                os.pwrite(self._file, data[begin : begin + SECTOR_BYTES], offset + begin)
