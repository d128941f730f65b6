"""A recorded drive: what an NMEA log says, in epochs, with an account of every line.

A log is anything: a receiver's output with a logger's remarks, vendor sentences, lines
cut in two, binary junk. Every line is counted as exactly one of sentence, bad line or
other text; what is bad is reported with its line number and never used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from simulator.epoch import Epoch, FixMode
from simulator.errors import NmeaError, TraceError
from simulator.merge import EpochMerger
from simulator.nmea import Ignored, Sentence, parse_sentence
from simulator.timeline import Gap, lay_out

MAX_LINE_BYTES: Final = 1024
"""NMEA allows 82; some vendors' sentences have several hundred."""

MAX_BAD_LINES_KEPT: Final = 1000
MAX_IGNORED_KINDS: Final = 200
_REMARK: Final = b"#"
_UNTIMED: Final = re.compile(rb"\$G[A-Z](GSA|GSV|VTG),")
"""A bad line that begins so hides no new moment; any other may."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that looked like a sentence and is none; ``number`` counts from 1."""

    number: int
    reason: str


@dataclass(slots=True)
class TraceCounts:
    """What the log held. ``lines = sentences + bad_lines + other_lines``."""

    lines: int = 0
    sentences: int = 0
    """Sound ones, the ignored included."""
    bad_lines: int = 0
    other_lines: int = 0
    """Remarks, empty lines, text without a sentence."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Sound sentences of kinds that are not read, by address."""
    epochs: int = 0
    fixes: int = 0
    fixes_2d: int = 0
    fixes_3d: int = 0
    no_fix: int = 0
    partial_epochs: int = 0
    """Remains of an epoch without RMC and GGA, at the log's torn places."""
    steps_back: int = 0
    clock_jumps: int = 0
    midnights: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """A log in epochs, in the log's order."""

    name: str
    epochs: tuple[Epoch, ...]
    interval_s: float
    """The usual time between two epochs."""
    gaps: tuple[Gap, ...]
    bad_lines: tuple[BadLine, ...]
    """The first ``MAX_BAD_LINES_KEPT``; ``counts.bad_lines`` has them all."""
    counts: TraceCounts

    @property
    def duration_s(self) -> float:
        """From the first epoch to the last."""
        return self.epochs[-1].offset_s if self.epochs else 0.0


def read_trace(path: Path | str) -> Trace:
    """Read an NMEA log.

    Raises:
        TraceError: the file cannot be read, or holds not one epoch.
    """
    path = Path(path)
    try:
        with path.open("rb") as log:
            return _read(path.name, log)
    except OSError as error:
        raise TraceError(
            f"{path} cannot be read: {error.strerror}",
            hint="give the path of an NMEA log, e.g. --nmea drive.nmea",
        ) from error


def _read(name: str, log: BinaryIO) -> Trace:
    counts = TraceCounts()
    bad: list[BadLine] = []
    merger = EpochMerger()
    collected: list[Epoch] = []
    for number, line in enumerate(_lines(log), start=1):
        counts.lines += 1
        start = max(line.rfind(b"$"), line.rfind(b"!"))
        if start < 0 or line.startswith(_REMARK):
            counts.other_lines += 1
            continue
        try:
            sentence = _sentence(line, start)
        except NmeaError as error:
            counts.bad_lines += 1
            if len(bad) < MAX_BAD_LINES_KEPT:
                bad.append(BadLine(number, str(error)))
            if not _UNTIMED.match(line, start):
                merger.tear()
            continue
        counts.sentences += 1
        if isinstance(sentence, Ignored):
            _count_ignored(counts.ignored, sentence.address)
        epoch = merger.feed(sentence)
        if epoch is not None:
            collected.append(epoch)
    last = merger.finish()
    if last is not None:
        collected.append(last)
    counts.partial_epochs = merger.partial_epochs
    if not collected:
        raise TraceError(
            f"{name} holds no position report: {counts.lines} lines, {counts.bad_lines} bad",
            hint="an NMEA log has lines that begin with $GPRMC or $GPGGA (or GN, GL, GA, GB)",
        )
    return _trace(name, collected, bad, counts)


def _trace(name: str, collected: list[Epoch], bad: list[BadLine], counts: TraceCounts) -> Trace:
    timeline = lay_out(collected)
    modes = Counter(epoch.mode for epoch in timeline.epochs)
    counts.epochs = len(timeline.epochs)
    counts.fixes_2d = modes[FixMode.FIX_2D]
    counts.fixes_3d = modes[FixMode.FIX_3D]
    counts.fixes = counts.fixes_2d + counts.fixes_3d
    counts.no_fix = modes[FixMode.NO_FIX]
    counts.steps_back = timeline.steps_back
    counts.clock_jumps = timeline.clock_jumps
    counts.midnights = timeline.midnights
    return Trace(name, timeline.epochs, timeline.interval_s, timeline.gaps, tuple(bad), counts)


def _lines(log: BinaryIO) -> Iterator[bytes]:
    """Lines of bounded length: of an over-long one only enough to see that it is."""
    while line := log.readline(MAX_LINE_BYTES + 2):
        rest = line
        while not rest.endswith(b"\n") and rest:
            rest = log.readline(65_536)
        yield line


def _sentence(line: bytes, start: int) -> Sentence:
    if len(line) > MAX_LINE_BYTES:
        raise NmeaError(f"longer than {MAX_LINE_BYTES} bytes")
    return parse_sentence(line[start:].decode("latin-1").strip())


def _count_ignored(ignored: Counter[str], address: str) -> None:
    if address in ignored or len(ignored) < MAX_IGNORED_KINDS:
        ignored[address] += 1
    else:
        ignored["other"] += 1
