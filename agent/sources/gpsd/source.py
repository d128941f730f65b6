"""The GPS source: a streaming client of gpsd in one thread.

It connects, watches, and puts fixes into the inbox. gpsd gone, a connection that died
without a word, a receiver that fell silent or was unplugged all end the session; the next
one is tried with back-off. The inbox hears of the loss once, and of the return once.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any, Final

from agent.config import GpsSettings
from agent.inputs import Inbox
from agent.ports import Clock
from agent.sources.gps.choice import ReceiverChoice
from agent.sources.gps.faults import Cause, GpsLostError
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gps.thread import LOOK_S, GpsThread
from agent.sources.gpsd.protocol import watch_command
from agent.sources.gpsd.session import GpsdSession

CONNECT_TIMEOUT_S: Final = 5.0

LEAST_LOOK_S: Final = 0.5
"""The shortest time between two looks that nothing but reports of fixes is a reason for."""

LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_log = logging.getLogger(__name__)


class GpsdSource(GpsThread):
    """``start()`` once; ``stop()`` at any time, idempotent."""

    def __init__(
        self, settings: GpsSettings, inbox: Inbox, clock: Clock, memory: CycleMemory
    ) -> None:
        what = f"GPS through gpsd at {settings.host}:{settings.port}"
        super().__init__(settings, inbox, clock, _log, what)
        self._choice = ReceiverChoice(
            settings.device,
            fall_back_after_s=settings.fall_back_after_s,
            return_after_s=settings.return_after_s,
            now_s=clock.monotonic_s(),
        )
        self._memory = memory
        self._first_cycles_s = memory.recall_all()
        self._session = self._new_session()

    def account(self) -> dict[str, Any]:
        """What gpsd has, and what is listened to; from any thread."""
        cause = self._faults.cause
        return {
            "device": self._choice.active,
            "lost": cause.value if cause else None,
            **self._session.account(),
        }

    def _new_session(self) -> GpsdSession:
        now_s = self._clock.monotonic_s()
        return GpsdSession(
            self._settings,
            self._choice,
            self._first_cycles_s,
            self._is_there,
            now_s,
            memory=self._memory,
        )

    def _serve(self) -> None:
        self._session = session = self._new_session()
        try:
            self._connect(session)
        finally:
            self._spoke_since_s = session.spoke_since_s
            self._session = self._new_session()

    def _connect(self, session: GpsdSession) -> None:
        address = (self._settings.host, self._settings.port)
        try:
            connection = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            reason = f"cannot connect: {error.strerror or error}"
            raise GpsLostError(Cause.UNREACHABLE, reason) from None
        with connection:
            try:
                connection.sendall(watch_command())
                self._listen(connection, session)
                self._send(connection, session, None)
            except OSError as error:
                reason = f"connection broke: {error.strerror or error}"
                raise GpsLostError(Cause.UNREACHABLE, reason) from None

    def _listen(self, connection: socket.socket, session: GpsdSession) -> None:
        looked_s = self._clock.monotonic_s()
        had_fix = False
        while not self._stopping.is_set():
            left_s = looked_s + LOOK_S - self._clock.monotonic_s()
            has_data, was_woken = self._wait(connection.fileno(), max(0.0, left_s))
            if has_data:
                data = connection.recv(16_384)
                if not data:
                    raise GpsLostError(Cause.UNREACHABLE, "gpsd closed the connection")
                for received in session.feed(data, self._clock.monotonic_s()):
                    had_fix = True
                    self._hand_on(received)
            now_s = self._clock.monotonic_s()
            # gpsd sends one epoch in several pieces; not each is worth a look at the receivers
            if session.has_news or was_woken or now_s - looked_s >= LEAST_LOOK_S:
                self._look_at(session, now_s, had_fix=had_fix)
                looked_s, had_fix = now_s, False
                self._send(connection, session, self._wanted_cycle_s)

    def _look_at(self, session: GpsdSession, now_s: float, *, had_fix: bool) -> None:
        unplugged = session.look(now_s)
        if unplugged is not None:
            self._faults.lost(Cause.REMOVED, unplugged)
        self._faults.uses(self._choice.active, instead_of=self._choice.missed)
        self._look(
            now_s,
            repeats=session.repeats,
            in_view=session.in_view(now_s),
            antenna=session.antenna,
            had_fix=had_fix,
        )

    def _send(
        self, connection: socket.socket, session: GpsdSession, wanted_s: float | None
    ) -> None:
        for command in session.commands(wanted_s):
            connection.sendall(command)

    def _is_there(self, path: str) -> bool:
        """Whether a receiver's path exists: only known of this board, and not of URLs."""
        is_local = self._settings.host in LOCAL_HOSTS
        return not (is_local and path.startswith("/")) or Path(path).exists()
