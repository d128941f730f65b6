"""A TCP server that says what a test scripts, as gpsd would; and the real gpsd on a pty."""

import contextlib
import json
import os
import pty
import socket
import subprocess
import threading
import time
import tty

VERSION = {"class": "VERSION", "release": "3.25", "proto_major": 3, "proto_minor": 15}


class ScriptedGpsd:
    """Accepts one client at a time; ``send`` reaches the current one."""

    def __init__(self, port=0, devices=()):
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._devices = list(devices)
        self._client = None
        self._ready = threading.Event()
        self.received = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, name="scripted-gpsd", daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._client = client
            with contextlib.suppress(OSError):
                client.sendall(json.dumps(VERSION).encode() + b"\r\n")
                buffer = b""
                while data := client.recv(4096):
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        self.received.append(line.decode())
                        if line.startswith(b"?WATCH"):
                            self.send({"class": "DEVICES", "devices": self._devices})
                            self._ready.set()
            self._ready.clear()

    def send(self, *reports):
        lines = b"".join(
            report if isinstance(report, bytes) else json.dumps(report).encode() + b"\r\n"
            for report in reports
        )
        self._client.sendall(lines)

    def wait_for_client(self, timeout_s=10):
        assert self._ready.wait(timeout_s), "no client watched"

    def drop_client(self):
        self._ready.clear()
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._client is not None:
            self.drop_client()
        self._thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RealGpsd:
    """The real daemon, reading from a pseudo terminal that ``feed`` writes to, or a ``device``."""

    def __init__(self, gpsd, port, *, device=None, read_only=True, control=None):
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.device = device or os.ttyname(self._slave)
        options = ["-N", "-n", "-b"] if read_only else ["-N", "-n"]
        self._control = control
        if control is not None:
            options += ["-F", str(control)]
        self._command = [gpsd, *options, "-S", str(port), self.device]
        self.port = port
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "gpsd does not listen"
                time.sleep(0.05)
            else:
                return self

    def hotplug(self, sign):
        """What udev has gpsdctl say: ``-`` the device is gone, ``+`` it is back."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self._control))
            control.sendall(f"{sign}{self.device}\r\n".encode())
            assert control.recv(16).startswith(b"OK")

    def feed(self, sentences):
        """What a receiver says while nobody reads is lost."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, sentences)

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        os.close(self._master)
        os.close(self._slave)
