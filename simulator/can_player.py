"""Plays a candump log on a bus, at the log's pace times ``speed``.

Any bus that python-can opens: ``socketcan``, ``udp_multicast`` (``hop_limit`` is 0
unless given, so nothing leaves the machine), ``virtual`` (within one process). Frames are always
paced: a UDP socket loses what comes faster than its reader reads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from simulator.bus import open_bus
from simulator.can_faults import BusFaults
from simulator.can_log import CanLog, CanLogCounts, LoggedFrame
from simulator.clock import monotonic_s
from simulator.errors import BusError, CanLogError
from simulator.pacing import Pacer
from simulator.schedule import require_speed

if TYPE_CHECKING:
    # Importing python-can takes a third of a second: only who plays pays for it.
    import can

logger = logging.getLogger(__name__)

MAX_FRAMES_PER_S: Final = 4000.0
"""A full 500 kbit/s bus; udp_multicast was measured lossless at 5,000."""

_CARRY_ERROR_REPORTS: Final = frozenset({"udp_multicast", "virtual"})
"""Buses that pass a controller's error report on; a real controller makes its own."""

_SEND_TIMEOUT_S: Final = 0.5
_PAUSE_BETWEEN_PASSES_S: Final = 1.0
_JOIN_S: Final = 5.0


class CanPlayer:
    """Plays the log at ``path``; ``start`` opens the bus, a thread sends.

    ``options`` go to ``can.Bus`` as they are. ``log_channel`` picks one of the log's
    interfaces, ``max_gap_s`` shortens its longer pauses. ``stop`` is idempotent and safe
    before ``start``. ``finished`` is set after the last frame, by ``stop``, or when the
    replay cannot go on: then ``error`` says why.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        interface: str,
        channel: str,
        options: Mapping[str, Any] | None = None,
        speed: float = 1.0,
        loop: bool = False,
        log_channel: str | None = None,
        max_gap_s: float | None = None,
    ) -> None:
        self.log = CanLog(path, log_channel=log_channel, max_gap_s=max_gap_s)
        self.finished = threading.Event()
        self.error: BusError | CanLogError | None = None
        self.frames_sent = 0
        self.frames_refused = 0
        """Frames that the bus would not take, e.g. because its queue stayed full."""
        self.error_frames_skipped = 0
        self.surveyed = CanLogCounts()
        """What the log holds, bad lines included; after ``start``."""
        self._interface = interface
        self._channel = channel
        self._options = dict(options or {})
        self._speed = require_speed(speed)
        self._loop = loop
        self.faults = BusFaults()
        """What is wrong with the bus and with what is sent on it, now."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._bus: can.BusABC | None = None

    @property
    def progress(self) -> float:
        """How much of the log was played, 0 to 1; of the current pass, when looping."""
        return min(self.log.counts.frames / max(self.surveyed.frames, 1), 1.0)

    def start(self) -> None:
        """Survey the log, open the bus and begin to play.

        Raises:
            CanLogError: the log cannot be read or holds no frame.
            BusError: the bus cannot be opened.
        """
        self.surveyed = self.log.survey()
        self.log.counts = CanLogCounts()
        if self.surveyed.fd_frames:
            self._options.setdefault("fd", True)
        self._bus = open_bus(self._interface, self._channel, self._options)
        self._thread = threading.Thread(target=self._run, name="sim-can-player", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sending and close the bus."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        if self._bus is not None:
            self._bus.shutdown()
            self._bus = None

    def _run(self) -> None:
        import can  # noqa: PLC0415 -- slow, see above

        bus = self._bus
        if bus is None:
            return
        try:
            self._play(bus)
        except (BusError, CanLogError) as error:
            self.error = error
            logger.warning("the CAN replay ended early: %s", error)
        except can.CanError as error:
            self.error = BusError(f"the CAN bus was lost: {error}", hint="see 'ip link'")
            logger.warning("the CAN replay ended early: %s", error)
        finally:
            self.finished.set()

    def _play(self, bus: can.BusABC) -> None:
        pacer = Pacer(self._stopping, MAX_FRAMES_PER_S)
        begun_s = monotonic_s()
        while True:
            due_s = begun_s
            for frame in self.log:
                due_s = begun_s + frame.offset_s / self._speed
                if not pacer.wait_until(due_s):
                    return
                for one in self.faults.shaped(frame):
                    self._send(bus, one)
            if not self._loop:
                return
            begun_s = due_s + _PAUSE_BETWEEN_PASSES_S / self._speed

    def _send(self, bus: can.BusABC, frame: LoggedFrame) -> None:
        import can  # noqa: PLC0415 -- slow, see above

        if frame.error and self._interface not in _CARRY_ERROR_REPORTS:
            self.error_frames_skipped += 1
            return
        try:
            bus.send(_message(frame), timeout=_SEND_TIMEOUT_S)
        except can.CanOperationError as error:
            self.frames_refused += 1
            if self.frames_refused == 1:
                logger.warning("the CAN bus refuses frames: %s", error)
            return
        self.frames_sent += 1


def _message(frame: LoggedFrame) -> can.Message:
    import can  # noqa: PLC0415 -- slow, see above

    return can.Message(
        arbitration_id=frame.arbitration_id,
        is_extended_id=frame.extended,
        is_remote_frame=frame.remote,
        is_error_frame=frame.error,
        is_fd=frame.fd,
        bitrate_switch=frame.bitrate_switch,
        error_state_indicator=frame.error_state,
        dlc=frame.length,
        data=None if frame.remote else frame.data,
    )
