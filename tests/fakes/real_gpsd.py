"""The real gpsd, fed over TCP: nothing is lost at any speed, as gpsd reads when it can."""

import contextlib
import socket
import subprocess
import time

from tests.conftest import program


class TcpFedGpsd:
    """gpsd with receivers that are TCP servers of this process, one by default.

    ``devices`` are their paths as gpsd knows them. ``feed`` waits until gpsd has taken the
    bytes off its hands; ``unplug`` closes one receiver for good.
    """

    def __init__(self, port, receivers=1):
        self.port = port
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(receivers)]
        self.devices = [
            f"tcp://127.0.0.1:{listener.getsockname()[1]}" for listener in self._listeners
        ]
        self._lines = []
        self._process = None

    def start(self):
        """Begin, and wait until gpsd has dialled its receivers and listens."""
        self._process = subprocess.Popen(
            [program("gpsd"), "-N", "-n", "-b", "-S", str(self.port), *self.devices],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for listener in self._listeners:
            listener.settimeout(20)
            self._lines.append(listener.accept()[0])
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "gpsd does not listen"
                time.sleep(0.05)
            else:
                return self

    def feed(self, sentences, receiver=0):
        self._lines[receiver].sendall(sentences)

    def unplug(self, receiver=0):
        self._listeners[receiver].close()
        self._lines[receiver].close()

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.close()
        self._lines.clear()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        for listener in self._listeners:
            listener.close()
