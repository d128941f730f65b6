"""The CAN source: one bus in one thread, through python-can.

The thread sleeps until frames come, takes all that are there, and then leaves the bus
alone for a moment: only the newest frame of each message counts, so gathering costs
nothing and saves most of the wake-ups of a busy bus. Only mapped ids pass the kernel's
filter where the interface has one.

A missing interface, an interface that goes down and a receive error are all survived: the
bus is opened again with back-off. A silent bus is no fault; a parked vehicle's sleeps.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from agent.config import CanSettings
from agent.config.obd import BusSettings
from agent.errors import ConfigError, SourceError
from agent.inputs import Inbox, SignalValue, SourceChanged
from agent.logs import StateLog
from agent.ports import Clock
from agent.sources.backoff import Backoff
from agent.sources.can_map import SignalMap

if TYPE_CHECKING:
    import can

GATHER_S: Final = 0.1
"""How long frames are left in the socket to gather; half of the fastest sampling interval."""

GATHER_BUSY_S: Final = 0.03
"""The same on a bus that gave a large burst: a full 500 kbit/s bus puts 120 frames into the
socket meanwhile, and its buffer takes 300."""

BUSY_BURST: Final = 40

WAIT_S: Final = 0.5
"""How long a bus without a file descriptor is waited for, so that a stop is heeded."""

MAX_BURST: Final = 2_000
"""Frames taken before a stop is looked for."""

_log = logging.getLogger(__name__)


def check_interface(settings: CanSettings | BusSettings, section: str = "can") -> None:
    """Refuse an interface that python-can does not know.

    Raises:
        ConfigError: with the nearest names.
    """
    import difflib  # noqa: PLC0415  a config without [[can]] does not need it

    import can.interfaces  # noqa: PLC0415  likewise, and it takes 15 MB

    known = list(can.interfaces.BACKENDS)
    if settings.interface not in known:
        near = difflib.get_close_matches(settings.interface, known, n=3)
        raise ConfigError(
            f'{section}.interface = "{settings.interface}": python-can has no such interface',
            hint=f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}.",
        )


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
        self._state = StateLog(_log, f"CAN bus {settings.channel} ({settings.interface})")
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread: threading.Thread | None = None
        self._error_frames = 0

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

    def received_s(self, name: str) -> float | None:
        """When the newest frame with a mapped field came (monotonic); ``None`` if none has."""
        return self._signals.received_s(name)

    def account(self) -> dict[str, int | str]:
        """Frames of mapped ids received, those kept for decoding, those that were no use."""
        return {
            "channel": self._settings.channel,
            "frames": self._signals.frames,
            "decoded": self._signals.decoded,
            "dropped": self._signals.too_short + self._error_frames,
        }

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            working_since_s = None
            try:
                with self._open() as bus:
                    working_since_s = self._clock.monotonic_s()
                    if self._state.recovered():
                        self._inbox.put(SourceChanged(self.name, available=True))
                    self._listen(bus)
            except SourceError as error:
                if self._state.failed(error.message):
                    self._inbox.put(SourceChanged(self.name, available=False, reason=error.message))
                now_s = self._clock.monotonic_s()
                jitter = random.random()  # noqa: S311  spreads retries, guards nothing
                self._stopping.wait(backoff.after_failure(now_s, working_since_s, jitter))

    def _open(self) -> can.BusABC:
        import can  # noqa: PLC0415  a config without [[can]] does not pay for it

        settings = self._settings
        try:
            return can.Bus(
                interface=settings.interface,
                channel=settings.channel,
                fd=settings.fd,
                can_filters=self._filters(),
                **settings.options,
            )
        except Exception as error:  # noqa: BLE001  each interface raises its own kinds
            raise SourceError(f"cannot open: {error}") from None

    def _filters(self) -> list[Any] | None:
        """The kernel's filters, where there are any.

        Elsewhere python-can would filter in Python, and its ``recv(0)`` then says
        "nothing" for a frame that it dropped.
        """
        if self._settings.interface != "socketcan":
            return None
        return [
            {
                "can_id": frame_id,
                "can_mask": 0x1FFF_FFFF if extended else 0x7FF,
                "extended": extended,
            }
            for frame_id, extended in self._signals.ids()
        ]

    def _listen(self, bus: can.BusABC) -> None:
        descriptor = _descriptor(bus)
        while not self._stopping.is_set():
            try:
                if descriptor is not None:
                    select.select([descriptor, self._wake_reader.fileno()], [], [])
                    first = bus.recv(0)
                else:
                    first = bus.recv(WAIT_S)
                taken = self._take_burst(bus, first)
            except Exception as error:  # noqa: BLE001  each interface raises its own kinds
                raise SourceError(f"cannot receive: {error}") from None
            if taken:
                self._stopping.wait(GATHER_BUSY_S if taken > BUSY_BURST else GATHER_S)

    def _take_burst(self, bus: can.BusABC, message: can.Message | None) -> int:
        """Take what is there; how many frames that were."""
        received_s = self._clock.monotonic_s()
        taken = 0
        while message is not None:
            if message.is_error_frame:
                self._error_frames += 1
            elif not message.is_remote_frame:
                self._signals.keep(
                    (message.arbitration_id, message.is_extended_id), message.data, received_s
                )
            taken += 1
            message = bus.recv(0) if taken < MAX_BURST else None
        return taken


def _descriptor(bus: can.BusABC) -> int | None:
    """The file descriptor to wait on; ``virtual`` and some adapters have none."""
    try:
        descriptor = bus.fileno()
    except Exception:  # noqa: BLE001  NotImplementedError, or the interface's own
        return None
    return descriptor if descriptor >= 0 else None
