"""The GPS source without gpsd: NMEA straight from a serial port, in one thread.

It opens the port, finds the baud rate, and puts fixes into the inbox. A port that vanishes
(a USB receiver unplugged), one that another program holds and a receiver that fell silent
all end the session; the next one is tried with back-off. The inbox hears of the loss
once, and of the return once. PPS is not read: that is chrony's part.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from agent.config import GpsSettings, UbloxCycle
from agent.inputs import Inbox
from agent.ports import Clock
from agent.sources.gps.faults import Cause, GpsLostError
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gps.thread import LOOK_S, GpsThread
from agent.sources.nmea.baud import ENOUGH_NOISE_BYTES, LISTEN_S, BaudMemory, bauds_to_try
from agent.sources.nmea.port import PORT_ERRORS, SerialSession, reason_of, was_unplugged

_log = logging.getLogger(__name__)


class NmeaSource(GpsThread):
    """``start()`` once; ``stop()`` at any time, idempotent."""

    def __init__(
        self,
        settings: GpsSettings,
        inbox: Inbox,
        clock: Clock,
        bauds: BaudMemory,
        cycles: CycleMemory,
    ) -> None:
        self._names = ", ".join(settings.serial.device)
        super().__init__(settings, inbox, clock, _log, f"GPS on {self._names}")
        self._bauds = bauds
        self._cycles = cycles
        self._session: SerialSession | None = None

    def account(self) -> dict[str, Any]:
        """What is known of the receiver and its line; from any thread."""
        session, cause = self._session, self._faults.cause
        known = {"device": None} if session is None else session.account()
        return {"lost": cause.value if cause else None, **known}

    def _serve(self) -> None:
        """One session with the first port that speaks."""
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
        bauds = bauds_to_try(self._settings.serial.baud, self._bauds.recall(device))
        session: SerialSession | None = None
        try:
            session = SerialSession(device, bauds[0], self._cycles.recall(device))
            for baud in bauds:
                session.change_baud(baud)
                if self._speaks(session):
                    if not self._settings.serial.baud:
                        self._bauds.keep(device, baud)
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
        heard_s = self._spoke_since_s = self._clock.monotonic_s()
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
            stream = session.stream
            self._look(
                now_s,
                repeats=stream.repeats,
                in_view=stream.in_view,
                antenna=stream.antenna,
                had_fix=stream.fixes > fixes,
            )
            cycle_s = session.apply_cycle(self._wanted_cycle_s, self._cycles)
            if cycle_s is not None:
                _log.info("asked %s for a fix every %g s", session.device, cycle_s)
        session.apply_cycle(None, self._cycles)

    def _take(self, session: SerialSession, timeout_s: float) -> None:
        """Wait for bytes or for the pause after them, and hand on what they complete."""
        wait_s = timeout_s
        if session.is_mid_epoch:
            # a UART hands over a few bytes at a time: gathered, they cost less
            self._stopping.wait(session.gather_s)
            wait_s = min(session.pause_s, timeout_s)
        has_data, was_woken = self._wait(session.port.fileno(), wait_s)
        if has_data:
            for fix in session.read(self._clock.monotonic_s()):
                self._hand_on(fix)
        elif session.is_mid_epoch and not was_woken:
            last = session.pause()
            if last is not None:
                self._hand_on(last)

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
