"""Bytes of a serial line to frames: NMEA sentences, and UBX messages in between. Pure.

A line begins anywhere, is cut and garbled, speaks at another baud rate than thought, and
u-blox receivers mix their binary protocol in. Nothing here is believed: the checksum of
a sentence is looked at by :func:`agent.sources.nmea.parser.parse`, that of UBX here.
"""

from __future__ import annotations

import re
from typing import Final

from agent.sources.nmea.parser import MAX_SENTENCE_BYTES

UBX_SYNC: Final = b"\xb5\x62"
MAX_UBX_PAYLOAD: Final = 1_024
"""Longer ones are taken for noise that looks like one: a length field waits for no kilobytes."""

NOISE: Final = b""
"""Stands for bytes that were no frame: a sentence may have been lost there."""

_BEGIN: Final = re.compile(rb"\$|\xb5(?:\x62|\Z)")
_END: Final = re.compile(rb"[^ -#%-~]")
"""What ends a sentence: the line's end, or ``$`` or a byte that no sentence has."""

_BETWEEN: Final = b"\r\n"


class Framer:
    """Feed it what was read; it gives the frames that are complete, in their order.

    A frame is a sentence from ``$`` to before its line's end, a UBX message whole, or
    ``NOISE``. It keeps at most one unfinished frame.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Frames of ``data`` and of what was left of the times before."""
        data = self._rest + data
        frames: list[bytes] = []
        at = 0
        while (found := _BEGIN.search(data, at)) is not None:
            begin = found.start()
            if data[at:begin].strip(_BETWEEN):
                frames.append(NOISE)
            if data[begin] == 0x24:
                frame, at = _sentence(data, begin)
            else:
                frame, at = _ubx(data, begin)
            if frame is None:
                break
            frames.append(frame)
        else:
            if data[at:].strip(_BETWEEN):
                frames.append(NOISE)
            at = len(data)
        self._rest = data[at:]
        return frames


def _sentence(data: bytes, begin: int) -> tuple[bytes | None, int]:
    """The sentence or ``NOISE``, and where to go on; ``None`` if more must come first."""
    end = _END.search(data, begin + 1)
    if end is None:
        if len(data) - begin <= MAX_SENTENCE_BYTES:
            return None, begin
        return NOISE, len(data)
    stop = end.start()
    return (data[begin:stop] if data[stop] in _BETWEEN else NOISE), stop


def _ubx(data: bytes, begin: int) -> tuple[bytes | None, int]:
    """As ``_sentence``; header: sync, class, id, length of the payload (little-endian)."""
    if len(data) - begin < 6:
        return None, begin
    payload = int.from_bytes(data[begin + 4 : begin + 6], "little")
    if payload > MAX_UBX_PAYLOAD:
        return NOISE, begin + 2
    stop = begin + 8 + payload
    if len(data) < stop:
        return None, begin
    if data[stop - 2 : stop] != ubx_checksum(data[begin + 2 : stop - 2]):
        return NOISE, begin + 2
    return data[begin:stop], stop


def ubx_message(kind: bytes, payload: bytes = b"") -> bytes:
    """A whole message as it goes over the line; ``kind`` is its class and id."""
    body = kind + len(payload).to_bytes(2, "little") + payload
    return UBX_SYNC + body + ubx_checksum(body)


def ubx_checksum(body: bytes) -> bytes:
    """8-bit Fletcher over class, id, length and payload (u-blox M10 interface, 3.4)."""
    first = second = 0
    for value in body:
        first = (first + value) & 0xFF
        second = (second + first) & 0xFF
    return bytes((first, second))
