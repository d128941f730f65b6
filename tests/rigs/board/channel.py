"""The host's ends of the guest's ports: commands, the witness and the GPS receiver."""

import contextlib
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.synth.nmea_log import sentence
from tests.rigs.board.errors import RigError

_CONNECT_S = 20.0
_EPOCH_S = 1.0


def connect(path):
    """To a Unix socket that QEMU is about to listen on."""
    deadline = time.monotonic() + _CONNECT_S
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            if time.monotonic() > deadline:
                raise RigError(f"QEMU does not listen on {path}") from None
            time.sleep(0.05)
        else:
            return sock


class Lines:
    """Calls ``on_line(bytes)`` for each line that comes, in a thread, until the end."""

    def __init__(self, path, on_line, name):
        self.socket = connect(path)
        self._on_line = on_line
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def send(self, line):
        self.socket.sendall(line + b"\n")

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.socket.close()

    def _read(self):
        rest = b""
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return
            if not data:
                return  # what is left is half a line: the guest lost its power in it
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._on_line(line)


@dataclass(frozen=True)
class Done:
    """A command that ended in the guest."""

    code: int
    out: str


class Shell:
    """Runs commands in the guest, as root, one at a time."""

    def __init__(self, path):
        self._answers = queue.Queue()
        self.up = threading.Event()
        """The guest's helper is there."""
        self._number = 0
        self._lines = Lines(path, self._take, "rig-shell")

    def run(self, *argv, timeout_s=60.0):
        """The command's exit code and output, errors included."""
        if not self.up.is_set():
            raise RigError(f"the guest is not up: {' '.join(argv)}")
        self.send(*argv, timeout_s=timeout_s)
        deadline = time.monotonic() + timeout_s + 30
        while True:
            try:
                answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise RigError(f"the guest does not answer: {' '.join(argv)}") from None
            if answer["id"] == self._number:
                return Done(answer["code"], answer["out"])

    def send(self, *argv, timeout_s=60.0):
        """The command, without waiting for what comes of it."""
        self._number += 1
        command = {"id": self._number, "argv": list(argv), "timeout_s": timeout_s}
        self._lines.send(json.dumps(command).encode())

    def close(self):
        self._lines.close()

    def _take(self, line):
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
            if "hello" in answer:
                self.up.set()
            else:
                self._answers.put(answer)


class Receiver:
    """A GPS receiver on the guest's serial port: the built-in drive's NMEA, stamped as of now."""

    def __init__(self, path, nmea_file):
        self._epochs = _epochs_with_fix(nmea_file)
        self._socket = connect(path)
        self._socket.settimeout(0)
        # What the port does not take is lost, as on a UART; it must not come late.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        self._ended = threading.Event()
        self._has_sky = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rig-gps", daemon=True)
        self._thread.start()

    def see_sky(self):
        """From now on there are fixes; before, the receiver is silent."""
        self._has_sky.set()

    def close(self):
        self._ended.set()
        self._thread.join(5)
        self._socket.close()

    def _run(self):
        number = 0
        due_s = time.monotonic()
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + _EPOCH_S, time.monotonic())
            if not self._has_sky.is_set():
                continue
            # a fix is taken at the moment of sending
            now = datetime.now(UTC)  # noqa: TID251  the truth outside the guest
            epoch = self._epochs[number % len(self._epochs)]
            number += 1
            data = "".join(f"{_stamped(line, now)}\r\n" for line in epoch).encode()
            with contextlib.suppress(BlockingIOError, OSError):
                self._socket.send(data)
            with contextlib.suppress(BlockingIOError, OSError):
                self._socket.recv(65536)  # gpsd asks what kind of receiver this is


def _epochs_with_fix(nmea_file):
    epochs = []
    for line in nmea_file.read_text(encoding="ascii").splitlines():
        fields = line.split(",")
        if fields[0] == "$GNRMC":
            epochs.append([] if fields[2] == "A" else None)
        if epochs and epochs[-1] is not None and line[:1] == "$" and line[3:6] != "GSV":
            epochs[-1].append(line)
    return [epoch for epoch in epochs if epoch]


def _stamped(line, now):
    """The sentence with the time of ``now``."""
    fields = line[1 : line.rindex("*")].split(",")
    if fields[0][2:] in {"RMC", "GGA", "GST"}:
        fields[1] = f"{now:%H%M%S}.{now.microsecond // 10_000:02d}"
    if fields[0][2:] == "RMC":
        fields[9] = f"{now:%d%m%y}"
    return sentence(",".join(fields))
