"""An NMEA log as a receiver said it: its very bytes, in bursts, one a moment.

Unlike ``simulator.trace`` nothing is understood but the times: bad checksums, vendors'
sentences, garbage and binary are part of what goes over a serial line. Only a logger's
remarks (lines that begin with ``#``) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

from simulator.epoch import Epoch, FixMode
from simulator.errors import NmeaError, TraceError
from simulator.nmea import checksum
from simulator.nmea_fields import date_of, time_of_day_ms
from simulator.timeline import lay_out

_SOUND: Final = re.compile(rb"\$(G[A-Z]([A-Z]{3}),[^$*\r\n]*)\*([0-9A-Fa-f]{2})")
_REMARK: Final = b"#"

_TIME_FIELD: Final = {"RMC": 1, "GGA": 1, "GNS": 1, "GST": 1, "ZDA": 1, "GLL": 5}
_DATE_FIELD: Final = {"RMC": 9}
_OPENS: Final = frozenset({"RMC", "GGA"})
"""Without a time, one that comes again begins a new burst."""


@dataclass(frozen=True, slots=True)
class ReceiverLog:
    """Bursts with their offsets; ``epochs`` carry times and offsets alone, one a burst."""

    name: str
    bursts: tuple[tuple[bytes, ...], ...]
    """Lines with their ends, in the log's order."""
    epochs: tuple[Epoch, ...]
    interval_s: float

    @property
    def longest_burst_bytes(self) -> int:
        """What the line must carry in one interval."""
        return max(sum(map(len, burst)) for burst in self.bursts)


@dataclass(slots=True)
class _Burst:
    time_ms: int | None
    date: date | None
    lines: list[bytes]
    seen: set[bytes]


def read_receiver_log(path: Path | str) -> ReceiverLog:
    """Read a log, whole.

    Raises:
        TraceError: the file cannot be read, or holds no sound sentence with a position.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise TraceError(
            f"{path} cannot be read: {error.strerror}", hint="give the path of an NMEA log"
        ) from error
    bursts = _bursts(lines)
    if all(burst.time_ms is None and not burst.seen for burst in bursts):
        raise TraceError(
            f"{path.name} holds no sound NMEA sentence",
            hint="an NMEA log has lines that begin with $GPRMC or $GPGGA (or GN, GL, GA, GB)",
        )
    timeline = lay_out(
        [
            Epoch(offset_s=0.0, mode=FixMode.NO_FIX, time_of_day_ms=burst.time_ms, date=burst.date)
            for burst in bursts
        ]
    )
    return ReceiverLog(
        path.name,
        tuple(tuple(burst.lines) for burst in bursts),
        timeline.epochs,
        timeline.interval_s,
    )


def _bursts(lines: Sequence[bytes]) -> list[_Burst]:
    bursts = [_Burst(None, None, [], set())]
    for line in lines:
        text = line.rstrip(b"\r")
        if text.startswith(_REMARK) or not text:
            continue
        kind, fields = fields_of(text)
        if kind in _TIME_FIELD:
            time_ms, day = _moment(kind, fields)
            burst = bursts[-1]
            if burst.time_ms != time_ms if time_ms is not None else fields[0] in burst.seen:
                if burst.seen:
                    bursts.append(burst := _Burst(None, None, [], set()))
                burst.time_ms = time_ms
            burst.date = burst.date or day
            if kind in _OPENS or time_ms is not None:
                burst.seen.add(fields[0])
        bursts[-1].lines.append(text + b"\r\n")
    return bursts


def fields_of(line: bytes) -> tuple[str, list[bytes]]:
    """Kind and fields of a sound sentence of a receiver; of anything else nothing."""
    found = _SOUND.search(line)
    if found is None or checksum(found[1].decode("latin-1")) != int(found[3], 16):
        return "", []
    return found[2].decode("ascii"), found[1].split(b",")


def _moment(kind: str, fields: list[bytes]) -> tuple[int | None, date | None]:
    at, on = _TIME_FIELD[kind], _DATE_FIELD.get(kind, len(fields))
    try:
        time_ms = time_of_day_ms(fields[at].decode("latin-1")) if at < len(fields) else None
        return time_ms, date_of(fields[on].decode("latin-1")) if on < len(fields) else None
    except NmeaError:
        return None, None


def restamp(line: bytes, moment: datetime) -> bytes:
    """The line with another time (and date, where it has one), its checksum made anew.

    A field that is empty stays so; a line that is no sound sentence with a time stays as it is.
    """
    kind, fields = fields_of(line)
    at = _TIME_FIELD.get(kind)
    if at is None or at >= len(fields) or not fields[at]:
        return line
    decimals = len(fields[at].partition(b".")[2])
    fraction = f"{moment.microsecond:06d}"[:decimals]
    fields[at] = (f"{moment:%H%M%S}" + (f".{fraction}" if decimals else "")).encode()
    if kind == "RMC" and len(fields) > 9 and fields[9]:
        fields[9] = f"{moment:%d%m%y}".encode()
    if kind == "ZDA" and len(fields) > 4 and all(fields[2:5]):
        fields[2:5] = [part.encode() for part in f"{moment:%d %m %Y}".split()]
    return with_fields(line, fields)


def with_fields(line: bytes, fields: list[bytes]) -> bytes:
    """The line with other fields, as ``fields_of`` gave them, its checksum made anew."""
    body = b",".join(fields)
    begin, end = _SOUND.search(line).span()  # type: ignore[union-attr]  # fields_of found it
    sentence = b"$%b*%02X" % (body, checksum(body.decode("latin-1")))
    return line[:begin] + sentence + line[end:]
