"""An address of one's own, without which a J1939 node may not send (SAE J1939-81). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OFF_BOARD_TOOL: Final = 129
"""Function of the NAME: off-board diagnostic and service tool."""

SETTLING_S: Final = 0.25
"""How long others may contest a claim before the address is used."""


def make_name(identity: int) -> int:
    """The 64-bit NAME of a service tool that takes no other address; lower ones win."""
    return identity & 0x1F_FFFF | OFF_BOARD_TOOL << 40


@dataclass(slots=True)
class AddressClaim:
    """``address`` from the claim on, until somebody with a lower NAME wants it."""

    address: int
    name: int
    claimed_s: float | None = None
    lost: bool = False

    def claim(self, now_s: float) -> bytes:
        """The data of Address Claimed, to be sent now."""
        if self.claimed_s is None:
            self.claimed_s = now_s
        return self.name.to_bytes(8, "little")

    def usable(self, now_s: float) -> bool:
        """Whether requests may be sent."""
        return not self.lost and (
            self.claimed_s is not None and now_s - self.claimed_s >= SETTLING_S
        )

    def contested(self, source: int, data: bytes) -> bool:
        """Another node claims; whether ours must be sent again to defend the address."""
        if source != self.address or self.claimed_s is None or self.lost or len(data) < 8:
            return False
        if int.from_bytes(data[:8], "little") < self.name:
            self.lost = True
            return False
        return True
