"""One connection to gpsd without its socket: bytes in; fixes, losses and commands out.

It lives as long as a connection. What outlasts one is passed in: the choice of the receiver
and the watch on what goes wrong. Times are monotonic and passed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent.config import GpsSettings
from agent.inputs import FixReceived
from agent.sources.gps import antenna
from agent.sources.gps.choice import ReceiverChoice
from agent.sources.gps.faults import Cause, GpsLostError
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.protocol import (
    Report,
    cycle_command,
    has_fix,
    parse_line,
    path_of,
    watch_command,
)
from agent.sources.gpsd.receiver import Receiver

MAX_LINE_BYTES: Final = 65_536
"""Longer than any report; gpsd's own buffer is 10 KB."""

MAX_UNHEARD_BYTES: Final = 1_048_576
"""Received without one word of a receiver; gpsd sends a TPV at least once a cycle."""

WAKE_AGAIN_S: Final = 3.0

_log = logging.getLogger(__name__)


class GpsdSession:
    """Feed it what was received; ``look`` and send ``commands`` at least once a second."""

    def __init__(
        self,
        settings: GpsSettings,
        choice: ReceiverChoice,
        first_cycles_s: dict[str, float],
        is_there: Callable[[str], bool],
        now_s: float,
        *,
        memory: CycleMemory,
    ) -> None:
        """``is_there``: whether a device's path exists, as far as that can be told."""
        self.spoke_since_s: float | None = None
        """When a receiver was first heard; the connection works since then."""
        self.repeats = False
        """Whether the newest report only repeated a fix."""
        self.antenna: str | None = None
        """``OK``, ``OPEN`` or ``SHORT``, as the only receiver said last."""
        self.sentences = 0
        self.has_news = False
        """gpsd told of its devices, or another receiver is in use, since the last ``look``."""
        self._settings = settings
        self._choice = choice
        self._first_cycles_s = first_cycles_s
        self._memory = memory
        self._is_there = is_there
        self._wants_watch = False
        self._receivers: dict[str, Receiver] = {}
        self._heard_s = now_s
        self._buffer = b""
        self._unheard_bytes = 0

    def in_view(self, now_s: float) -> int:
        """The satellites that the receiver hears that hears most."""
        return max((one.in_view(now_s) for one in self._receivers.values()), default=0)

    def feed(self, data: bytes, now_s: float) -> Iterator[FixReceived]:
        """The fixes of the receiver in use that these bytes bring.

        Raises:
            GpsLostError: what answers is not gpsd.
        """
        self._unheard_bytes += len(data)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            report = parse_line(line)
            if report is not None:
                received = self._take(report, now_s)
                if received is not None:
                    yield received
            elif line.startswith(b"$"):
                self._take_sentence(line)
        if len(self._buffer) > MAX_LINE_BYTES or self._unheard_bytes > MAX_UNHEARD_BYTES:
            raise GpsLostError(Cause.UNREACHABLE, "what answers there is not gpsd")

    def look(self, now_s: float) -> str | None:
        """What of the receivers was unplugged, if none is left.

        Raises:
            GpsLostError: no receiver spoke for too long.
        """
        self.has_news = False
        ours = [one for one in self._receivers.values() if self._choice.is_eligible(one.path)]
        for receiver in ours:
            self._follow_plug(receiver, now_s)
        self._choice.choose(now_s)
        if ours and not any(one.is_plugged for one in ours):
            # to watch now would make gpsd 3.22 forget a device that it cannot open
            self._heard_s = now_s
            return " and ".join(one.path for one in ours) + " was unplugged"
        if now_s - self._heard_s >= self._settings.silent_after_s:
            raise self._silence()
        return None

    def commands(self, wanted_cycle_s: float | None) -> Iterator[bytes]:
        """What to send now: the cycle for the receiver in use, the others are let go."""
        if self._wants_watch:
            self._wants_watch = False
            yield watch_command()
        for receiver in self._receivers.values():
            in_use = receiver.path == self._choice.active
            wanted_s = wanted_cycle_s if in_use else None
            while (cycle_s := receiver.change_cycle(wanted_s)) is not None:
                _log.info("asked %s for a fix every %g s", receiver.path, cycle_s)
                with self._memory.changing(receiver.path, receiver.own_cycle_s, cycle_s):
                    yield cycle_command(receiver.path, cycle_s)

    def account(self) -> dict[str, Any]:
        """The receivers that gpsd has; from any thread."""
        return {
            "receivers": [
                {"device": one.path, "driver": one.driver, "plugged": one.is_plugged}
                for one in list(self._receivers.values())
            ],
            "antenna": self.antenna,
            "sentences": self.sentences,
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
                self.has_news = True
                self._learn_all(report.get("devices"))
            case "DEVICE":
                self.has_news = True
                self._learn(report)
            case "ERROR":
                _log.debug("gpsd says: %s", report.get("message"))
        return None

    def _take_sentence(self, line: bytes) -> None:
        self.sentences += 1
        # a sentence does not say which receiver it is of
        if b"TXT," in line[:8] and len(self._receivers) == 1:
            self.antenna = antenna.word_in(line.decode("latin-1")) or self.antenna

    def _take_tpv(self, tpv: Report, now_s: float) -> FixReceived | None:
        path = path_of(tpv)
        if not self._choice.is_eligible(path):
            return None
        self._heard_s = now_s
        self._unheard_bytes = 0
        if self.spoke_since_s is None:
            self.spoke_since_s = now_s
        receiver = self._receiver(path)
        receiver.wake_at_s = None
        received = receiver.take_tpv(tpv, now_s)
        self.repeats = received is None and has_fix(tpv)
        if received is None:
            return None
        if received.is_new:
            self._choice.had_fix(path, now_s)
            self.has_news |= self._choice.choose(now_s)
        return received if path == self._choice.active else None

    def _receiver(self, path: str) -> Receiver:
        if path not in self._receivers:
            was_left_changed = self._memory.recall(path) is not None
            self._receivers[path] = Receiver(
                path, self._first_cycles_s, was_left_changed=was_left_changed
            )
        return self._receivers[path]

    def _learn_all(self, devices: object) -> None:
        """The list of all that gpsd has; a device that it could not open is no more in it."""
        listed = devices if isinstance(devices, list) else []
        paths = {path_of(one, "path") for one in listed if isinstance(one, dict)}
        for path in self._receivers.keys() - paths:
            del self._receivers[path]
            self._choice.gone(path)
        for device in listed:
            if isinstance(device, dict):
                self._learn(device)

    def _learn(self, device: Report) -> None:
        path = path_of(device, "path")
        if path:
            self._receiver(path).learn(device)

    def _follow_plug(self, receiver: Receiver, now_s: float) -> None:
        is_there = self._is_there(receiver.path)
        # a path that was never seen may be hidden from this process alone
        receiver.was_there |= is_there
        is_missing = receiver.was_there and not is_there
        if receiver.is_plugged and (is_missing or not receiver.is_open):
            receiver.is_plugged = False
            self._choice.gone(receiver.path)
        elif not receiver.is_plugged and not is_missing:
            receiver.is_plugged = receiver.is_open = True
            receiver.wake_at_s = now_s
        if receiver.is_plugged and receiver.wake_at_s is not None and now_s >= receiver.wake_at_s:
            # gpsd 3.22 opens a device again only when somebody watches anew, and not before it
            # has noticed that nothing comes from it any more
            receiver.wake_at_s = now_s + WAKE_AGAIN_S
            self._wants_watch = True

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
