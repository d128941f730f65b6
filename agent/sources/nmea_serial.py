"""The GPS source without gpsd: NMEA straight from a serial port, in one thread.

It opens the port, finds the baud rate, and puts fixes into the inbox. A port that vanishes
(a USB receiver unplugged), one that another program holds and a receiver that fell silent
all end the session; the next one is tried with back-off. The inbox hears of the loss
once, and of the return once. PPS is not read: that is chrony's part.
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

from agent.config import GpsSettings, UbloxCycle
from agent.inputs import FixReceived, Inbox
from agent.ports import Clock
from agent.sources.antenna import AntennaWatch
from agent.sources.backoff import Backoff
from agent.sources.gps_faults import Cause, GpsFaults, GpsLostError
from agent.sources.nmea_baud import ENOUGH_NOISE_BYTES, LISTEN_S, BaudMemory, bauds_to_try
from agent.sources.nmea_port import PORT_ERRORS, SerialSession, reason_of, was_unplugged

LOOK_S: Final = 1.0
"""The longest time between two looks at what is missing."""

_log = logging.getLogger(__name__)


class NmeaSource:
    """``start()`` once; ``stop()`` at any time, idempotent."""

    def __init__(
        self, settings: GpsSettings, inbox: Inbox, clock: Clock, memory: BaudMemory
    ) -> None:
        now_s = clock.monotonic_s()
        self._settings = settings
        self._inbox = inbox
        self._clock = clock
        self._memory = memory
        self._names = ", ".join(settings.serial.device)
        self._faults = GpsFaults(settings, inbox, _log, f"GPS on {self._names}", now_s)
        self._antenna = AntennaWatch(now_s)
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)  # noqa: FBT003  positional only
        self._thread: threading.Thread | None = None
        self._wanted_cycle_s: float | None = None
        self._working_since_s: float | None = None
        self._session: SerialSession | None = None

    def start(self) -> None:
        """Begin to look for the receiver, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="gps", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give the receiver its own cycle back, close the port and end the thread."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(5)

    def request_cycle(self, cycle_s: float | None) -> None:
        """Ask for a fix every ``cycle_s``; ``None`` lets go. From any thread, at once."""
        self._wanted_cycle_s = cycle_s
        self._wake()

    def account(self) -> dict[str, Any]:
        """What is known of the receiver and its line; from any thread."""
        session, cause = self._session, self._faults.cause
        known = {"device": None} if session is None else session.account()
        return {"lost": cause.value if cause else None, **known}

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            self._working_since_s = None
            try:
                self._serve()
            except GpsLostError as lost:
                self._faults.lost(lost.cause, lost.message)
                wait_s = backoff.after_failure(
                    self._clock.monotonic_s(),
                    self._working_since_s,
                    random.random(),  # noqa: S311  spreads retries, guards nothing
                )
                self._stopping.wait(wait_s)

    def _serve(self) -> None:
        """One session with the first port that speaks, until stopped.

        Raises:
            GpsLostError: there is none, or it was lost.
        """
        failures: list[GpsLostError] = []
        for device in self._devices():
            try:
                session = self._begin(device)
            except GpsLostError as lost:
                failures.append(lost)
                continue
            except PORT_ERRORS as error:
                failures.append(self._lost(device, error))
                continue
            if session is None:
                return
            try:
                self._session = session
                self._listen(session)
            except PORT_ERRORS as error:
                raise self._lost(device, error) from None
            finally:
                self._session = None
                session.close()
            return
        if not failures:
            raise GpsLostError(Cause.NO_RECEIVER, f"there is no {self._names}")
        raise GpsLostError(failures[0].cause, "; ".join(lost.message for lost in failures))

    def _devices(self) -> list[str]:
        """The ports that there are, in the order of the config."""
        found = [path for wanted in self._settings.serial.device for path in _expand(wanted)]
        return list(dict.fromkeys(found))

    def _begin(self, device: str) -> SerialSession | None:
        """Open a port and find its baud rate; ``None`` if told to stop meanwhile.

        Raises:
            GpsLostError: no receiver speaks on it.
            PORT_ERRORS: it cannot be opened, or is gone.
        """
        bauds = bauds_to_try(self._settings.serial.baud, self._memory.recall(device))
        session: SerialSession | None = None
        try:
            session = SerialSession(device, bauds[0])
            for baud in bauds:
                session.change_baud(baud)
                if self._speaks(session):
                    if not self._settings.serial.baud:
                        self._memory.keep(device, baud)
                    found, session = session, None
                    return found
                if self._stopping.is_set():
                    return None
                if session.stream.bytes_read == 0 or session.stream.ubx_messages > 0:
                    # another rate would not help
                    break
            raise GpsLostError(Cause.SILENT, self._named(device, session.silence()))
        finally:
            if session is not None:
                session.close()

    def _speaks(self, session: SerialSession) -> bool:
        """Whether a sound sentence comes in time; noise ends the wait, silence prolongs it."""
        begun_s = self._clock.monotonic_s()
        patient = self._settings.serial.baud != 0
        stream = session.stream
        while not self._stopping.is_set():
            waited_s = self._clock.monotonic_s() - begun_s
            silent = stream.bytes_read == 0
            is_noise = stream.bytes_read >= ENOUGH_NOISE_BYTES and stream.ubx_messages == 0
            if is_noise and not patient:
                return False
            left_s = (self._settings.silent_after_s if patient or silent else LISTEN_S) - waited_s
            if left_s <= 0:
                return False
            self._take(session, min(left_s, LISTEN_S))
            if stream.sentences > 0:
                return True
        return False

    def _listen(self, session: SerialSession) -> None:
        """Read until stopped.

        Raises:
            GpsLostError: no sentence came for too long.
            PORT_ERRORS: the port is gone.
        """
        heard_s = self._working_since_s = self._clock.monotonic_s()
        if self._settings.serial.ublox_cycle is UbloxCycle.TRIP:
            session.ask_receiver()
        while not self._stopping.is_set():
            heard, fixes = session.stream.sentences, session.stream.fixes
            self._take(session, LOOK_S)
            now_s = self._clock.monotonic_s()
            if session.stream.sentences > heard:
                heard_s = now_s
            elif now_s - heard_s >= self._settings.silent_after_s:
                raise GpsLostError(Cause.SILENT, self._named(session.device, session.silence()))
            self._look(session, now_s, had_fix=session.stream.fixes > fixes)
            cycle_s = session.apply_cycle(self._wanted_cycle_s)
            if cycle_s is not None:
                _log.info("asked %s for a fix every %g s", session.device, cycle_s)
        session.apply_cycle(None)

    def _take(self, session: SerialSession, timeout_s: float) -> None:
        """Wait for bytes or for the pause after them, and hand on what they complete."""
        wait_s = timeout_s
        if session.is_mid_epoch:
            # a UART hands over a few bytes at a time: gathered, they cost less
            self._stopping.wait(session.gather_s)
            wait_s = min(session.pause_s, timeout_s)
        port, wake = session.port.fileno(), self._wake_reader.fileno()
        ready, _, _ = select.select([port, wake], [], [], wait_s)
        if wake in ready:
            self._wake_reader.recv(64)
        if port in ready:
            for fix in session.read(self._clock.monotonic_s()):
                self._hand_on(fix)
        elif not ready and session.is_mid_epoch:
            last = session.pause()
            if last is not None:
                self._hand_on(last)

    def _hand_on(self, fix: FixReceived) -> None:
        if fix.is_new:
            self._faults.found(self._clock.monotonic_s())
        self._inbox.put(fix)

    def _look(self, session: SerialSession, now_s: float, *, had_fix: bool) -> None:
        self._faults.look(now_s, repeats=session.stream.repeats)
        if self._antenna.observe(session.stream.antenna, now_s, has_fix=had_fix):
            self._faults.antenna(self._antenna.fault)

    def _lost(self, device: str, error: BaseException) -> GpsLostError:
        cause = Cause.REMOVED if was_unplugged(error) else Cause.UNREACHABLE
        return GpsLostError(cause, self._named(device, reason_of(error)))

    def _named(self, device: str, reason: str) -> str:
        """The reason, with the port's name where the config does not say which one it is."""
        return reason if device == self._names else f"{device}: {reason}"


def _expand(wanted: str) -> list[str]:
    """The paths that a pattern matches now; a plain path is itself, there or not."""
    if not set(wanted) & set("*?["):
        return [wanted]
    return sorted(str(path) for path in Path("/").glob(wanted.lstrip("/")))
