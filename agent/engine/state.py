"""The state of the vehicle: what GPS and CAN say, merged.

A CAN signal that is mapped to a field goes before GPS for that field, because somebody
mapped it on purpose; when it is stale or not valid, GPS fills in. Positions of either
source are checked, each against its own past, and held while the vehicle stands; the
distance by GPS is that of the source whose position is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.config import PositionSettings
from agent.engine.merge import merged
from agent.engine.modes import Situation
from agent.engine.odometer import GpsOdometer, Odometers
from agent.engine.track import Position, PositionTrack
from agent.inputs import Fix, FixReceived, SignalReader, SignalValue
from agent.ports import TimeBase

ObserveTime = Callable[[datetime, float], datetime | None]
"""Tell the clock a fix's time and when it came (monotonic); the time as far as believed."""

LAT: Final = "location.lat"
LON: Final = "location.lon"
SPEED: Final = "motion.speed_kmh"
FORWARD: Final = "motion.acceleration.x"


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed as it was measured: ``source`` tells those of one sensor from another's."""

    kmh: float
    measured_s: float
    source: str
    accuracy_m: float | None = None
    """Of the position that came with it; a receiver that is lost there is lost here too."""


@dataclass(frozen=True, slots=True)
class View:
    """The merged state at one moment."""

    values: dict[str, SignalValue]
    position: Position | None
    speed_kmh: float | None
    """As it is told: 0 while the vehicle stands, where only a receiver speaks of its speed."""
    measured_speed: Speed | None
    forward_mps2: float | None
    situation: Situation
    odometers: Odometers


class VehicleState:
    """Used by the engine's thread alone."""

    def __init__(
        self,
        *,
        observe_time: ObserveTime,
        readers: Sequence[SignalReader],
        position: PositionSettings,
        stale_after_s: float,
        odometer: GpsOdometer,
    ) -> None:
        self._observe_time = observe_time
        self._readers = readers
        self._stale_after_s = stale_after_s
        self._gps = PositionTrack(position)
        self._can = PositionTrack(position)
        self._can_seen_s: float | None = None
        self._can_is_told = False
        self._can_speed_kmh: float | None = None
        self._odometer = odometer
        self.fixes_received = 0

    def fixes_rejected(self) -> dict[str, int]:
        """Positions that were not believed, by reason, both sources together."""
        counts = dict(self._gps.rejected)
        for reason, count in self._can.rejected.items():
            counts[reason] = counts.get(reason, 0) + count
        return counts

    def take_fix(self, received: FixReceived, base: TimeBase) -> None:
        """A fix of the receiver, or the rest of the epoch of the one before."""
        fix = received.fix
        if not received.is_new:
            travelled_m = self._gps.complete(fix, can_speed_kmh=self._can_speed_kmh)
            self._count_gps(travelled_m)
            return
        fix_time, ahead_s = None, None
        if fix.time is not None:
            fix_time = self._observe_time(fix.time, fix.received_s)
            if fix_time is None and base.trusted:
                ahead_s = (fix.time - base.at(fix.received_s)).total_seconds()
        self.fixes_received += 1
        travelled_m = self._gps.take(
            fix, fix_time, can_speed_kmh=self._can_speed_kmh, ahead_s=ahead_s
        )
        self._count_gps(travelled_m)

    def view(self, now_s: float) -> View:
        """What is known and fresh at a monotonic time."""
        values = merged(self._readers, now_s)
        self._can_speed_kmh = _number(values, SPEED)
        gps = self._gps.position
        if gps is not None and now_s - gps.fix.received_s > self._stale_after_s:
            gps = None
        can = self._can_position(values)
        self._can_is_told = can is not None
        position = can or gps
        measured = self._measured_speed(gps, now_s)
        told_kmh = judged_kmh = measured.kmh if measured is not None else None
        if self._can_speed_kmh is None:
            by_receiver = gps is not None and gps.measured.speed_kmh is not None
            moving = gps if by_receiver else position
            judged_kmh = moving.judged_kmh if moving is not None else None
            told_kmh = gps.fix.speed_kmh if gps is not None else None
        return View(
            values=values,
            position=position,
            speed_kmh=told_kmh,
            measured_speed=measured,
            forward_mps2=_number(values, FORWARD),
            situation=Situation(
                speed_kmh=judged_kmh,
                in_use=_flag(values, "vehicle_status.in_use"),
                battery_percent=_number(values, "battery.percent"),
                charging=_flag(values, "battery.charging"),
            ),
            odometers=Odometers(
                can_km=_number(values, "diagnostics.odometer_km"), gps_km=self._odometer.km
            ),
        )

    def keep_distance(self) -> None:
        """Let the distance by GPS outlast what comes, a power cut included."""
        self._odometer.save()

    def sampled(self) -> None:
        """The last view went into a sample."""
        for reader in self._readers:
            reader.sampled()

    def _measured_speed(self, gps: Position | None, now_s: float) -> Speed | None:
        if self._can_speed_kmh is not None:
            return Speed(self._can_speed_kmh, self._received_s(SPEED) or now_s, "can")
        if gps is None or gps.measured.speed_kmh is None:
            return None
        fix = gps.measured
        return Speed(gps.measured.speed_kmh, fix.received_s, "gps", fix.accuracy_m)

    def _can_position(self, values: dict[str, SignalValue]) -> Position | None:
        lat, lon = _number(values, LAT), _number(values, LON)
        if lat is None or lon is None:
            return None
        received_s = self._received_s(LAT)
        if received_s is not None and received_s != self._can_seen_s:
            self._can_seen_s = received_s
            fix = Fix(
                received_s=received_s,
                lat=lat,
                lon=lon,
                altitude_m=_number(values, "location.altitude"),
                accuracy_m=_number(values, "location.accuracy"),
                speed_kmh=self._can_speed_kmh,
                heading=_number(values, "motion.heading"),
            )
            self.fixes_received += 1
            travelled_m = self._can.take(fix, None, can_speed_kmh=self._can_speed_kmh)
            self._count(self._can, travelled_m)
        can = self._can.position
        if can is None or received_s is None:
            return None
        # fixes that are rejected one after the other must not keep the last good one alive
        return can if received_s - can.fix.received_s <= self._stale_after_s else None

    def _count_gps(self, travelled_m: float) -> None:
        if not self._can_is_told:
            self._count(self._gps, travelled_m)

    def _count(self, track: PositionTrack, travelled_m: float) -> None:
        if track.position is not None:
            self._odometer.count(travelled_m, track.position.fix)

    def _received_s(self, name: str) -> float | None:
        times = [reader.received_s(name) for reader in self._readers]
        return max((moment for moment in times if moment is not None), default=None)


def _number(values: dict[str, SignalValue], name: str) -> float | None:
    value = values.get(name)
    return value if isinstance(value, int | float) else None


def _flag(values: dict[str, SignalValue], name: str) -> bool | None:
    value = values.get(name)
    return value if isinstance(value, bool) else None
