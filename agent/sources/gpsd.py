"""The GPS source: a streaming client of gpsd in one thread.

It connects, watches, and puts fixes into the inbox. gpsd gone, a connection that died
without a word and a receiver that fell silent all end the session; the next one is tried
with back-off. The inbox hears of the loss once, and of the return once.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
from dataclasses import dataclass
from typing import Any, Final

from agent.config import GpsSettings
from agent.errors import SourceError
from agent.inputs import Inbox, SourceChanged
from agent.logs import StateLog
from agent.ports import Clock
from agent.sources.backoff import Backoff
from agent.sources.gpsd_protocol import (
    FixMerger,
    Report,
    cycle_command,
    number,
    parse_line,
    watch_command,
)

NAME: Final = "gps"
CONNECT_TIMEOUT_S: Final = 5.0
MAX_LINE_BYTES: Final = 65_536
"""Longer than any report; gpsd's own buffer is 10 KB."""

DEFAULT_CYCLE_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Receiver:
    """What gpsd says of the receiver's cycle; ``min_cycle_s`` is absent if it is fixed."""

    path: str
    first_cycle_s: float = DEFAULT_CYCLE_S
    min_cycle_s: float | None = None
    asked_cycle_s: float | None = None


class GpsdSource:
    """``start()`` once; ``stop()`` at any time, idempotent."""

    def __init__(self, settings: GpsSettings, inbox: Inbox, clock: Clock) -> None:
        self._settings = settings
        self._inbox = inbox
        self._clock = clock
        self._state = StateLog(_log, f"GPS through gpsd at {settings.host}:{settings.port}")
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)  # noqa: FBT003  positional only
        self._thread: threading.Thread | None = None
        self._wanted_cycle_s: float | None = None
        self._receivers: dict[str, _Receiver] = {}
        self._active: str | None = None
        self._working_since_s: float | None = None

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="gps", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go of the receiver's cycle, disconnect and end the thread."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(CONNECT_TIMEOUT_S + 1)

    def request_cycle(self, cycle_s: float | None) -> None:
        """Ask for a fix every ``cycle_s``; ``None`` lets go. From any thread, at once."""
        self._wanted_cycle_s = cycle_s
        self._wake()

    def account(self) -> dict[str, Any]:
        """What gpsd has and what is listened to; from any thread."""
        return {"devices": list(self._receivers), "device": self._active}

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            self._working_since_s = None
            try:
                self._session()
            except SourceError as error:
                if self._state.failed(error.message):
                    self._inbox.put(SourceChanged(NAME, available=False, reason=error.message))
                wait_s = backoff.after_failure(
                    self._clock.monotonic_s(),
                    self._working_since_s,
                    random.random(),  # noqa: S311  spreads reconnects, guards nothing
                )
                self._stopping.wait(wait_s)

    def _session(self) -> None:
        """One connection, until stopped.

        Raises:
            SourceError: it could not be made, broke, or the receiver is silent.
        """
        address = (self._settings.host, self._settings.port)
        try:
            connection = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            raise SourceError(f"cannot connect: {error.strerror or error}") from None
        with connection:
            try:
                connection.sendall(watch_command(self._settings.device))
                self._listen(connection)
                self._release_cycle(connection)
            except OSError as error:
                raise SourceError(f"connection broke: {error.strerror or error}") from None

    def _listen(self, connection: socket.socket) -> None:
        merger = FixMerger(self._settings.stale_after_s)
        self._receivers.clear()
        self._active = None
        buffer = b""
        heard_s = self._clock.monotonic_s()
        while not self._stopping.is_set():
            left_s = heard_s + self._settings.silent_after_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise SourceError(self._silence())
            ready, _, _ = select.select([connection, self._wake_reader], [], [], left_s)
            if self._wake_reader in ready:
                self._wake_reader.recv(64)
                self._apply_cycle(connection)
            if connection not in ready:
                continue
            data = connection.recv(16_384)
            if not data:
                raise SourceError("gpsd closed the connection")
            received_s = self._clock.monotonic_s()
            *lines, buffer = (buffer + data).split(b"\n")
            if len(buffer) > MAX_LINE_BYTES:
                raise SourceError("what answers there is not gpsd")
            for line in lines:
                report = parse_line(line.strip())
                if report is not None and self._take(report, received_s, merger, connection):
                    heard_s = received_s

    def _take(
        self, report: Report, received_s: float, merger: FixMerger, connection: socket.socket
    ) -> bool:
        """Handle one report; whether the receiver spoke."""
        match report["class"]:
            case "TPV":
                return self._take_tpv(report, received_s, merger, connection)
            case "DEVICES":
                devices = report.get("devices")
                for device in devices if isinstance(devices, list) else ():
                    self._learn(device)
            case "DEVICE":
                self._learn(report)
            case "ERROR":
                _log.debug("gpsd says: %s", report.get("message"))
        return False

    def _take_tpv(
        self, tpv: Report, received_s: float, merger: FixMerger, connection: socket.socket
    ) -> bool:
        path = tpv.get("device")
        if self._settings.device and path != self._settings.device:
            return False
        if self._working_since_s is None:
            self._working_since_s = received_s
        if self._state.recovered():
            self._inbox.put(SourceChanged(NAME, available=True))
        received = merger.feed(tpv, received_s)
        if received is not None:
            self._inbox.put(received)
            if received.fix.device != self._active:
                self._active = received.fix.device
                self._apply_cycle(connection)
        return True

    def _learn(self, device: object) -> None:
        if not isinstance(device, dict) or not isinstance(device.get("path"), str):
            return
        path = device["path"]
        receiver = self._receivers.get(path)
        if receiver is None:
            cycle_s = number(device, "cycle", 0.01, 3_600) or DEFAULT_CYCLE_S
            receiver = self._receivers[path] = _Receiver(path, first_cycle_s=cycle_s)
        min_cycle_s = number(device, "mincycle", 0.01, 3_600)
        if min_cycle_s is not None:
            receiver.min_cycle_s = min_cycle_s

    def _apply_cycle(self, connection: socket.socket) -> None:
        """Send the wanted cycle to the receiver in use, if it can change its cycle."""
        receiver = self._receivers.get(self._active or "")
        if receiver is None or receiver.min_cycle_s is None:
            return
        wanted_s = receiver.first_cycle_s
        if self._wanted_cycle_s is not None:
            wanted_s = max(self._wanted_cycle_s, receiver.min_cycle_s)
        if wanted_s == (receiver.asked_cycle_s or receiver.first_cycle_s):
            return
        connection.sendall(cycle_command(receiver.path, wanted_s))
        receiver.asked_cycle_s = wanted_s
        _log.info("asked %s for a fix every %g s", receiver.path, wanted_s)

    def _release_cycle(self, connection: socket.socket) -> None:
        self._wanted_cycle_s = None
        self._apply_cycle(connection)

    def _silence(self) -> str:
        device = self._settings.device
        if device and device not in self._receivers:
            known = ", ".join(self._receivers) or "none"
            return f"gpsd has no receiver {device} (it has: {known})"
        if not self._receivers:
            return "gpsd has no receiver"
        return f"no word of the receiver for {self._settings.silent_after_s:g} s"
