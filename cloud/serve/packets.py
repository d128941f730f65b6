"""The little of MQTT 3.1.1 that the gate reads itself: frames, CONNECT, PUBLISH.

Everything else goes to the broker library as it came. Lengths are bounded before
anything of that size is read. Section numbers are those of the OASIS standard.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_TOPIC_BYTES: Final = 256
"""AWS IoT Core's limit for a topic without its Basic Ingest prefix."""
MAX_PREFIX_BYTES: Final = 140
MAX_PAYLOAD_BYTES: Final = 128 * 1024
_CONNECT_FLAGS_AT: Final = 7
"""After the protocol's name with its length, and its level."""
MAX_PACKET_BYTES: Final = MAX_PAYLOAD_BYTES + MAX_TOPIC_BYTES + MAX_PREFIX_BYTES + 8


class ProtocolError(Exception):
    """A peer broke the protocol or a limit; the connection ends."""


class PacketType(IntEnum):
    """The upper half of a packet's first byte (2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ConnectRefusal(IntEnum):
    """Return codes of a refusing CONNACK (3.2.2.3)."""

    PROTOCOL_VERSION = 1
    IDENTIFIER = 2
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Packet:
    """One whole control packet."""

    first_byte: int
    body: bytes
    """Variable header and payload."""

    @property
    def type(self) -> int:
        """Its type; 0 and 15 are reserved and no ``PacketType``."""
        return self.first_byte >> 4

    def encode(self) -> bytes:
        """As it goes over the wire."""
        return bytes([self.first_byte]) + _length(len(self.body)) + self.body


@dataclass(frozen=True, slots=True)
class Connect:
    """A client's CONNECT (3.1)."""

    protocol: str
    level: int
    clean_session: bool
    keep_alive_s: int
    client_id: str
    will: Publish | None


@dataclass(frozen=True, slots=True)
class Publish:
    """A message on its way in (3.3), or a last will."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int | None = None

    def as_qos_0(self) -> bytes:
        """The same message as a packet that asks for no acknowledgement."""
        topic = self.topic.encode()
        body = len(topic).to_bytes(2, "big") + topic + self.payload
        return Packet((PacketType.PUBLISH << 4) | int(self.retain), body).encode()


async def read_packet(
    reader: asyncio.StreamReader,
    max_bytes: int = MAX_PACKET_BYTES,
    *,
    only: PacketType | None = None,
) -> Packet:
    """The next packet; with ``only``, another type is turned down by its first byte.

    Raises:
        ProtocolError: no MQTT, of another type, or longer than allowed.
        asyncio.IncompleteReadError, OSError: the connection ended.
    """
    first_byte = (await reader.readexactly(1))[0]
    if only is not None and first_byte >> 4 != only:
        raise ProtocolError(f"the packet is no {only.name}; its first byte is {first_byte:#04x}")
    length = 0
    for shift in (0, 7, 14, 21):
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise ProtocolError("remaining length of more than 4 bytes (2.2.3)")
    if length > max_bytes:
        raise ProtocolError(f"packet of {length} bytes; at most {max_bytes} are allowed")
    return Packet(first_byte, await reader.readexactly(length) if length else b"")


def decode_connect(packet: Packet) -> Connect:
    """Decode CONNECT.

    Raises:
        ProtocolError: it is none, or broken.
    """
    if packet.first_byte != PacketType.CONNECT << 4:
        raise ProtocolError("the first packet is no CONNECT (3.1.0-1)")
    cursor = _Cursor(packet.body)
    protocol = cursor.text()
    level, flags = cursor.take(2)
    keep_alive_s = cursor.number()
    if level != 4:  # other versions differ from here on
        return Connect(protocol, level, clean_session=True, keep_alive_s=0, client_id="", will=None)
    if flags & 0x01:
        raise ProtocolError("the reserved flag of CONNECT is set (3.1.2-3)")
    client_id = cursor.text()
    will = None
    if flags & 0x04:
        topic, payload = cursor.text(), cursor.data()
        will = Publish(topic, payload, qos=(flags >> 3) & 0x03, retain=bool(flags & 0x20))
    elif flags & 0x38:
        raise ProtocolError("will flags without a will (3.1.2-11)")
    return Connect(protocol, level, bool(flags & 0x02), keep_alive_s, client_id, will)


def with_clean_session(packet: Packet) -> Packet:
    """The same CONNECT of MQTT 3.1.1, asking for a session that ends with it (3.1.2.4)."""
    body = bytearray(packet.body)
    body[_CONNECT_FLAGS_AT] |= 0x02
    return Packet(packet.first_byte, bytes(body))


def decode_publish(packet: Packet) -> Publish:
    """Decode PUBLISH.

    Raises:
        ProtocolError: broken.
    """
    cursor = _Cursor(packet.body)
    topic = cursor.text()
    qos = (packet.first_byte >> 1) & 0x03
    if qos == 3:
        raise ProtocolError("QoS 3 (3.3.1-4)")
    packet_id = cursor.number() if qos else None
    if packet_id == 0:
        raise ProtocolError("packet identifier 0 (2.3.1-1)")
    return Publish(topic, cursor.rest(), qos, bool(packet.first_byte & 0x01), packet_id)


def puback(packet_id: int) -> bytes:
    """The acknowledgement of a QoS 1 message (3.4)."""
    return bytes([PacketType.PUBACK << 4, 2]) + packet_id.to_bytes(2, "big")


def connack(refusal: ConnectRefusal) -> bytes:
    """A refusal (3.2); an acceptance is the broker library's to send."""
    return bytes([PacketType.CONNACK << 4, 2, 0, refusal])


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise ProtocolError("packet ends too early")
        self._at += count
        return piece

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def data(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            text = self.data().decode()
        except UnicodeDecodeError:
            raise ProtocolError("text is no UTF-8 (1.5.3-1)") from None
        if "\0" in text:
            raise ProtocolError("text holds U+0000 (1.5.3-2)")
        return text

    def rest(self) -> bytes:
        return self._data[self._at :]


def _length(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
