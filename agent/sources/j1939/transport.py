"""Messages of several packets that are announced to everyone: BAM (SAE J1939-21). Pure.

A connection between two ECUs (RTS/CTS) is theirs: its packets may be repeated and come out
of order, and what it carries is not for us.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from agent.sources.j1939.frames import EVERYONE, TRANSPORT, TRANSPORT_DATA, Header

BROADCAST_ANNOUNCED: Final = 32
ABORTED: Final = 255

LEAST_BYTES: Final = 9
MOST_BYTES: Final = 1_785
"""255 packets of seven bytes."""

BYTES_A_PACKET: Final = 7

PACKET_TIMEOUT_S: Final = 3.0
"""Between two packets of a message. T1 is 0.75 s on the bus; a busy board takes its frames
later than they came, and the packets' numbers guard a message as well."""


@dataclass(slots=True)
class _Message:
    group: int
    size: int
    packets: int
    heard_s: float
    data: bytearray = field(default_factory=bytearray)
    received: int = 0


class BroadcastReceiver:
    """One message a source at a time, as the standard has it; of any number of sources."""

    def __init__(self) -> None:
        self._open: dict[int, _Message] = {}
        self.given_up: Counter[str] = Counter()
        """Messages that were not completed, by reason."""

    def take(self, header: Header, data: bytes, now_s: float) -> tuple[int, bytes] | None:
        """Take a transport frame; the group and bytes of the message that it completes."""
        if header.destination != EVERYONE or len(data) < 8:
            return None
        if header.group == TRANSPORT:
            self._announced(header.source, data, now_s)
        elif header.group == TRANSPORT_DATA:
            return self._packet(header.source, data, now_s)
        return None

    def _announced(self, source: int, data: bytes, now_s: float) -> None:
        if data[0] not in {BROADCAST_ANNOUNCED, ABORTED}:
            return
        if self._open.pop(source, None) is not None:
            self.given_up["interrupted"] += 1
        if data[0] == ABORTED:
            return
        size, packets = int.from_bytes(data[1:3], "little"), data[3]
        if not LEAST_BYTES <= size <= MOST_BYTES or packets != -(-size // BYTES_A_PACKET):
            self.given_up["impossible_size"] += 1
            return
        group = int.from_bytes(data[5:8], "little")
        self._open[source] = _Message(group, size, packets, now_s)

    def _packet(self, source: int, data: bytes, now_s: float) -> tuple[int, bytes] | None:
        message = self._open.get(source)
        if message is None:
            return None
        reason = ""
        if now_s - message.heard_s > PACKET_TIMEOUT_S:
            reason = "timeout"
        elif data[0] != message.received + 1:
            reason = "wrong_sequence"
        if reason:
            del self._open[source]
            self.given_up[reason] += 1
            return None
        message.received += 1
        message.heard_s = now_s
        message.data += data[1:8]
        if message.received < message.packets:
            return None
        del self._open[source]
        return message.group, bytes(message.data[: message.size])
