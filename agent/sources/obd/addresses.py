"""Whom a request goes to and from which ids its answers come (ISO 15765-4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.config.obd import IdWidth, UdsSettings

FUNCTIONAL_11: Final = 0x7DF
FIRST_ANSWER_11: Final = 0x7E8
FUNCTIONAL_29: Final = 0x18DB_33F1
PHYSICAL_29: Final = 0x18DA_00F1
ANSWER_29: Final = 0x18DA_F100


@dataclass(frozen=True, slots=True)
class Target:
    """One ECU, or all that listen to a functional request.

    ``response_mask`` is 0 in the bits of an answer's id that tell the ECU.
    """

    request_id: int
    first_response_id: int
    response_mask: int

    @property
    def extended(self) -> bool:
        """Whether the ids have 29 bits."""
        return self.request_id > 0x7FF

    @property
    def is_one(self) -> bool:
        """Whether only one ECU can answer."""
        return self.response_mask in {0x7FF, 0x1FFF_FFFF}

    def is_answer(self, frame_id: int, *, extended: bool) -> bool:
        """Whether a frame comes from an ECU that was asked."""
        return extended == self.extended and (
            frame_id & self.response_mask == self.first_response_id & self.response_mask
        )

    def flow_control_id(self, response_id: int) -> int:
        """Where flow control for an answer goes: always to that one ECU."""
        if self.is_one:
            return self.request_id
        return physical_id(response_id)


def is_diagnostic(frame_id: int, *, extended: bool) -> bool:
    """Whether a frame belongs to some tester's conversation (ISO 15765-4).

    Such a frame does not show that a vehicle is awake of itself: two loggers that take each
    other's requests for that would ask for ever.
    """
    if extended:
        return frame_id & 0x1FFE_0000 == PHYSICAL_29 & 0x1FFE_0000
    return frame_id == FUNCTIONAL_11 or 0x7E0 <= frame_id <= 0x7EF


def physical_id(response_id: int) -> int:
    """The id of requests to the one ECU that answers with ``response_id``."""
    if response_id <= 0x7FF:
        return response_id - 8
    return PHYSICAL_29 | (response_id & 0xFF) << 8


def everyone(ids: IdWidth) -> Target:
    """All ECUs that speak OBD-II."""
    if ids is IdWidth.BITS_11:
        return Target(FUNCTIONAL_11, FIRST_ANSWER_11, 0x7F8)
    return Target(FUNCTIONAL_29, ANSWER_29, 0x1FFF_FF00)


def one(response_id: int) -> Target:
    """The ECU that answers with this id."""
    mask = 0x7FF if response_id <= 0x7FF else 0x1FFF_FFFF
    return Target(physical_id(response_id), response_id, mask)


def uds(settings: UdsSettings) -> Target:
    """The ECU of an ``[[obd.uds]]`` entry."""
    mask = 0x7FF if settings.response_id <= 0x7FF else 0x1FFF_FFFF
    return Target(settings.request_id, settings.response_id, mask)
