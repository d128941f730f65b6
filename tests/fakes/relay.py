"""A TCP relay on loopback that can go silent (half-open), cut, or refuse."""

import contextlib
import socket
import threading


class Relay:
    """Forwards ``port`` to ``target_port``. ``connections`` counts what was accepted.

    ``relayed_bytes`` counts what passed, both ways: TLS included, TCP/IP's headers not.
    """

    def __init__(self, target_port):
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.relayed_bytes = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._pairs = []
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def freeze(self):
        """Swallow nothing, forward nothing: packets vanish, nobody hears of it."""
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()

    def cut(self):
        """End every connection and refuse new ones."""
        self._refusing = True
        self._drop_all()

    def mend(self):
        self._refusing = False

    def _drop_all(self):
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                _end(sock)

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(
                    target=self._pump, args=(source, sink), name="relay-pump", daemon=True
                ).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                with self._lock:
                    self.relayed_bytes += len(data)
                sink.sendall(data)
        _end(source)
        _end(sink)

    def close(self):
        _end(self._listener)  # shut down first: closing alone does not wake the accept
        self._drop_all()
        self._flowing.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _end(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
