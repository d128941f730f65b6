"""What can be wrong with a receiver's view of the sky. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from simulator.epoch import Epoch, FixMode

EARTH_RADIUS_M: Final = 6_371_008.8


@dataclass(frozen=True, slots=True)
class Sky:
    """What holds now."""

    lost: bool = False
    """No fix."""
    frozen: bool = False
    """The last report again and again."""
    jump_m: float = 0.0
    """Fixes lie so far to the north-east of the truth, as reflected signals put them."""

    def and_also(self, other: Sky) -> Sky:
        """Both together."""
        return Sky(self.lost or other.lost, self.frozen or other.frozen, self.jump_m + other.jump_m)

    def seen(self, epoch: Epoch) -> Epoch:
        """What the receiver reports of this moment."""
        if self.lost:
            return replace(epoch, mode=FixMode.NO_FIX)
        if not self.jump_m or epoch.lat is None or epoch.lon is None:
            return epoch
        lat, lon = self.place(epoch.lat, epoch.lon)
        return replace(epoch, lat=lat, lon=lon)

    def place(self, lat: float, lon: float) -> tuple[float, float]:
        """Where a place seems to be, degrees."""
        north_m = east_m = self.jump_m / math.sqrt(2)
        degree_m = math.radians(EARTH_RADIUS_M)
        return (
            lat + north_m / degree_m,
            lon + east_m / (degree_m * math.cos(math.radians(lat))),
        )


CLEAR_SKY: Final = Sky()
