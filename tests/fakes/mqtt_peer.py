"""A scripted MQTT 3.1.1 server over mutual TLS, for answers that no real broker gives.

It keeps what it received, so it is the independent witness too. What it answers to a
PUBLISH is up to ``answer``; packets are written by hand after the OASIS specification.
"""

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass

CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14
PINGRESP = b"\xd0\x00"


@dataclass(frozen=True)
class Publish:
    """As received, with its packet identifier."""

    topic: str
    payload: bytes
    packet_id: int


class Connection:
    """One client; ``answer`` writes to it."""

    def __init__(self, tls):
        self.tls = tls
        self.published = []
        self.held = []
        """For an ``answer`` that answers later."""

    def puback(self, publish):
        self.tls.sendall(b"\x40\x02" + publish.packet_id.to_bytes(2, "big"))

    def close(self):
        with contextlib.suppress(OSError):
            self.tls.shutdown(socket.SHUT_RDWR)


def acknowledge(connection, publish):
    """The answer of a good broker."""
    connection.puback(publish)


class MqttPeer:
    """``connack`` is its return code, or None for none at all."""

    def __init__(self, identity, *, connack=0, answer=acknowledge, on_connect=lambda _: None):
        self.connack = connack
        self.answer = answer
        self.on_connect = on_connect
        self.connects_s = []
        self.published = []
        self._lock = threading.Lock()
        self._open = set()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity.certificate_file, identity.key_file)
        self._context.load_verify_locations(identity.ca_file)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="mqtt-peer", daemon=True).start()

    @property
    def messages(self):
        """``[(topic, payload)]`` so far, in order."""
        with self._lock:
            return [(one.topic, one.payload) for one in self.published]

    def on(self, topic):
        return [payload for name, payload in self.messages if name == topic]

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(plain, server_side=True) as tls,
        ):
            connection = Connection(tls)
            self._open.add(connection)
            try:
                with tls.makefile("rb") as stream:
                    while self._take(connection, stream):
                        pass
            finally:
                self._open.discard(connection)

    def _take(self, connection, stream):
        head = stream.read(1)
        if not head:
            return False
        body = stream.read(_remaining_length(stream))
        kind = head[0] >> 4
        if kind == CONNECT:
            with self._lock:
                self.connects_s.append(time.monotonic())
            if self.connack is not None:
                connection.tls.sendall(bytes((0x20, 2, 0, self.connack)))
                self.on_connect(connection)
        elif kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            publish = Publish(
                body[2:end].decode(), body[end + 2 :], int.from_bytes(body[end : end + 2], "big")
            )
            with self._lock:
                self.published.append(publish)
                connection.published.append(publish)
            self.answer(connection, publish)
        elif kind == PINGREQ:
            connection.tls.sendall(PINGRESP)
        return kind != DISCONNECT


def _remaining_length(stream):
    length = shift = 0
    while True:
        byte = stream.read(1)
        if not byte:
            return 0
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return length
