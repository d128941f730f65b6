"""One receiver behind gpsd: its cycle, its sky, and one fix of the TPVs of one epoch. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.inputs import Fix, FixReceived
from agent.sources.gpsd.protocol import Report, Sky, fix_from_tpv, number, sky_of

USUAL_CYCLE_S: Final = 1.0

SKY_KEPT_S: Final = 5.0
"""DOP and satellites change slowly, and some receivers tell them less often than the fix."""

IN_VIEW_KEPT_S: Final = 30.0


class Receiver:
    """Never mixes two epochs: a fix holds what TPVs with one and the same time said.

    Only ``satellites`` and ``hdop`` may be a little older, as the newest SKY has them.
    """

    def __init__(
        self, path: str, first_cycles_s: dict[str, float], *, was_left_changed: bool = False
    ) -> None:
        """``first_cycles_s``: by path, what each receiver had before it was asked for another.

        It outlasts the connection, as the receiver's cycle does. ``was_left_changed``: it was
        asked for another one, and never for its own again.
        """
        self.path = path
        self.driver = ""
        self.is_open = True
        """As gpsd says."""
        self.is_plugged = True
        self.was_there = False
        """Whether its path was seen to exist."""
        self.wake_at_s: float | None = None
        """When gpsd is asked again to open it, while it came back and did not speak yet."""
        self._first_cycles_s = first_cycles_s
        self._was_left_changed = was_left_changed
        self._cycle_s: float | None = USUAL_CYCLE_S
        self._min_cycle_s: float | None = None
        self._was_asked = False
        self._tells_time = False
        self._fix: Fix | None = None
        self._sky: Sky | None = None

    def learn(self, device: Report) -> None:
        """What a DEVICE report says; gpsd 3.22 writes ``"activated":0`` of one that it closed."""
        self.is_open = device.get("activated") != 0
        driver = device.get("driver")
        if isinstance(driver, str):
            self.driver = driver
        cycle_s = number(device, "cycle", 0.01, 3_600)
        if cycle_s is not None and not self._was_asked:
            own_s = self._first_cycles_s.setdefault(self.path, cycle_s)
            # a gpsd that was started anew tells the usual cycle of a receiver that has another
            is_doubtful = self._was_left_changed and cycle_s == own_s
            self._cycle_s = None if is_doubtful else cycle_s
        min_cycle_s = number(device, "mincycle", 0.01, 3_600)
        if min_cycle_s is not None:
            self._min_cycle_s = min_cycle_s

    @property
    def own_cycle_s(self) -> float:
        """The cycle that it had at first."""
        return self._first_cycles_s.get(self.path, USUAL_CYCLE_S)

    def change_cycle(self, wanted_s: float | None) -> float | None:
        """The cycle to ask the receiver for now; ``None`` when it has it, or its cycle is fixed.

        Ask until it is ``None``: there may be a step between.
        ``wanted_s`` ``None`` is the one that it had at first.
        """
        if self._min_cycle_s is None:
            return None
        cycle_s = self.own_cycle_s
        if wanted_s is not None:
            cycle_s = max(wanted_s, self._min_cycle_s)
        if cycle_s == self._cycle_s:
            return None
        if self._cycle_s is None and cycle_s == self.own_cycle_s:
            # gpsd 3.22 sends nothing for the cycle that it believes in: by way of another one
            cycle_s *= 2
        # a report may still tell the old one, so it is asked once
        self._was_asked = True
        self._cycle_s = cycle_s
        return cycle_s

    def take_sky(self, report: Report, received_s: float) -> None:
        """Keep DOP and satellites for the fixes to come."""
        self._sky = sky_of(report, received_s) or self._sky

    def in_view(self, now_s: float) -> int:
        """The satellites that it hears, used or not; gpsd 3.22 sends no SKY when it hears none."""
        if self._sky is None or now_s - self._sky.received_s > IN_VIEW_KEPT_S:
            return 0
        return self._sky.in_view or 0

    def take_tpv(self, tpv: Report, received_s: float) -> FixReceived | None:
        """The fix as known after this TPV; ``None`` if it brings nothing new.

        gpsd repeats the last fix when the receiver has no newer one: the same time again is
        never new. From a receiver that tells the time, a position without one is incomplete.
        """
        new = fix_from_tpv(tpv, received_s, self.driver)
        if new is None or (new.time is None and self._tells_time):
            return None
        self._tells_time = new.time is not None
        if self._sky is not None and received_s - self._sky.received_s <= SKY_KEPT_S:
            new = replace(new, satellites=self._sky.satellites, hdop=self._sky.hdop)
        old = self._fix
        if old is None or new.time is None or new.time != old.time:
            self._fix = new
            return FixReceived(new)
        merged = _completed(old, new)
        if merged == old:
            return None
        self._fix = merged
        return FixReceived(merged, is_new=False)


def _completed(old: Fix, new: Fix) -> Fix:
    """The newer of each value of one epoch; arrival and time stay the first ones."""
    return Fix(
        received_s=old.received_s,
        lat=new.lat,
        lon=new.lon,
        time=old.time,
        altitude_m=old.altitude_m if new.altitude_m is None else new.altitude_m,
        accuracy_m=old.accuracy_m if new.accuracy_m is None else new.accuracy_m,
        speed_kmh=old.speed_kmh if new.speed_kmh is None else new.speed_kmh,
        heading=old.heading if new.heading is None else new.heading,
        device=old.device,
        mode=new.mode,
        satellites=old.satellites if new.satellites is None else new.satellites,
        hdop=old.hdop if new.hdop is None else new.hdop,
    )
