"""What can be wrong with a bus, and with the sensors that speak on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from simulator.can_log import LoggedFrame
from simulator.errors import FileError

ERROR_BUS_OFF: Final = 0x040
ERROR_RESTARTED: Final = 0x100
"""Classes of error frames (linux/can/error.h): the controller left the bus, and is back."""


class BusFaults:
    """Set from one thread, asked from the player's; a change counts from the next frame on.

    The signals that may stick are those of ``messages``, DBC messages of cantools.
    """

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        self.off = False
        self._messages = list(messages)
        self._is_off = False
        self._stuck: dict[str, frozenset[str]] = {}
        self._held: dict[tuple[str, str], Any] = {}

    def stick(self, signals: Iterable[str]) -> None:
        """Let exactly these (``Message.Signal``) keep the value that they have.

        Raises:
            FileError: the bus has no such signal.
        """
        wanted: dict[str, set[str]] = {}
        for name in signals:
            message, _, signal = name.partition(".")
            if signal not in self._signals_of(message):
                raise FileError(
                    f"no bus of the vehicle has a signal {name!r}",
                    hint="write Message.Signal as in the DBC",
                )
            wanted.setdefault(message, set()).add(signal)
        self._held = {}
        self._stuck = {message: frozenset(names) for message, names in wanted.items()}

    def has(self, signal: str) -> bool:
        """Whether it is a signal of this bus, as ``Message.Signal``."""
        message, _, name = signal.partition(".")
        return name in self._signals_of(message)

    def shaped(self, frame: LoggedFrame) -> list[LoggedFrame]:
        """What is on the bus in place of a frame."""
        if self.off is not self._is_off:
            self._is_off = self.off
            if self.off:
                return [_error_frame(frame, ERROR_BUS_OFF)]
            return [_error_frame(frame, ERROR_RESTARTED), self._as_stuck(frame)]
        return [] if self.off else [self._as_stuck(frame)]

    def _as_stuck(self, frame: LoggedFrame) -> LoggedFrame:
        stuck = self._stuck
        if not stuck or frame.remote or frame.error:
            return frame
        message = next((one for one in self._messages if _is_of(one, frame)), None)
        if message is None or message.name not in stuck or len(frame.data) < message.length:
            return frame
        values = message.decode(frame.data, decode_choices=False, scaling=False)
        for signal in stuck[message.name] & values.keys():
            values[signal] = self._held.setdefault((message.name, signal), values[signal])
        data = message.encode(values, scaling=False, strict=False)
        return replace(frame, data=data)

    def _signals_of(self, message: str) -> set[str]:
        return {
            signal.name for one in self._messages if one.name == message for signal in one.signals
        }


def _is_of(message: Any, frame: LoggedFrame) -> bool:
    """By id; a message of J1939 by its parameter group, whoever sends it."""
    if message.is_extended_frame is not frame.extended:
        return False
    ignored = 0xFF if message.protocol == "j1939" else 0
    return bool(message.frame_id | ignored == frame.arbitration_id | ignored)


def _error_frame(near: LoggedFrame, error_class: int) -> LoggedFrame:
    return replace(
        near,
        arbitration_id=error_class,
        data=bytes(8),
        length=8,
        extended=False,
        remote=False,
        error=True,
        fd=False,
    )
