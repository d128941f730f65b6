"""What a transport's connections put on the wire, from the kernel's own count. Thread-safe.

``TCP_INFO`` (tcp(7), ``linux/tcp.h``) gives for each socket the bytes that were sent, TLS
and retransmissions included, those that were received, and the packets both ways; each
packet is taken for 52 bytes of headers on IPv4 (20 IP, 20 TCP, 12 timestamps), 72 on IPv6.
Not seen: name look-ups (some 150 bytes each), the SYN's longer header, the radio's own.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import Final

_PACKETS: Final = struct.Struct("=II")
_PACKETS_AT: Final = 136
"""``tcpi_segs_out``, ``tcpi_segs_in``: Linux 4.2 and newer."""

_BYTES: Final = struct.Struct("=Q")
_RECEIVED_AT: Final = 128
_SENT_AT: Final = 200
"""``tcpi_bytes_received`` (4.1) and ``tcpi_bytes_sent`` (4.19)."""

_TCP_CLOSE: Final = 7
"""``TCP_CLOSE`` of ``net/tcp_states.h``."""

_INFO_BYTES: Final = 256
_LEAST_BYTES: Final = _SENT_AT + _BYTES.size
_HEADER_BYTES: Final = {socket.AF_INET: 52, socket.AF_INET6: 72}


def socket_bytes(sock: socket.socket) -> int | None:
    """Bytes on the wire of one open TCP socket; ``None`` where the kernel does not say."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, AttributeError):
        return None
    if len(info) < _LEAST_BYTES:
        return None
    packets = sum(_PACKETS.unpack_from(info, _PACKETS_AT))
    payload = sum(_BYTES.unpack_from(info, at)[0] for at in (_SENT_AT, _RECEIVED_AT))
    return int(payload + packets * _HEADER_BYTES.get(socket.AddressFamily(sock.family), 72))


def was_reset(sock: socket.socket) -> bool:
    """Whether the other side, or the network, ended it abruptly, not in order.

    By ``tcpi_state``: after a FIN it is CLOSE_WAIT, after a RST it is CLOSE. Python's ssl
    reports both as an end of file (it asks OpenSSL by ``SSL_read_ex`` and loses errno).
    """
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except (OSError, AttributeError):
        return False


class WireMeter:
    """Each socket is ``opened`` once and ``closing`` just before it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, int] = {}
        self._ended = 0
        self._known: bool | None = None

    def opened(self, sock: socket.socket) -> None:
        """A connection that counts from now on."""
        with self._lock:
            self._open[sock] = 0
            self._read(sock)

    def closing(self, sock: socket.socket) -> None:
        """Its last count; again, or for a socket never seen, does nothing."""
        with self._lock:
            if sock in self._open:
                self._read(sock)
                self._ended += self._open.pop(sock)

    def total(self) -> int | None:
        """Of all connections so far; ``None`` if the kernel does not say."""
        with self._lock:
            for sock in self._open:
                self._read(sock)
            return None if self._known is False else self._ended + sum(self._open.values())

    def _read(self, sock: socket.socket) -> None:
        found = socket_bytes(sock)
        if found is not None:
            self._open[sock] = max(found, self._open[sock])
        if self._known is None:
            self._known = found is not None
