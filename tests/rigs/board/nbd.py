"""Serves a disk to QEMU over the NBD protocol, on a Unix socket, to one client at a time.

The fixed newstyle handshake and simple replies of the protocol's specification
(https://github.com/NetworkBlockDevice/nbd, doc/proto.md); no more than QEMU needs.
"""

import contextlib
import socket
import struct
import threading

from tests.rigs.board.disk import PowerGoneError

_MAGIC = b"NBDMAGIC"
_OPTION_MAGIC = b"IHAVEOPT"
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_REQUEST_MAGIC = 0x25609513
_REPLY_MAGIC = 0x67446698

_HANDSHAKE_FLAGS = 0b11  # fixed newstyle, no zeroes
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_GO = 1, 2, 7
_REP_ACK, _REP_INFO, _REP_ERR_UNSUP = 1, 3, (1 << 31) | 1
_INFO_EXPORT = 0

_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA, _SEND_WRITE_ZEROES = 1, 1 << 2, 1 << 3, 1 << 6
_EXPORT_FLAGS = _HAS_FLAGS | _SEND_FLUSH | _SEND_FUA | _SEND_WRITE_ZEROES
_READ, _WRITE, _DISCONNECT, _FLUSH, _WRITE_ZEROES = 0, 1, 2, 3, 6
_FUA = 1
_EIO, _EINVAL = 5, 22


class NbdServer:
    """Serves ``disk`` on the Unix socket ``path`` until ``close``."""

    def __init__(self, disk, path):
        self._disk = disk
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._idle = threading.Event()
        self._idle.set()
        self._client = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="rig-nbd", daemon=True)
        self._thread.start()

    def wait_idle(self, timeout_s=10):
        """Until the client is gone and nothing of it is still being worked on."""
        return self._idle.wait(timeout_s)

    def close(self):
        """Stop listening; idempotent."""
        self._closed = True
        for sock in (self._listener, self._client):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self):
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._idle.clear()
            self._client = client
            with client, contextlib.suppress(OSError):
                try:
                    if self._negotiate(client):
                        self._transmit(client)
                except PowerGoneError:
                    while client.recv(1 << 20):  # unanswered, until QEMU is gone too
                        pass
            self._client = None
            self._idle.set()

    def _negotiate(self, client):
        """Whether the client went on to transmission."""
        client.sendall(_MAGIC + _OPTION_MAGIC + struct.pack(">H", _HANDSHAKE_FLAGS))
        flags = struct.unpack(">I", _receive(client, 4))[0]
        export = struct.pack(">QH", self._disk.size, _EXPORT_FLAGS)
        while True:
            _, option, length = struct.unpack(">8sII", _receive(client, 16))
            _receive(client, length)
            if option == _OPT_EXPORT_NAME:
                client.sendall(export + (b"" if flags & 2 else bytes(124)))
                return True
            if option == _OPT_GO:
                info = struct.pack(">H", _INFO_EXPORT) + export
                _reply_option(client, option, _REP_INFO, info)
                _reply_option(client, option, _REP_ACK)
                return True
            if option == _OPT_ABORT:
                _reply_option(client, option, _REP_ACK)
                return False
            _reply_option(client, option, _REP_ERR_UNSUP)

    def _transmit(self, client):
        while True:
            header = _receive(client, 28)
            magic, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", header)
            if magic != _REQUEST_MAGIC or kind == _DISCONNECT:
                return
            payload = _receive(client, length) if kind == _WRITE else b""
            error, answer = self._execute(kind, offset, length, payload)
            if flags & _FUA and not error:
                self._disk.flush()
            client.sendall(struct.pack(">IIQ", _REPLY_MAGIC, error, handle) + answer)

    def _execute(self, kind, offset, length, payload):
        if offset + length > self._disk.size:
            return _EINVAL, b""
        try:
            if kind == _READ:
                return 0, self._disk.read(offset, length)
            if kind == _WRITE:
                self._disk.write(offset, payload)
            elif kind == _WRITE_ZEROES:
                self._disk.write(offset, bytes(length))
            elif kind == _FLUSH:
                self._disk.flush()
            else:
                return _EINVAL, b""
        except OSError as error:
            return error.errno or _EIO, b""
        return 0, b""


def _reply_option(client, option, reply, data=b""):
    head = struct.pack(">QIII", _OPTION_REPLY_MAGIC, option, reply, len(data))
    client.sendall(head + data)


def _receive(client, length):
    pieces = []
    while length:
        piece = client.recv(min(length, 1 << 20))
        if not piece:
            raise ConnectionResetError
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
