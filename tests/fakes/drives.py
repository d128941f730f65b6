"""Recorded drives as fixes, as gpsd would report them."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

from agent.config import PositionSettings, SamplingSettings
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.geo import apart_m
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.engine.track import PositionTrack
from agent.engine.trips import TripKeeper
from agent.engine.watches import LowBatteryMark
from agent.inputs import FixReceived, Inbox
from agent.sources.gpsd.protocol import fix_from_tpv
from simulator import gpsd_reports
from simulator.trace import read_trace
from tests.fakes.clock import FakeClock
from tests.fakes.recorder import ListRecorder

START_S = 1000.0


@cache
def recorded_fixes(path):
    """The fixes of an NMEA log in its order; ``received_s`` counts from its first epoch."""
    fixes = []
    for epoch in read_trace(path).epochs:
        moment = epoch.time.isoformat() if epoch.time is not None else None
        report = gpsd_reports.tpv(epoch, "/dev/ttyACM0", moment)
        fix = fix_from_tpv(report, START_S + epoch.offset_s)
        if fix is not None:
            fixes.append(fix)
    return tuple(fixes)


def travelled_m(fixes, settings):
    """What a track counts over them all."""
    track = PositionTrack(settings)
    return sum(track.take(fix, None, can_speed_kmh=None) for fix in fixes)


def summed_steps_m(fixes):
    """What adding the steps between positions gives, noise and all."""
    return sum(apart_m(before, fix) for before, fix in pairwise(fixes))


class DriveRig:
    """An engine on a fake clock, to which a recorded drive happens as fast as it can."""

    def __init__(self, folder, *readers, clock=None, boot_id="boot", **sampling):
        self.clock = clock or FakeClock()
        self.recorder = ListRecorder()
        self.state = VehicleState(
            observe_time=lambda fix_time, _: fix_time,
            readers=readers,
            position=PositionSettings(),
            stale_after_s=5.0,
            odometer=GpsOdometer(folder),
        )
        self.engine = Engine(
            identity=EngineIdentity("van-1", "f3a1c2d4"),
            sampling=SamplingSettings(**sampling),
            clock=self.clock,
            inbox=Inbox(),
            state=self.state,
            trips=TripKeeper(folder, boot_id=boot_id, resume_s=900),
            recorder=self.recorder,
            on_rate=lambda _: None,
            take_unreported_drops=dict,
            low_battery=LowBatteryMark(folder),
        )
        self.engine.prepare()

    def play(self, fixes):
        """Each fix when it came, and a look at the state in every second between."""
        start_s = self.clock.monotonic_s() - (fixes[0].received_s if fixes else 0.0)
        for fix in fixes:
            self.wait(start_s + fix.received_s - self.clock.monotonic_s())
            now_s = self.clock.monotonic_s()
            self.engine.step(FixReceived(replace(fix, received_s=now_s)), now_s)

    def wait(self, length_s):
        """Time passes without a fix."""
        end_s = self.clock.monotonic_s() + length_s
        while (left_s := end_s - self.clock.monotonic_s()) > 1.0:
            self.clock.advance(1.0)
            self.engine.step(None, self.clock.monotonic_s())
        self.clock.advance(max(0.0, left_s))

    def events(self, *kinds):
        return [event for event in self.recorder.events if event.event_type in kinds]

    def trips(self):
        """Ended trips: id, seconds, kilometres, and which odometer says so."""
        return [
            (
                event.trip_id,
                event.details.get("duration_s"),
                event.details.get("distance_km"),
                event.details.get("distance_source"),
            )
            for event in self.events("trip_ended")
        ]
