"""The life of an ECU's thread on a bus."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from simulator.bus import open_bus
from simulator.clock import monotonic_s
from simulator.ecu.engine import EngineAt, EngineState, held
from simulator.errors import BusError

if TYPE_CHECKING:
    import can

logger = logging.getLogger(__name__)

JOIN_S: Final = 5.0


class BusNode(ABC):
    """``start()`` opens the bus; ``stop()`` is idempotent and safe before it.

    ``error`` says why it ended by itself, if it did.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        interface: str,
        channel: str,
        bus_options: Mapping[str, Any] | None = None,
        engine: EngineAt | None = None,
    ) -> None:
        self.error: BusError | None = None
        self.finished = threading.Event()
        self._interface, self._channel = interface, channel
        self._bus_options = dict(bus_options or {})
        self._engine = engine or held(EngineState())
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun_s = 0.0

    def start(self) -> None:
        """Open the bus and begin.

        Raises:
            BusError: the bus cannot be opened.
        """
        bus = open_bus(self._interface, self._channel, self._bus_options)
        self._begun_s = monotonic_s()
        self._thread = threading.Thread(
            target=self._run, args=(bus,), name=f"sim-{self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the bus."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    @property
    def state(self) -> EngineState:
        """What the vehicle does now."""
        return self._engine(monotonic_s() - self._begun_s)

    @abstractmethod
    def _serve(self, bus: can.BusABC) -> None:
        """Go on until ``_stopping`` is set; the bus may be lost at any moment."""

    def _run(self, bus: can.BusABC) -> None:
        import can  # noqa: PLC0415  slow to import

        try:
            self._serve(bus)
        except (can.CanError, OSError) as error:
            self.error = BusError(f"the CAN bus was lost: {error}", hint="see 'ip link'")
            logger.warning("%s ended early: %s", self.name, error)
        finally:
            bus.shutdown()
            self.finished.set()
