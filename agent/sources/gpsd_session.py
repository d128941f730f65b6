"""One connection to gpsd without its socket: bytes in; fixes, losses and commands out.

It lives as long as a connection. What outlasts one is passed in: the choice of the receiver
and the watch on what goes wrong. Times are monotonic and passed in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from agent.config import GpsSettings
from agent.inputs import FixReceived
from agent.sources import antenna
from agent.sources.gps_choice import ReceiverChoice
from agent.sources.gps_faults import Cause, GpsLostError
from agent.sources.gpsd_protocol import (
    Report,
    cycle_command,
    has_fix,
    parse_line,
    path_of,
)
from agent.sources.gpsd_receiver import Receiver

MAX_LINE_BYTES: Final = 65_536
"""Longer than any report; gpsd's own buffer is 10 KB."""

MAX_UNHEARD_BYTES: Final = 1_048_576
"""Received without one word of a receiver; gpsd sends a TPV at least once a cycle."""

_log = logging.getLogger(__name__)


class GpsdSession:
    """Feed it what was received; ``look`` at least once a second."""

    def __init__(
        self,
        settings: GpsSettings,
        choice: ReceiverChoice,
        first_cycles_s: dict[str, float],
        now_s: float,
    ) -> None:
        self.spoke_since_s: float | None = None
        """When a receiver was first heard; the connection works since then."""
        self.repeats = False
        """Whether the newest report only repeated a fix."""
        self.antenna: str | None = None
        """``OK``, ``OPEN`` or ``SHORT``, as the only receiver said last."""
        self._settings = settings
        self._choice = choice
        self._first_cycles_s = first_cycles_s
        self._receivers: dict[str, Receiver] = {}
        self._heard_s = now_s
        self._buffer = b""
        self._unheard_bytes = 0

    def feed(self, data: bytes, now_s: float) -> Iterator[FixReceived]:
        """The fixes of the receiver in use that these bytes bring.

        Raises:
            GpsLostError: what answers is not gpsd, or the last receiver was unplugged.
        """
        self._unheard_bytes += len(data)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            report = parse_line(line)
            if report is not None:
                received = self._take(report, now_s)
                if received is not None:
                    yield received
            elif b"TXT," in line[:8] and len(self._receivers) == 1:
                # a sentence does not say which receiver it is of
                self.antenna = antenna.word_in(line.decode("latin-1")) or self.antenna
        if len(self._buffer) > MAX_LINE_BYTES or self._unheard_bytes > MAX_UNHEARD_BYTES:
            raise GpsLostError(Cause.UNREACHABLE, "what answers there is not gpsd")

    def look(self, now_s: float) -> bool:
        """Whether another receiver is in use from now on.

        Raises:
            GpsLostError: no receiver spoke for too long.
        """
        if now_s - self._heard_s >= self._settings.silent_after_s:
            raise self._silence()
        return self._choice.choose(now_s)

    def cycle_commands(self, wanted_s: float | None) -> Iterator[bytes]:
        """What asks the receiver in use for a cycle, and lets the others go."""
        for receiver in self._receivers.values():
            in_use = receiver.path == self._choice.active
            cycle_s = receiver.change_cycle(wanted_s if in_use else None)
            if cycle_s is not None:
                _log.info("asked %s for a fix every %g s", receiver.path, cycle_s)
                yield cycle_command(receiver.path, cycle_s)

    def account(self) -> dict[str, Any]:
        """The receivers that gpsd has; from any thread."""
        return {
            "receivers": [
                {"device": one.path, "driver": one.driver, "present": one.present}
                for one in list(self._receivers.values())
            ],
            "antenna": self.antenna,
        }

    def _take(self, report: Report, now_s: float) -> FixReceived | None:
        match report["class"]:
            case "TPV":
                return self._take_tpv(report, now_s)
            case "SKY":
                receiver = self._receivers.get(path_of(report))
                if receiver is not None:
                    receiver.take_sky(report, now_s)
            case "DEVICES":
                devices = report.get("devices")
                for device in devices if isinstance(devices, list) else ():
                    if isinstance(device, dict):
                        self._learn(device)
                self._require_receiver()
            case "DEVICE":
                self._learn(report)
                self._require_receiver()
            case "ERROR":
                _log.debug("gpsd says: %s", report.get("message"))
        return None

    def _take_tpv(self, tpv: Report, now_s: float) -> FixReceived | None:
        path = path_of(tpv)
        if not self._choice.is_eligible(path):
            return None
        self._heard_s = now_s
        self._unheard_bytes = 0
        if self.spoke_since_s is None:
            self.spoke_since_s = now_s
        receiver = self._receiver(path)
        received = receiver.take_tpv(tpv, now_s)
        self.repeats = received is None and has_fix(tpv)
        if received is None:
            return None
        if received.is_new:
            self._choice.had_fix(path, now_s)
            self._choice.choose(now_s)
        return received if path == self._choice.active else None

    def _learn(self, device: Report) -> None:
        path = path_of(device, "path")
        if path:
            receiver = self._receiver(path)
            receiver.learn(device)
            if not receiver.present:
                self._choice.gone(path)

    def _receiver(self, path: str) -> Receiver:
        if path not in self._receivers:
            self._receivers[path] = Receiver(path, self._first_cycles_s)
        return self._receivers[path]

    def _require_receiver(self) -> None:
        """End the session when the last receiver is gone: watching anew makes gpsd look for it."""
        ours = [one for one in self._receivers.values() if self._choice.is_eligible(one.path)]
        if ours and not any(one.present for one in ours):
            names = " and ".join(one.path for one in ours)
            raise GpsLostError(Cause.REMOVED, f"{names} was unplugged, or its port failed")

    def _silence(self) -> GpsLostError:
        wanted = self._settings.device
        known = ", ".join(self._receivers)
        if not known:
            return GpsLostError(Cause.NO_RECEIVER, "gpsd has no receiver")
        if wanted and not self._receivers.keys() & set(wanted):
            names = " or ".join(wanted)
            return GpsLostError(
                Cause.NO_RECEIVER, f"gpsd has no receiver {names} (it has: {known})"
            )
        silent_s = self._settings.silent_after_s
        return GpsLostError(Cause.SILENT, f"no word of the receiver for {silent_s:g} s")
