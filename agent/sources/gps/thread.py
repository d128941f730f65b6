"""What both GPS sources are: one thread that serves one session with a receiver after another.

A session that is over is told as a fault, and the next one is tried with back-off. How a
session is made and what comes of it is the subclass's: gpsd over TCP, or a serial port.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
from abc import ABC, abstractmethod
from typing import Final

from agent.config import GpsSettings
from agent.inputs import FixReceived, Inbox
from agent.ports import Clock
from agent.sources.backoff import Backoff
from agent.sources.gps.antenna import AntennaWatch
from agent.sources.gps.faults import GpsFaults, GpsLostError

LOOK_S: Final = 1.0
"""The longest time between two looks at what is missing."""

STOP_S: Final = 6.0
"""Longer than the longest wait of a session that cannot be woken: gpsd's connect."""


class GpsThread(ABC):
    """``start()`` once; ``stop()`` at any time, idempotent."""

    def __init__(
        self, settings: GpsSettings, inbox: Inbox, clock: Clock, log: logging.Logger, what: str
    ) -> None:
        now_s = clock.monotonic_s()
        self._settings = settings
        self._inbox = inbox
        self._clock = clock
        self._faults = GpsFaults(settings, inbox, log, what, now_s)
        self._antenna = AntennaWatch(now_s)
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)  # noqa: FBT003  positional only
        self._thread: threading.Thread | None = None
        self._wanted_cycle_s: float | None = None
        self._spoke_since_s: float | None = None
        """Since when the session works, or has worked; the subclass says it."""

    def start(self) -> None:
        """Begin to look for the receiver, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="gps", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give the receiver its own cycle back, let go of it and end the thread."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def request_cycle(self, cycle_s: float | None) -> None:
        """Ask for a fix every ``cycle_s``; ``None`` lets go. From any thread, at once."""
        self._wanted_cycle_s = cycle_s
        self._wake()

    @abstractmethod
    def _serve(self) -> None:
        """One session, until ``_stopping`` is set.

        Raises:
            GpsLostError: it could not be begun, or is over.
        """

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            self._spoke_since_s = None
            try:
                self._serve()
            except GpsLostError as lost:
                self._faults.lost(lost.cause, lost.message)
                wait_s = backoff.after_failure(
                    self._clock.monotonic_s(),
                    self._spoke_since_s,
                    random.random(),  # noqa: S311  spreads retries, guards nothing
                )
                self._stopping.wait(wait_s)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def _wait(self, descriptor: int, timeout_s: float) -> tuple[bool, bool]:
        """Wait for bytes or to be woken: whether there are bytes, and whether it was woken."""
        wake = self._wake_reader.fileno()
        ready, _, _ = select.select([descriptor, wake], [], [], timeout_s)
        if wake in ready:
            self._wake_reader.recv(64)
        return descriptor in ready, wake in ready

    def _hand_on(self, fix: FixReceived) -> None:
        if fix.is_new:
            self._faults.found(self._clock.monotonic_s())
        self._inbox.put(fix)

    def _look(
        self,
        now_s: float,
        *,
        repeats: bool,
        in_view: int,
        antenna: str | None,
        had_fix: bool,
    ) -> None:
        """What is missing by now, and what the receiver says of its antenna."""
        self._faults.look(now_s, repeats=repeats, in_view=in_view)
        if self._antenna.observe(antenna, now_s, has_fix=had_fix):
            self._faults.antenna(self._antenna.fault)
