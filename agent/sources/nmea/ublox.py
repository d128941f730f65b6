"""A u-blox receiver's cycle, in its binary protocol UBX: asked, set, put back. Pure.

It is asked for its version (UBX-MON-VER) and cycle (UBX-CFG-RATE) first; one that does not
answer, because it is of another make or its line for input is not connected, is left
alone. What is set lives in the receiver's RAM and is gone with its power; the own cycle of one
that a killed agent left changed is given (``agent.sources.gps.own_cycle``).
Source: u-blox 8 / M8 receiver description, 32.10.25 and 32.16.16; M10 still knows both.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from agent.sources.nmea.frames import ubx_message

MON_VER: Final = b"\x0a\x04"
CFG_RATE: Final = b"\x06\x08"
ACK_NAK: Final = b"\x05\x00"

QUESTIONS: Final = ubx_message(MON_VER) + ubx_message(CFG_RATE)

LEAST_CYCLE_S: Final = 0.1
LINE_SHARE: Final = 0.8
"""A line that is fuller than this falls behind at the next satellite."""

STEP_MS: Final = 50
"""So that not each satellite more or less changes the cycle."""


class UbloxReceiver:
    """What is known of the receiver of one session."""

    def __init__(self, own_cycle_s: float | None = None) -> None:
        """``own_cycle_s``: where it is known that what the receiver answers is not its own."""
        self._known_own_ms = None if own_cycle_s is None else round(own_cycle_s * 1_000)
        self.version: str | None = None
        self._own_ms: int | None = None
        self._set_ms: int | None = None
        self._rest = b""
        """Of UBX-CFG-RATE, what stands after the cycle: navRate and timeRef."""

    def take(self, message: bytes) -> None:
        """One whole UBX message from the receiver."""
        kind, payload = message[2:4], message[6:-2]
        if kind == MON_VER:
            self.version = payload[:30].split(b"\0")[0].decode("ascii", "replace")
        elif kind == CFG_RATE and len(payload) >= 6 and self._own_ms is None:
            self._set_ms = int.from_bytes(payload[:2], "little")
            self._own_ms = self._known_own_ms or self._set_ms
            self._rest = payload[2:6]
        elif kind == ACK_NAK and payload == CFG_RATE:
            # it will not be asked again
            self._own_ms = None

    def command(self, wanted_s: float | None, line_s: float) -> bytes:
        """What to send, so that it gives a fix every ``wanted_s``; ``None`` is its own cycle.

        ``line_s`` is how long the line takes for one epoch; no faster cycle is asked for.
        Empty if there is nothing to change or nobody to ask.
        """
        if self.version is None or self._own_ms is None:
            return b""
        cycle_ms = self._own_ms
        if wanted_s is not None:
            least_s = max(wanted_s, LEAST_CYCLE_S, line_s / LINE_SHARE)
            cycle_ms = min(cycle_ms, ceil(least_s * 1_000 / STEP_MS - 0.01) * STEP_MS)
        if cycle_ms == self._set_ms:
            return b""
        self._set_ms = cycle_ms
        return ubx_message(CFG_RATE, cycle_ms.to_bytes(2, "little") + self._rest)

    @property
    def own_cycle_s(self) -> float | None:
        """The one to put back; ``None`` if nobody answered, or it refused."""
        return None if self._own_ms is None else self._own_ms / 1_000

    @property
    def cycle_s(self) -> float | None:
        """As it was set last; ``None`` if nobody answered."""
        return None if self._set_ms is None else self._set_ms / 1_000
