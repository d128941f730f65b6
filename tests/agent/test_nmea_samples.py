"""Recorded logs from a serial line to what a sample says: right, or nothing, on a 1970 board."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.config import PositionSettings
from agent.engine.groups import Groups
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.host import SystemClock
from agent.sources.nmea.stream import NmeaStream
from contract import TimeQuality
from simulator.receiver_log import read_receiver_log
from tests.fakes import nmea

ROLLOVER = timedelta(weeks=1024)
LINE_DELAY_S = 0.1
STALE_AFTER_S = 5.0


def samples_of(path, folder):
    """Quality, time, location and the newest fix, after each burst of the log."""
    log = read_receiver_log(path)
    now = [100.0]
    clock = SystemClock(
        monotonic_s=lambda: now[0],
        system_utc=lambda: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now[0]),
        kernel_is_synchronised=lambda: False,
    )
    state = VehicleState(
        observe_time=clock.observe_gps,
        readers=(),
        position=PositionSettings(),
        stale_after_s=STALE_AFTER_S,
        odometer=GpsOdometer(folder),
    )
    groups, stream, fixes = Groups(), NmeaStream(), {}
    for burst, epoch in zip(log.bursts, log.epochs, strict=True):
        now[0] = 100.0 + epoch.offset_s + LINE_DELAY_S
        found = [*stream.feed(b"".join(burst), now[0]), stream.pause()]
        for received in filter(None, found):
            state.take_fix(received, clock.base())
            fixes.setdefault((received.fix.lat, received.fix.lon), []).append(received.fix)
        base = clock.base()
        location = groups.location(state.view(now[0]), base)
        yield base.quality, base.at(now[0]), location, fixes, epoch


def off_s(moment, truth):
    """How far apart two times are, whole rollovers aside."""
    apart = (moment - truth) % ROLLOVER
    return min(apart, ROLLOVER - apart).total_seconds()


@pytest.mark.needs_traces
@pytest.mark.parametrize("name", nmea.RECORDED)
def test_every_sample_of_a_recorded_log_is_right_or_says_less(name, traces, tmp_path):
    located = timed = 0
    for quality, now, location, fixes, epoch in samples_of(traces / "nmea" / name, tmp_path):
        if quality is TimeQuality.GPS and epoch.time is not None:
            timed += 1
            assert now.year >= 2024
            # dev01's receiver steps back by a second once, and is followed after three fixes
            assert off_s(now, epoch.time) <= 2.0 + LINE_DELAY_S
        if location is None:
            continue
        located += 1
        there = fixes[location.lat, location.lon]
        told = {fix.altitude_m for fix in there}
        # dev01's receiver begins at -704 m, which is left out
        assert location.altitude in {one if one is None or one > -500 else None for one in told}
        if quality is TimeQuality.GPS:
            assert off_s(location.fix_time, now) <= STALE_AFTER_S + 1
    assert located >= 10
    assert timed >= 10 or "gga_gsa_only" in name


@pytest.mark.parametrize("date", ["060180", "150105", "150125", "300844"])
def test_the_time_of_a_sample_is_that_of_the_receiver_moved_by_whole_rollovers(date, tmp_path):
    path = tmp_path / "drive.nmea"
    path.write_bytes(
        nmea.log(
            line
            for second in range(43_200, 43_230)
            for line in nmea.epoch(second, date=date, minutes=5.1 + second / 1_000)
        )
    )
    *_, (quality, now, location, _, epoch) = samples_of(path, tmp_path)
    assert quality is TimeQuality.GPS
    assert now.year in range(2024, 2080)
    assert off_s(now, epoch.time) < 0.2
    assert off_s(location.fix_time, epoch.time) < 0.2
