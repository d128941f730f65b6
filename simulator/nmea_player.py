"""A receiver on a serial line: replays its log burst by burst, in a thread of its own."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from simulator.clock import WallClock, monotonic_s, utc_now
from simulator.gps_faults import CLEAR_SKY, Sky
from simulator.gpsd_server import Begin, Stamp
from simulator.nmea_faults import seen_line
from simulator.receiver_log import ReceiverLog, restamp
from simulator.schedule import Schedule
from simulator.serial_line import BITS_A_BYTE, SerialLine

_LOOK_S: Final = 0.02
"""How often it looks for a reader; nothing tells that a terminal was opened."""

_SETTLE_S: Final = 0.05
"""A program that has just opened a port sets it up and throws away what came before."""


class NmeaPlayer:
    """Replays ``log`` on a pseudo terminal at ``baud``; ``speed`` moves the line along too.

    ``start`` makes the port and returns; ``stop`` unplugs it, and may be called at any time,
    more than once. ``max_gap_s`` (in the log's time) shortens longer pauses of the log.
    ``finished`` is set when the last byte was sent; the port stays.
    """

    def __init__(
        self,
        log: ReceiverLog,
        *,
        baud: int = 9_600,
        link: Path | None = None,
        speed: float = 1.0,
        stamp: Stamp = Stamp.PRESENT,
        loop: bool = False,
        max_gap_s: float | None = None,
        begin: Begin = Begin.FIRST_WATCHER,
        wall_clock: WallClock = utc_now,
    ) -> None:
        self.log = log
        self.line = SerialLine(baud=baud, link=link)
        self.finished = threading.Event()
        self.began_at: datetime | None = None
        """The wall time of the log's first moment, once it has begun."""
        self.bursts_sent = 0
        self._schedule = Schedule(
            log.epochs, speed=speed, interval_s=log.interval_s, loop=loop, max_gap_s=max_gap_s
        )
        self._speed = speed
        self._stamp = stamp
        self._begin = begin
        self._now = wall_clock
        self._sky = CLEAR_SKY
        self._last_burst = b""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def progress(self) -> float:
        """How much of the log was sent, 0 to 1; of the current pass, when looping."""
        count = len(self.log.bursts)
        return ((self.bursts_sent - 1) % count + 1) / count if self.bursts_sent else 0.0

    @property
    def falls_behind(self) -> bool:
        """Whether the baud rate is too low for the log's longest burst."""
        needed_s = self.log.longest_burst_bytes * BITS_A_BYTE / self.line.baud
        return needed_s > self.log.interval_s

    def start(self) -> None:
        """Make the port and begin.

        Raises:
            PortError: it cannot be made.
        """
        self.line.open()
        self._thread = threading.Thread(target=self._run, name="sim-nmea-player", daemon=True)
        self._thread.start()

    def become(self, sky: Sky) -> None:
        """What the receiver makes of the drive from now on; from any thread."""
        self._sky = sky

    def stop(self) -> None:
        """Stop and unplug."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.line.close()

    def _run(self) -> None:
        if self._begin is Begin.FIRST_WATCHER:
            while not self.line.has_reader():
                if self._stopping.wait(_LOOK_S):
                    return
            self._stopping.wait(_SETTLE_S)
        begun_s, begun = monotonic_s(), self._now()
        self.began_at = begun
        free_s = begun_s
        while not self._stopping.is_set():
            due_s = self._schedule.due_s(self.bursts_sent)
            if due_s is None:
                self.finished.set()
                return
            data = self._burst(self.bursts_sent, begun + timedelta(seconds=due_s))
            free_s = self.line.send(data, max(begun_s + due_s, free_s), self._stopping, self._speed)
            self.bursts_sent += 1

    def _burst(self, index: int, moment: datetime) -> bytes:
        sky = self._sky
        if not sky.frozen:
            lines = [seen_line(line, sky) for line in self.log.bursts[index % len(self.log.bursts)]]
            if self._stamp is Stamp.PRESENT:
                lines = [restamp(line, moment) for line in lines]
            self._last_burst = b"".join(lines)
        return self._last_burst
