"""candump text logs (``candump -l`` and ``-L`` of can-utils), read as a stream.

::

    (1627274455.012500) can1 17F00010#2010000000000000      classic, 29-bit id
    (1627274455.023950) can1 7E8#03412F8C00000000 R         received (T: sent)
    (1627274455.030000) can1 123#R2                         remote request
    (1627274455.040000) can1 123##3AABBCC                   CAN FD, flags 3 (BRS, ESI)
    (1627274455.050000) can1 20000088#0000800000000000      the controller's error report

Times in a log may step; what a player needs is how much later each frame came. A line
that is none of these is counted with its number and never used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from simulator.errors import CanLogError

MAX_LINE_BYTES: Final = 512
MAX_BAD_LINES_KEPT: Final = 1000
MAX_STEP_S: Final = 86_400.0
"""More than this between two frames is a logger's clock that jumped, not a pause."""

_LINE: Final = re.compile(
    rb"\((\d{1,12}\.\d{1,9})\)\s+(\S{1,32})\s+"
    rb"([0-9A-F]{3}|[0-9A-F]{8})(##([0-9A-F])|#R|#)([0-9A-F]*)(?:_[9A-F])?(?:\s+[RT])?",
    re.IGNORECASE,
)
_REMARK: Final = b"#"
_ERROR_FLAG: Final = 0x2000_0000
_ID_MASK: Final = 0x1FFF_FFFF
_FD_BRS: Final = 1
_FD_ESI: Final = 2
_FD_LENGTHS: Final = frozenset({*range(9), 12, 16, 20, 24, 32, 48, 64})


@dataclass(frozen=True, slots=True)
class LoggedFrame:
    """One frame; ``offset_s`` counts from the log's first, of any channel, never decreasing."""

    offset_s: float
    timestamp_s: float
    """As logged, by the logger's clock."""
    channel: str
    arbitration_id: int
    """For an error report the error class bits (``linux/can/error.h``)."""
    data: bytes = b""
    length: int = 0
    """Bytes of data; for a remote request the number asked for."""
    extended: bool = False
    remote: bool = False
    error: bool = False
    fd: bool = False
    bitrate_switch: bool = False
    error_state: bool = False


@dataclass(frozen=True, slots=True)
class BadCanLine:
    """A line that is no frame; ``number`` counts from 1."""

    number: int
    text: str


@dataclass(slots=True)
class CanLogCounts:
    """What was read so far.

    ``lines = frames + other_channels + bad_lines + empty_lines``.
    """

    lines: int = 0
    frames: int = 0
    error_frames: int = 0
    fd_frames: int = 0
    other_channels: int = 0
    """Frames of interfaces that were not asked for."""
    bad_lines: int = 0
    empty_lines: int = 0
    """Nothing, or a remark: a line that begins with ``#``."""
    steps_back: int = 0
    clock_jumps: int = 0
    bytes_read: int = 0
    bad: list[BadCanLine] = field(default_factory=list)
    """The first ``MAX_BAD_LINES_KEPT``."""


class CanLog:
    """A candump log. Each iteration reads the file anew, line by line, and counts anew.

    ``log_channel`` picks one of the log's interfaces (``can1``); ``None`` takes all.
    ``max_gap_s`` shortens longer pauses.
    """

    def __init__(
        self, path: Path | str, *, log_channel: str | None = None, max_gap_s: float | None = None
    ) -> None:
        self.path = Path(path)
        self.counts = CanLogCounts()
        self._log_channel = log_channel
        self._max_gap_s = MAX_STEP_S if max_gap_s is None else max_gap_s

    def __iter__(self) -> Iterator[LoggedFrame]:
        """The frames in the log's order.

        Raises:
            CanLogError: the file cannot be read.
        """
        self.counts = CanLogCounts()
        try:
            with self.path.open("rb") as log:
                yield from self._frames(log)
        except OSError as error:
            raise CanLogError(
                f"{self.path} cannot be read: {error.strerror}",
                hint="give the path of a candump log, e.g. --can drive.candump",
            ) from error

    def survey(self) -> CanLogCounts:
        """Read the whole log once.

        Raises:
            CanLogError: the file cannot be read, or no line of it is a frame.
        """
        for _ in self:
            pass
        counts = self.counts
        if not counts.frames:
            raise CanLogError(
                f"{self.path} holds no frame: {counts.lines} lines, {counts.bad_lines} bad",
                hint="a candump log has lines like '(1627274455.012500) can0 7E8#0341054000'",
            )
        return counts

    def _frames(self, log: BinaryIO) -> Iterator[LoggedFrame]:
        counts = self.counts
        offset_s = 0.0
        last_s: float | None = None
        while line := log.readline(MAX_LINE_BYTES + 2):
            counts.lines += 1
            counts.bytes_read += len(line)
            if len(line) > MAX_LINE_BYTES:
                self._skip_rest(log, line)
                self._bad(line)
                continue
            text = line.strip()
            if not text or text.startswith(_REMARK):
                counts.empty_lines += 1
                continue
            frame = _parse(text)
            if frame is None:
                self._bad(text)
                continue
            offset_s += self._step_s(last_s, frame.timestamp_s)
            last_s = frame.timestamp_s
            if self._log_channel is not None and frame.channel != self._log_channel:
                counts.other_channels += 1
                continue
            counts.frames += 1
            counts.error_frames += frame.error
            counts.fd_frames += frame.fd
            yield replace(frame, offset_s=offset_s)

    def _step_s(self, last_s: float | None, now_s: float) -> float:
        step_s = 0.0 if last_s is None else now_s - last_s
        if step_s < 0:
            self.counts.steps_back += 1
            return 0.0
        if step_s > MAX_STEP_S:
            self.counts.clock_jumps += 1
            return 0.0
        return min(step_s, self._max_gap_s)

    def _skip_rest(self, log: BinaryIO, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = log.readline(65_536)
            self.counts.bytes_read += len(line)

    def _bad(self, text: bytes) -> None:
        self.counts.bad_lines += 1
        if len(self.counts.bad) < MAX_BAD_LINES_KEPT:
            shown = text[:80].decode("ascii", "backslashreplace")
            self.counts.bad.append(BadCanLine(self.counts.lines, shown))


def _parse(text: bytes) -> LoggedFrame | None:
    """The frame that a line says, ``None`` if it is none."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    seconds, channel, identifier, kind, fd_flags, digits = match.groups()
    number = int(identifier, 16)
    extended = len(identifier) == 8
    if not extended and number > 0x7FF:
        return None
    fd = fd_flags is not None
    remote = kind.upper() == b"#R"
    flags = int(fd_flags, 16) if fd else 0
    if remote:
        data, length = b"", int(digits or b"0", 16)
        if length > 8:
            return None
    else:
        if len(digits) % 2:
            return None
        data = bytes.fromhex(digits.decode("ascii"))
        length = len(data)
        if length not in _FD_LENGTHS if fd else length > 8:
            return None
    error = extended and bool(number & _ERROR_FLAG)
    return LoggedFrame(
        0.0,
        float(seconds),
        channel.decode("ascii", "backslashreplace"),
        number & _ID_MASK,
        data,
        length,
        extended=extended and not error,
        remote=remote,
        error=error,
        fd=fd,
        bitrate_switch=bool(flags & _FD_BRS),
        error_state=bool(flags & _FD_ESI),
    )
