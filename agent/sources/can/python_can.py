"""Buses through python-can.

``[[can]]`` uses it for every interface but SocketCAN: USB adapters, ``udp_multicast``,
``virtual``. The sources that transmit (``agent.sources.can.worker``) use it for all.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from typing import TYPE_CHECKING, Any, Final

from agent.config import CanSettings
from agent.config.obd import BusSettings
from agent.errors import ConfigError, SourceError
from agent.sources.can.ids import ERROR, can_id
from agent.sources.can.slots import RawFrame
from agent.sources.can.socketcan import said

if TYPE_CHECKING:
    import can

WAIT_S: Final = 0.5
"""How long a bus without a file descriptor is waited for, so that a stop is heeded."""

BURST_FRAMES: Final = 120
"""What every adapter and the default buffer of a datagram socket have room for, twice."""

MAX_BURST: Final = 2_000
"""Frames taken before a stop is looked for."""

# it writes a line of its own at each attempt to open; what comes of it is raised and told once
logging.getLogger("can").setLevel(logging.CRITICAL)


def check_interface(settings: CanSettings | BusSettings, section: str = "can") -> None:
    """Refuse an interface that python-can does not know.

    Raises:
        ConfigError: with the nearest names.
    """
    if settings.interface == "socketcan":
        return
    import difflib  # noqa: PLC0415  SocketCAN does not need it

    import can.interfaces  # noqa: PLC0415  likewise, and it takes 15 MB

    known = list(can.interfaces.BACKENDS)
    if settings.interface not in known:
        near = difflib.get_close_matches(settings.interface, known, n=3)
        raise ConfigError(
            f'{section}.interface = "{settings.interface}": python-can has no such interface',
            hint=f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}.",
        )


def open_bus(settings: CanSettings | BusSettings, **arguments: Any) -> can.BusABC:
    """The bus of a config's section; ``arguments`` are more of ``can.Bus``.

    Raises:
        SourceError: it cannot be opened.
    """
    import can  # noqa: PLC0415  a vehicle with SocketCAN alone does not pay for it

    try:
        return can.Bus(
            interface=settings.interface, channel=settings.channel, **arguments, **settings.options
        )
    except Exception as error:  # noqa: BLE001  each interface raises its own kinds
        raise SourceError(f"cannot open: {reason(error, settings)}") from None


def reason(error: Exception, settings: CanSettings | BusSettings) -> str:
    """What went wrong, in the words of the kernel's CAN where it is that."""
    number = getattr(error, "errno", None) or getattr(error, "error_code", None)
    if settings.interface == "socketcan" and number:
        return said(OSError(number, str(error)), settings.channel)
    return str(error)


class PythonCanReader:
    """As ``agent.sources.can.socketcan.SocketCanReader``; such a bus tells of no drops.

    Raises:
        SourceError: the bus cannot be opened.
    """

    def __init__(self, settings: CanSettings) -> None:
        self.drops = 0
        self.burst_frames = BURST_FRAMES
        self._waited_for: can.Message | None = None
        self._failure: Exception | None = None
        # no can_filters: python-can would filter in Python, and its recv(0) then says
        # "nothing" for a frame that it dropped
        self._bus = open_bus(settings, fd=settings.fd)
        self._descriptor = _descriptor(self._bus)

    def wait(self, wake: socket.socket, timeout_s: float | None) -> None:
        """Until frames, an error or ``wake`` are there, or the time is up."""
        if self._descriptor is not None:
            select.select([self._descriptor, wake.fileno()], [], [], timeout_s)
            return
        try:
            self._waited_for = self._bus.recv(
                WAIT_S if timeout_s is None else min(WAIT_S, timeout_s)
            )
        except Exception as error:  # noqa: BLE001  each interface raises its own kinds
            self._failure = error

    def take(self) -> list[RawFrame]:
        """All frames that are there, oldest first.

        Raises:
            SourceError: the interface is down or gone; frames before it were given.
        """
        frames: list[RawFrame] = []
        message, self._waited_for = self._waited_for, None
        try:
            if self._failure is None and message is None:
                message = self._bus.recv(0)
            while message is not None:
                if not message.is_remote_frame:
                    frames.append(_raw(message))
                message = self._bus.recv(0) if len(frames) < MAX_BURST else None
        except Exception as error:  # noqa: BLE001  as above
            self._failure = error
        if self._failure is not None and not frames:
            raise SourceError(f"cannot receive: {self._failure}")
        return frames

    def close(self) -> None:
        """Close the bus."""
        with contextlib.suppress(Exception):
            self._bus.shutdown()


def _raw(message: can.Message) -> RawFrame:
    identifier = can_id(message.arbitration_id, extended=message.is_extended_id)
    if message.is_error_frame:
        identifier = message.arbitration_id | ERROR
    return identifier, len(message.data), bytes(message.data)


def _descriptor(bus: can.BusABC) -> int | None:
    """The file descriptor to wait on; ``virtual`` and some adapters have none."""
    try:
        descriptor = bus.fileno()
    except Exception:  # noqa: BLE001  NotImplementedError, or the interface's own
        return None
    return descriptor if descriptor >= 0 else None
