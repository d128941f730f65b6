"""Which sequences of a run are there, as ranges that know the time at their ends.

A run is kept in blocks of ``BLOCK`` sequences, so that a message changes a few hundred
bytes whatever the run's length. A block in which every second sequence was thinned takes
a few KB; one that is complete a few dozen bytes.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

BLOCK: Final = 4_096


def block_of(sequence: int) -> int:
    """The number of the block that a sequence is in."""
    return sequence // BLOCK


class Range(NamedTuple):
    """Sequences without a gap; the times of the first and last, ms, 0 where unknown."""

    first: int
    last: int
    first_ms: int
    last_ms: int


class Ranges:
    """A set of sequences."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges = list(ranges)
        self._firsts = [one.first for one in self._ranges]

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ranges)

    def __contains__(self, sequence: int) -> bool:
        index = bisect_right(self._firsts, sequence) - 1
        return index >= 0 and sequence <= self._ranges[index].last

    def count(self) -> int:
        """How many sequences are in it."""
        return sum(one.last - one.first + 1 for one in self._ranges)

    def add(self, sequence: int, at_ms: int) -> bool:
        """Whether the sequence was not there yet."""
        index = bisect_right(self._firsts, sequence) - 1
        before = self._ranges[index] if index >= 0 else None
        if before is not None and sequence <= before.last:
            return False
        after = self._ranges[index + 1] if index + 1 < len(self._ranges) else None
        joins_before = before is not None and before.last + 1 == sequence
        joins_after = after is not None and after.first == sequence + 1
        new = Range(sequence, sequence, at_ms, at_ms)
        if joins_before and before is not None:
            new = Range(before.first, new.last, before.first_ms, new.last_ms)
        if joins_after and after is not None:
            new = Range(new.first, after.last, new.first_ms, after.last_ms)
        start = index if joins_before else index + 1
        stop = index + 2 if joins_after else index + 1
        self._ranges[start:stop] = [new]
        self._firsts[start:stop] = [new.first]
        return True

    def to_bytes(self) -> bytes:
        """For a store."""
        flat: list[int] = []
        sequence = at_ms = 0
        for first, last, first_ms, last_ms in self._ranges:
            flat += (first - sequence, last - first, first_ms - at_ms, last_ms - first_ms)
            sequence, at_ms = last, last_ms
        return zlib.compress(json.dumps(flat, separators=(",", ":")).encode())

    @classmethod
    def from_bytes(cls, content: bytes) -> Ranges:
        """What ``to_bytes`` gave."""
        flat: list[int] = json.loads(zlib.decompress(content))
        ranges = []
        sequence = at_ms = 0
        for index in range(0, len(flat), 4):
            first, first_ms = sequence + flat[index], at_ms + flat[index + 2]
            sequence, at_ms = first + flat[index + 1], first_ms + flat[index + 3]
            ranges.append(Range(first, sequence, first_ms, at_ms))
        return cls(ranges)


class Gap(NamedTuple):
    """Missing sequences, and when their neighbours were taken, ms; None: there is none."""

    first: int
    last: int
    before_ms: int | None
    after_ms: int | None

    @property
    def messages(self) -> int:
        """How many are missing."""
        return self.last - self.first + 1


def gaps(ranges: Iterable[Range], end: int) -> list[Gap]:
    """What is missing from 1 to ``end``, of ranges in ascending order."""
    edges = [Range(0, 0, 0, 0), *ranges, Range(end + 1, end + 1, 0, 0)]
    found = []
    for one, other in pairwise(edges):
        if other.first > one.last + 1 and one.last < end:
            found.append(
                Gap(
                    one.last + 1,
                    min(other.first - 1, end),
                    one.last_ms or None,
                    other.first_ms or None,
                )
            )
    return found
