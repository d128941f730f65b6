"""Faults of the sky in a receiver's own sentences; the simulator's reader is the witness."""

import pytest

from simulator.gps_faults import CLEAR_SKY, Sky
from simulator.nmea_faults import seen_line
from simulator.scenario.evidence import distance_m
from simulator.trace import read_trace
from tests.conftest import ROOT, TRACES

DEFAULT = ROOT / "simulator" / "traces" / "default.nmea"
RECORDED = [
    "dev01_munich_drive.nmea",
    "dev02_mtv_f9k_rtk_drive_a.nmea",
    "dev03_reno_tahoe_garmin_drive_a.nmea",
    "dev06_gp320fw_week_rollover.log",
]


def under(sky, path, tmp_path):
    """The log as the receiver would have said it under this sky, read."""
    log = tmp_path / "seen.nmea"
    lines = path.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(seen_line(line, sky) for line in lines))
    return read_trace(log)


@pytest.fixture(params=[DEFAULT.name, *RECORDED])
def log(request):
    path = DEFAULT if request.param == DEFAULT.name else TRACES / "nmea" / request.param
    if not path.exists():
        pytest.skip(f"{request.param} is not on this machine")
    return path


def test_a_clear_sky_changes_nothing(log):
    for line in log.read_bytes().splitlines(keepends=True):
        assert seen_line(line, CLEAR_SKY) == line


def test_without_a_sky_no_epoch_has_a_fix_and_no_sentence_is_broken(log, tmp_path):
    before, after = read_trace(log), under(Sky(lost=True), log, tmp_path)
    assert after.counts.fixes == 0
    assert after.counts.bad_lines == before.counts.bad_lines
    assert len(after.epochs) == len(before.epochs)
    assert all(epoch.lat is None and epoch.speed_mps is None for epoch in after.epochs)


def test_a_jump_moves_every_fix_by_so_many_metres(log, tmp_path):
    before, after = read_trace(log), under(Sky(jump_m=2_000), log, tmp_path)
    assert after.counts.fixes == before.counts.fixes
    assert after.counts.bad_lines == before.counts.bad_lines
    for true, seen in zip(before.epochs, after.epochs, strict=True):
        if true.has_fix:
            moved_m = distance_m(true.lat, true.lon, seen.lat, seen.lon)
            assert moved_m == pytest.approx(2_000, rel=2e-3)
            assert (seen.speed_mps, seen.time) == (true.speed_mps, true.time)


def test_what_is_no_sentence_stays_as_it_is():
    for line in (b"\xb5b\x01\x02", b"$GPRMC,1,A*00\r\n", b"$PUBX,00*33\r\n", b"", b"# remark\n"):
        assert seen_line(line, Sky(lost=True)) == line
        assert seen_line(line, Sky(jump_m=5.0)) == line
