"""The GPS source: a streaming client of gpsd in one thread.

It connects, watches, and puts fixes into the inbox. gpsd gone, a connection that died
without a word, a receiver that fell silent or was unplugged all end the session; the next
one is tried with back-off. The inbox hears of the loss once, and of the return once.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
from pathlib import Path
from typing import Any, Final

from agent.config import GpsSettings
from agent.inputs import Inbox
from agent.ports import Clock
from agent.sources.antenna import AntennaWatch
from agent.sources.backoff import Backoff
from agent.sources.gps_choice import ReceiverChoice
from agent.sources.gps_faults import Cause, GpsFaults, GpsLostError
from agent.sources.gpsd_protocol import watch_command
from agent.sources.gpsd_session import GpsdSession

CONNECT_TIMEOUT_S: Final = 5.0

LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})

LOOK_S: Final = 1.0
"""The longest time between two looks at what is missing."""

_log = logging.getLogger(__name__)


class GpsdSource:
    """``start()`` once; ``stop()`` at any time, idempotent."""

    def __init__(self, settings: GpsSettings, inbox: Inbox, clock: Clock) -> None:
        now_s = clock.monotonic_s()
        self._settings = settings
        self._inbox = inbox
        self._clock = clock
        self._choice = ReceiverChoice(
            settings.device,
            fall_back_after_s=settings.fall_back_after_s,
            return_after_s=settings.return_after_s,
            now_s=now_s,
        )
        what = f"GPS through gpsd at {settings.host}:{settings.port}"
        self._faults = GpsFaults(settings, inbox, _log, what, now_s)
        self._antenna = AntennaWatch(now_s)
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)  # noqa: FBT003  positional only
        self._thread: threading.Thread | None = None
        self._wanted_cycle_s: float | None = None
        self._first_cycles_s: dict[str, float] = {}
        self._session: GpsdSession | None = None

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
        """What gpsd has, and what is listened to; from any thread."""
        session = self._session
        known = {"receivers": [], "antenna": None} if session is None else session.account()
        cause = self._faults.cause
        return {"device": self._choice.active, "lost": cause.value if cause else None, **known}

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            now_s = self._clock.monotonic_s()
            session = GpsdSession(
                self._settings, self._choice, self._first_cycles_s, self._is_there, now_s
            )
            try:
                self._serve(session)
            except GpsLostError as lost:
                self._faults.lost(lost.cause, lost.message)
                wait_s = backoff.after_failure(
                    self._clock.monotonic_s(),
                    session.spoke_since_s,
                    random.random(),  # noqa: S311  spreads reconnects, guards nothing
                )
                self._stopping.wait(wait_s)
            finally:
                self._session = None

    def _serve(self, session: GpsdSession) -> None:
        """One connection, until stopped.

        Raises:
            GpsLostError: it could not be made, broke, or no receiver speaks.
        """
        address = (self._settings.host, self._settings.port)
        try:
            connection = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            reason = f"cannot connect: {error.strerror or error}"
            raise GpsLostError(Cause.UNREACHABLE, reason) from None
        with connection:
            try:
                connection.sendall(watch_command())
                self._session = session
                self._listen(connection, session)
                self._send(connection, session, None)
            except OSError as error:
                reason = f"connection broke: {error.strerror or error}"
                raise GpsLostError(Cause.UNREACHABLE, reason) from None

    def _listen(self, connection: socket.socket, session: GpsdSession) -> None:
        while not self._stopping.is_set():
            ready, _, _ = select.select([connection, self._wake_reader], [], [], LOOK_S)
            if self._wake_reader in ready:
                self._wake_reader.recv(64)
            had_fix = False
            if connection in ready:
                data = connection.recv(16_384)
                if not data:
                    raise GpsLostError(Cause.UNREACHABLE, "gpsd closed the connection")
                now_s = self._clock.monotonic_s()
                for received in session.feed(data, now_s):
                    had_fix = True
                    self._faults.found(now_s)
                    self._inbox.put(received)
            self._look(session, had_fix=had_fix)
            self._send(connection, session, self._wanted_cycle_s)

    def _look(self, session: GpsdSession, *, had_fix: bool) -> None:
        now_s = self._clock.monotonic_s()
        unplugged = session.look(now_s)
        if unplugged is not None:
            self._faults.lost(Cause.REMOVED, unplugged)
        self._faults.uses(self._choice.active, instead_of=self._choice.missed)
        self._faults.look(now_s, repeats=session.repeats)
        if self._antenna.observe(session.antenna, now_s, has_fix=had_fix):
            self._faults.antenna(self._antenna.fault)

    def _send(
        self, connection: socket.socket, session: GpsdSession, wanted_s: float | None
    ) -> None:
        for command in session.commands(wanted_s):
            connection.sendall(command)

    def _is_there(self, path: str) -> bool:
        """Whether a receiver's path exists: only known of this board, and not of URLs."""
        is_local = self._settings.host in LOCAL_HOSTS
        return not (is_local and path.startswith("/")) or Path(path).exists()
