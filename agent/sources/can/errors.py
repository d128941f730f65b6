"""What a CAN controller reports of itself: SocketCAN's error frames (linux/can/error.h).

A controller counts errors. With 96 it warns, with 128 it is error-passive and may no
longer disturb others, with 256 sent in vain it is bus-off: it takes itself off the bus
until it is restarted (ISO 11898-1, 10.11). Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

_CONTROLLER: Final = 0x004
_BUS_OFF: Final = 0x040
_RESTARTED: Final = 0x100

REPORTS: Final = _CONTROLLER | _BUS_OFF | _RESTARTED
"""The classes to ask the kernel for; single bus errors would come by the thousand."""

_STATE_BYTE: Final = 1
_RECEIVE_OVERFLOW: Final = 0x01
_WARNING: Final = 0x04 | 0x08
_PASSIVE: Final = 0x10 | 0x20
_ACTIVE: Final = 0x40


class BusState(Enum):
    """How the controller takes part in the bus."""

    ACTIVE = "error-active"
    WARNING = "error-warning"
    PASSIVE = "error-passive"
    OFF = "bus-off"


def state_after(state: BusState, error_class: int, data: bytes) -> BusState:
    """The state that an error frame tells of; the same one if it tells of something else."""
    if error_class & _BUS_OFF:
        return BusState.OFF
    if error_class & _RESTARTED:
        return BusState.ACTIVE
    if not error_class & _CONTROLLER or len(data) <= _STATE_BYTE:
        return state
    told = data[_STATE_BYTE]
    if told & _PASSIVE:
        return BusState.PASSIVE
    if told & _WARNING:
        return BusState.WARNING
    return BusState.ACTIVE if told & _ACTIVE else state


def is_overflow(error_class: int, data: bytes) -> bool:
    """Whether the controller lost frames because nobody fetched them in time."""
    if not error_class & _CONTROLLER or len(data) <= _STATE_BYTE:
        return False
    return bool(data[_STATE_BYTE] & _RECEIVE_OVERFLOW)


def advice(state: BusState, channel: str) -> str:
    """What is wrong and what to do, for the log and the event."""
    if state is BusState.OFF:
        return (
            "bus-off: the controller left the bus after too many errors; check bit rate, wiring "
            f"and termination; `ip link set {channel} type can restart-ms 100` lets it return"
        )
    return "error-passive: many frames fail; check bit rate, wiring and termination"
