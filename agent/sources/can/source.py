"""The CAN source: one bus in one thread.

The thread sleeps until frames come, takes all that are there, and then leaves the bus
alone for a moment: only the newest frame of each message counts, so gathering costs
nothing and saves most of the wake-ups of a busy bus. Only mapped ids pass the kernel's
filter where the interface has one.

A missing interface, an interface that goes down and a receive error are all survived: the
bus is opened again with back-off, and counts as recovered once it has held for a while. A
silent bus is no fault; a parked vehicle's sleeps. What the controller says of itself,
bus-off and error-passive, is a fault of its own beside that.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
from typing import Final, Protocol

from agent.config import CanSettings
from agent.errors import SourceError
from agent.inputs import Inbox, SignalValue, SourceChanged
from agent.logs import StateLog
from agent.ports import Clock
from agent.sources.backoff import Backoff
from agent.sources.can.errors import BusState, advice, is_overflow, state_after
from agent.sources.can.ids import ERROR
from agent.sources.can.python_can import PythonCanReader
from agent.sources.can.signal_map import SignalMap
from agent.sources.can.slots import RawFrame
from agent.sources.can.socketcan import SocketCanReader, open_socket

GATHER_S: Final = 0.1
"""How long frames are left in the socket to gather; half of the fastest sampling interval."""

HELD_S: Final = 2.0
"""How long a bus must work to count as recovered; one that flaps stays lost until then."""

FLOODED_S: Final = 10.0
"""Without a drop for so long, a flood is over; frames must have come, they carry the count."""

_FAULTS: Final = (BusState.PASSIVE, BusState.OFF)

_log = logging.getLogger(__name__)


class FrameReader(Protocol):
    """An open bus; used by one thread."""

    drops: int
    """Frames that were dropped below, since it was opened."""

    burst_frames: int
    """Frames that may gather below, with room to spare."""

    def wait(self, wake: socket.socket, timeout_s: float | None) -> None:
        """Until frames, an error or ``wake`` are there, or the time is up."""
        ...

    def take(self) -> list[RawFrame]:
        """All frames that are there, oldest first; raises ``SourceError``."""
        ...

    def close(self) -> None:
        """Close the bus; never raises."""
        ...


class CanSource:
    """``start()`` once; ``stop()`` at any time, idempotent; ``read`` from the engine."""

    def __init__(
        self, settings: CanSettings, signals: SignalMap, inbox: Inbox, clock: Clock
    ) -> None:
        self.name = f"can:{settings.channel}"
        self._settings = settings
        self._signals = signals
        self._inbox = inbox
        self._clock = clock
        what = f"CAN bus {settings.channel} ({settings.interface})"
        self._state = StateLog(_log, what)
        self._faults = {fault: StateLog(_log, what, "in trouble") for fault in _FAULTS}
        self._flood = StateLog(_log, what, "flooded")
        self._flooded_s = 0.0
        self._controller = BusState.ACTIVE
        self._is_open = False
        self._kernel_drops = 0
        self._error_frames = 0
        self._overflows = 0
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to open the bus, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the bus."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")
        if self._thread is not None:
            self._thread.join(5)

    def read(self, now_s: float) -> dict[str, SignalValue]:
        """Contract field -> newest value, without those that are stale or not valid."""
        return self._signals.read(now_s)

    def sampled(self) -> None:
        """What was read last went into a sample."""
        self._signals.sampled()

    def received_s(self, name: str) -> float | None:
        """When the newest frame with a mapped field came (monotonic); ``None`` if none has."""
        return self._signals.received_s(name)

    @property
    def channel(self) -> str:
        """The bus, as the config names it."""
        return self._settings.channel

    def frames_dropped(self) -> int:
        """Mapped frames that came and were lost: too short, too many for us or the controller."""
        return self._signals.slots.dropped + self._kernel_drops + self._overflows

    def account(self) -> dict[str, int | str]:
        """The bus's state, and what became of the frames of mapped ids.

        ``dropped``: came and were no use; ``kernel_dropped``: did not fit into the socket's
        buffer; ``controller_overflows``: times that the controller itself lost frames.
        """
        slots = self._signals.slots
        return {
            "channel": self._settings.channel,
            "state": self._controller.value if self._is_open else "down",
            "frames": slots.frames,
            "decoded": slots.kept,
            "dropped": slots.dropped,
            "kernel_dropped": self._kernel_drops,
            "controller_overflows": self._overflows,
            "error_frames": self._error_frames,
        }

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            working_since_s = None
            try:
                with contextlib.closing(self._open()) as reader:
                    # the kernel lets a socket be bound to an interface that is down, and
                    # says so when it is read
                    self._keep(reader.take())
                    working_since_s = self._clock.monotonic_s()
                    self._is_open = True
                    self._listen(reader, working_since_s)
            except SourceError as error:
                self._is_open = False
                if self._state.failed(error.message):
                    self._inbox.put(SourceChanged(self.name, available=False, reason=error.message))
                now_s = self._clock.monotonic_s()
                jitter = random.random()  # noqa: S311  spreads retries, guards nothing
                self._stopping.wait(backoff.after_failure(now_s, working_since_s, jitter))

    def _open(self) -> FrameReader:
        settings = self._settings
        if settings.interface != "socketcan":
            return PythonCanReader(settings)
        opened = open_socket(settings.channel, self._signals.filters(), fd=settings.fd)
        return SocketCanReader(opened, settings.channel, fd=settings.fd)

    def _listen(self, reader: FrameReader, opened_s: float) -> None:
        drops_before = self._kernel_drops
        taken_s = opened_s
        while not self._stopping.is_set():
            # a recovery is told though no frame should come
            reader.wait(self._wake_reader, HELD_S if self._state.is_failed else None)
            taken = self._keep(reader.take())
            now_s = self._clock.monotonic_s()
            if taken:
                self._watch_flood(drops_before + reader.drops, now_s)
            if now_s - opened_s >= HELD_S and self._state.recovered():
                self._enter(BusState.ACTIVE)  # the controller was started anew
                self._inbox.put(SourceChanged(self.name, available=True))
            if taken:
                self._stopping.wait(gather_s(taken, now_s - taken_s, reader.burst_frames))
            taken_s = now_s

    def _keep(self, frames: list[RawFrame]) -> int:
        errors = self._signals.take(frames, self._clock.monotonic_s())
        self._heed(errors)
        if frames and self._controller is BusState.OFF and not frames[-1][0] & ERROR:
            self._enter(BusState.ACTIVE)  # nothing is received while bus-off
        return len(frames)

    def _heed(self, errors: list[RawFrame]) -> None:
        self._error_frames += len(errors)
        for error_class, length, data in errors:
            self._overflows += is_overflow(error_class, data[:length])
            self._enter(state_after(self._controller, error_class, data[:length]))

    def _enter(self, state: BusState) -> None:
        self._controller = state
        for fault, told in self._faults.items():
            source = f"{self.name}:{fault.value}"
            if fault is state:
                reason = advice(state, self._settings.channel)
                if told.failed(reason):
                    self._inbox.put(SourceChanged(source, available=False, reason=reason))
            elif told.recovered():
                self._inbox.put(SourceChanged(source, available=True))

    def _watch_flood(self, drops: int, now_s: float) -> None:
        if drops > self._kernel_drops:
            self._kernel_drops = drops
            self._flooded_s = now_s
            self._flood.failed("frames came faster than they could be read; they are counted")
        elif now_s - self._flooded_s >= FLOODED_S:
            self._flood.recovered()


def gather_s(frames: int, since_s: float, burst_frames: int) -> float:
    """How long to let frames gather, when so many came in this time: as fast as those."""
    return min(GATHER_S, since_s * burst_frames / frames)
