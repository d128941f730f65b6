"""A source's thread on a CAN bus of its own socket: opened, worked on, opened again.

A missing interface, one that goes down and bus-off are survived: the loss is told once,
the bus is opened again with back-off, and the recovery is told once.
"""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent.config.obd import BusSettings
from agent.errors import SourceError
from agent.inputs import Inbox, SignalValue, SourceChanged
from agent.logs import StateLog
from agent.ports import Clock
from agent.sources.backoff import Backoff
from agent.sources.can import python_can
from agent.sources.readings import Readings

if TYPE_CHECKING:
    import can

BUS_OFF: Final = 0x40
"""``CAN_ERR_BUSOFF`` of ``linux/can/error.h``, in the id of an error frame."""

SEND_TIMEOUT_S: Final = 0.5
"""How long a full transmit queue is waited for; a bus that nobody acknowledges stays full."""

JOIN_S: Final = 5.0

HELD_S: Final = 2.0
"""How long a bus must work to count as regained; one that flaps stays lost until then."""

Filter = tuple[int, int, bool]
"""Id, mask, and whether the id is one of 29 bits."""


class BusWorker(ABC):
    """``start()`` once; ``stop()`` at any time, idempotent; ``read`` from the engine."""

    def __init__(self, kind: str, settings: BusSettings, inbox: Inbox, clock: Clock) -> None:
        self.name = f"{kind}:{settings.channel}"
        self.readings = Readings()
        self._log = logging.getLogger(f"{__name__.rpartition('.')[0]}.{kind}")
        self._settings = settings
        self._inbox = inbox
        self._clock = clock
        self._state = StateLog(self._log, f"{kind} on {settings.channel} ({settings.interface})")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._bus: can.BusABC | None = None
        self._bus_is_lost = False
        self._opened_s = 0.0
        self.frames_sent = 0
        self.bus_errors = 0

    def start(self) -> None:
        """Begin to open the bus, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the bus."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def read(self, now_s: float) -> dict[str, SignalValue]:
        """Contract field -> newest value, without those that are stale."""
        return self.readings.read(now_s)

    def sampled(self) -> None:
        """What was read last went into a sample."""
        self.readings.sampled()

    def received_s(self, name: str) -> float | None:
        """When the newest value of a field came (monotonic); ``None`` if none has."""
        return self.readings.received_s(name)

    @abstractmethod
    def _work(self) -> None:
        """Use the open bus until ``_stopping``.

        Raises:
            SourceError: the bus is of no use any more.
        """

    def _lost(self, reason: str) -> None:
        """Tell it, once until ``_regained``."""
        if self._state.failed(reason):
            self._inbox.put(SourceChanged(self.name, available=False, reason=reason))

    def _regained(self) -> None:
        """Tell it, once."""
        self._bus_is_lost = False
        if self._state.recovered():
            self._inbox.put(SourceChanged(self.name, available=True))

    def _hold(self) -> None:
        """To be called now and then: a bus that was lost and works for a while is back.

        No frame need have come: a parked vehicle's bus may be silent for days.
        """
        if self._bus_is_lost and self._clock.monotonic_s() - self._opened_s >= HELD_S:
            self._regained()

    def _receive(self, timeout_s: float) -> can.Message | None:
        """The next frame; remote frames and error frames are looked at here.

        Raises:
            SourceError: the interface is gone or the controller is bus-off.
        """
        if self._bus is None:
            return None
        try:
            message = self._bus.recv(timeout_s)
        except Exception as error:  # noqa: BLE001  each interface raises its own kinds
            said = python_can.reason(error, self._settings)
            raise SourceError(f"cannot receive: {said}") from None
        if message is None:
            return None
        if message.is_error_frame:
            self.bus_errors += 1
            if message.arbitration_id & BUS_OFF:
                raise SourceError(
                    "the controller is bus-off: check bit rate, wiring and termination"
                )
            return None
        return None if message.is_remote_frame else message

    def _send(self, arbitration_id: int, data: bytes | bytearray, *, extended: bool) -> None:
        """Transmit one frame.

        Raises:
            SourceError: the interface does not take it.
        """
        import can  # noqa: PLC0415  a config without such a bus does not pay for it

        if self._bus is None:
            return
        message = can.Message(arbitration_id=arbitration_id, data=data, is_extended_id=extended)
        try:
            self._bus.send(message, timeout=SEND_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  each interface raises its own kinds
            raise SourceError(
                f"cannot send: {error}; is the interface listen-only, or the bus without an ECU?"
            ) from None
        self.frames_sent += 1

    def _filter(self, filters: Sequence[Filter]) -> None:
        """What the kernel lets through from now on; nothing given lets all through.

        Only SocketCAN filters outside of Python; elsewhere the caller looks at the id anyway.
        """
        if self._bus is None or self._settings.interface != "socketcan":
            return
        try:
            self._bus.set_filters(
                [{"can_id": one, "can_mask": mask, "extended": ext} for one, mask, ext in filters]
                or None
            )
        except Exception as error:  # noqa: BLE001  each interface raises its own kinds
            raise SourceError(f"cannot filter: {error}") from None

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            working_since_s = None
            try:
                self._bus = python_can.open_bus(self._settings)
                working_since_s = self._opened_s = self._clock.monotonic_s()
                self._work()
            except SourceError as error:
                self._bus_is_lost = True
                self._lost(error.message)
                jitter = random.random()  # noqa: S311  spreads retries, guards nothing
                now_s = self._clock.monotonic_s()
                self._stopping.wait(backoff.after_failure(now_s, working_since_s, jitter))
            finally:
                bus, self._bus = self._bus, None
                if bus is not None:
                    bus.shutdown()
