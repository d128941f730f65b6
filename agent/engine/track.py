"""The positions of one source: checked, held while the vehicle stands, measured in metres."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from agent.config import PositionSettings, Standing
from agent.engine.path_speed import PathSpeed
from agent.engine.positions import PositionCheck
from agent.engine.standstill import Standstill
from agent.engine.travel import Travel
from agent.inputs import Fix


@dataclass(frozen=True, slots=True)
class Position:
    """A position that was believed.

    ``fix`` is what is told: that of the place where the vehicle is held, while it stands.
    ``measured`` is what the receiver said last. ``fix_time`` is its time of measurement,
    where that was believed; else the time of arrival counts, which is monotonic and becomes
    UTC only when it is sent.
    """

    fix: Fix
    measured: Fix
    fix_time: datetime | None = None
    stands: bool = False
    path_kmh: float | None = None
    """What its positions say of the speed, where the receiver says nothing."""

    @property
    def judged_kmh(self) -> float | None:
        """The speed that modes go by, as far as it is known."""
        if self.stands:
            return 0.0
        return self.path_kmh if self.measured.speed_kmh is None else self.measured.speed_kmh


class PositionTrack:
    """Feed it every new fix of one source, in the order of arrival."""

    def __init__(self, settings: PositionSettings) -> None:
        self._holds = settings.standing is Standing.HOLD
        self._check = PositionCheck(settings.max_speed_kmh, settings.max_error_m)
        self._standstill = Standstill(settings.standing_below_kmh)
        self._travel = Travel()
        self._path = PathSpeed()
        self._measured: Fix | None = None
        self._fix_time: datetime | None = None
        self._is_settled = True

    @property
    def rejected(self) -> dict[str, int]:
        """Positions that were not believed, by reason."""
        return self._check.rejected

    @property
    def position(self) -> Position | None:
        """The newest position, however old."""
        measured, held = self._measured, self._standstill.held
        if measured is None:
            return None
        if held is None or not self._holds:
            return Position(measured, measured, self._fix_time, held is not None, self._path.kmh)
        told = replace(
            measured,
            lat=held.lat,
            lon=held.lon,
            altitude_m=held.altitude_m,
            accuracy_m=held.accuracy_m,
            mode=held.mode,
            heading=held.heading,
            speed_kmh=None if measured.speed_kmh is None else 0.0,
        )
        return Position(told, measured, self._fix_time, stands=True)

    def take(
        self,
        fix: Fix,
        fix_time: datetime | None,
        *,
        can_speed_kmh: float | None,
        ahead_s: float | None = None,
    ) -> float:
        """A new fix; returns the metres that the vehicle has travelled since the last call."""
        travelled_m = self._settle(can_speed_kmh)
        if self._check.check(fix, ahead_s) is not None:
            return travelled_m
        self._measured, self._fix_time, self._is_settled = fix, fix_time, False
        self._path.add(fix, moved_over=self._check.moved_over)
        if self._check.moved_over:
            self._standstill.move(fix)
            self._travel.move(fix)
        # the first report of an epoch may lack the speed that the next one brings
        if fix.speed_kmh is not None:
            travelled_m += self._settle(can_speed_kmh)
        return travelled_m

    def complete(self, fix: Fix, *, can_speed_kmh: float | None) -> float:
        """The rest of an epoch; of one that was not believed it changes nothing."""
        if self._measured is None or self._measured.received_s != fix.received_s:
            return 0.0
        self._measured = fix
        return self._settle(can_speed_kmh) if fix.speed_kmh is not None else 0.0

    def _settle(self, can_speed_kmh: float | None) -> float:
        """The newest fix is as complete as it will be."""
        fix = self._measured
        if self._is_settled or fix is None:
            return 0.0
        self._is_settled = True
        was_held = self._standstill.held is not None
        departed_m = self._standstill.observe(fix, can_speed_kmh)
        held = self._standstill.held
        if held is not None:
            self._travel.move(held)
            return 0.0
        if was_held:
            self._travel.move(fix)
            return departed_m
        return self._travel.observe(fix)
