"""Recorded drives as fixes, as gpsd would report them."""

from functools import cache
from itertools import pairwise

from agent.engine.geo import apart_m
from agent.engine.track import PositionTrack
from agent.sources.gpsd_protocol import fix_from_tpv
from simulator import gpsd_reports
from simulator.trace import read_trace

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
