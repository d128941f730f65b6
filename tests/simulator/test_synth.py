import itertools
import json
import math
import random
import re
import subprocess
from datetime import timedelta
from functools import cache

import cantools
import pytest
from click.testing import CliRunner

from simulator.can_log import CanLog
from simulator.demo.plan import built_in_file
from simulator.synth import DriveOptions, synthesise
from simulator.synth.command import synth
from simulator.synth.drive import DEFAULT_START
from simulator.synth.frankfurt import WAY_POINTS
from simulator.synth.route import Route, WayPoint
from simulator.synth.schedule import BRAKE_MPS2, PULL_AWAY_MPS2, Schedule
from simulator.trace import read_trace
from tests.conftest import ROOT, program

DBC = ROOT / "firmware-config" / "dbc" / "milepost-demo.dbc"
TRACES = ROOT / "simulator" / "traces"


@cache
def drive():
    return synthesise()


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "drive.nmea"
    path.write_text(drive().nmea, encoding="ascii")
    return read_trace(path)


@cache
def frames():
    """Seconds since the start, message name, decoded signals: with the DBC of the repository."""
    database = cantools.database.load_file(DBC)
    decoded = []
    for line in drive().candump.splitlines():
        if line.startswith("#"):
            continue
        time, _, frame = line.split()
        identifier, data = frame.split("#")
        message = database.get_message_by_frame_id(int(identifier, 16))
        values = message.decode(bytes.fromhex(data), decode_choices=False)
        decoded.append((float(time[1:-1]) - DEFAULT_START.timestamp(), message.name, values))
    return decoded


def series(message, signal):
    return [(time_s, values[signal]) for time_s, name, values in frames() if name == message]


def metres(one, other):
    lat = math.radians((one.lat + other.lat) / 2)
    north = math.radians(other.lat - one.lat) * 6_371_009
    east = math.radians(other.lon - one.lon) * 6_371_009 * math.cos(lat)
    return math.hypot(north, east)


def test_every_sentence_has_the_checksum_of_its_characters():
    lines = [line for line in drive().nmea.splitlines() if not line.startswith("#")]
    assert len(lines) > 5_000
    for line in lines:
        body, _, checksum = line[1:].partition("*")
        expected = 0
        for character in body:
            expected ^= ord(character)
        assert line[0] == "$"
        assert checksum == f"{expected:02X}"
        assert len(line) <= 82 - 2, "NMEA 0183 allows 82 characters with CR and LF"


def test_the_log_has_all_six_kinds_of_sentences(trace):
    kinds = {line[3:6] for line in drive().nmea.splitlines() if line.startswith("$")}
    assert kinds == {"RMC", "GGA", "GSA", "GSV", "VTG", "GST"}
    assert trace.counts.bad_lines == 0
    assert trace.counts.partial_epochs == 0
    assert trace.interval_s == 1.0
    assert not trace.gaps


def test_it_is_a_closed_loop_of_a_quarter_of_an_hour(trace):
    fixes = [epoch for epoch in trace.epochs if epoch.has_fix]
    assert 12 * 60 <= trace.duration_s <= 16 * 60
    assert metres(fixes[0], fixes[-1]) < 15
    assert max(metres(fixes[0], fix) for fix in fixes) > 1_500
    length_m = sum(metres(a, b) for a, b in itertools.pairwise(fixes))
    assert length_m == pytest.approx(1000 * drive().length_km, rel=0.05)


def test_the_tunnel_takes_the_fix_for_a_while_and_gives_it_back(trace):
    dark, longest, gap_m, last = 0, 0, 0.0, None
    for epoch in trace.epochs:
        if epoch.has_fix:
            if dark > 5 and last is not None:
                gap_m = metres(last, epoch)
            dark, last = 0, epoch
        else:
            dark += 1
            longest = max(longest, dark)
    assert 15 <= longest <= 90
    assert gap_m > 200


def test_speeds_and_accelerations_are_those_of_a_town_drive():
    schedule = Schedule(
        Route(WAY_POINTS),
        random.Random(3),
        parked_before_s=10,
        parked_after_s=10,
        stop_s=(5, 10),
    )
    motions = [schedule.at(tick / 10) for tick in range(int(schedule.duration_s * 10))]
    assert max(motion.speed_mps for motion in motions) <= 50 / 3.6
    assert max(motion.acceleration_mps2 for motion in motions) <= PULL_AWAY_MPS2 * 1.3
    assert min(motion.acceleration_mps2 for motion in motions) >= -BRAKE_MPS2 * 1.3
    standing = sum(motion.speed_mps < 0.05 for motion in motions) / 10
    assert standing > 10 + 10 + 5 * len(Route(WAY_POINTS).stops_m) * 0.8
    distances = [motion.distance_m for motion in motions]
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(distances))
    assert motions[0].speed_mps == 0
    assert motions[-1].speed_mps < 1e-6


def test_the_positions_move_as_fast_as_the_receiver_says(trace):
    fixes = trace.epochs
    for before, after in itertools.pairwise(fixes):
        if before.has_fix and after.has_fix:
            moved_mps = metres(before, after) / (after.offset_s - before.offset_s)
            said_mps = (before.speed_mps + after.speed_mps) / 2
            assert moved_mps == pytest.approx(said_mps, abs=2.5)


def test_can_and_gps_tell_of_the_same_speed(trace):
    by_can = dict(series("DriveState", "VehicleSpeed"))
    times = sorted(by_can)
    nearest = iter(times)
    current = next(nearest)
    for epoch in trace.epochs:
        while current < epoch.offset_s and (following := next(nearest, None)) is not None:
            current = following
        if epoch.has_fix:
            assert by_can[current] == pytest.approx(epoch.speed_mps * 3.6, abs=3.0)


def test_the_battery_falls_below_15_percent_on_the_road_and_charges_at_home():
    percent = dict(series("BatteryState", "StateOfCharge"))
    charging = dict(series("BatteryState", "Charging"))
    low = [time_s for time_s, value in percent.items() if value < 15]
    assert 0.4 * drive().duration_s < low[0] < 0.8 * drive().duration_s
    assert not charging[low[0]]
    plugged = [time_s for time_s, value in charging.items() if value]
    assert plugged[0] > low[0]
    assert all(charging[time_s] for time_s in charging if time_s >= plugged[0])
    assert percent[max(percent)] > 15.5
    falling = [value for time_s, value in percent.items() if time_s < plugged[0]]
    assert falling[0] - falling[-1] > 8


def test_the_bus_tells_when_the_vehicle_is_in_use_and_when_locked():
    in_use = [value for _, value in series("BodyState", "InUse")]
    locked = [value for _, value in series("BodyState", "Locked")]
    assert (in_use[0], in_use[-1]) == (0, 0)
    assert (locked[0], locked[-1]) == (1, 1)
    assert in_use[60] == 1
    assert locked[60] == 0
    changes = sum(a != b for a, b in itertools.pairwise(in_use))
    assert changes == 2
    odometer = [value for _, value in series("Distance", "Odometer")]
    assert odometer == sorted(odometer)
    assert odometer[-1] - odometer[0] == pytest.approx(drive().length_km, abs=0.05)


def test_every_message_comes_in_its_period_and_times_never_step_back():
    times = [time_s for time_s, _, _ in frames()]
    assert times == sorted(times)
    for name, period_s in (("DriveState", 0.2), ("BatteryState", 0.5), ("Distance", 1.0)):
        sent = [time_s for time_s, message, _ in frames() if message == name]
        for before, after in itertools.pairwise(sent):
            assert after - before == pytest.approx(period_s, abs=0.0011)


def test_the_same_options_give_the_same_bytes_and_another_seed_gives_others():
    again = synthesise()
    assert again.nmea == drive().nmea
    assert again.candump == drive().candump
    other = synthesise(DriveOptions(seed=2))
    assert other.nmea != drive().nmea
    assert other.candump != drive().candump


def test_five_fixes_a_second_carry_times_200_ms_apart(tmp_path):
    path = tmp_path / "fast.nmea"
    path.write_text(synthesise(DriveOptions(rate_hz=5)).nmea, encoding="ascii")
    trace = read_trace(path)
    assert trace.interval_s == pytest.approx(0.2)
    assert trace.counts.bad_lines == 0
    first, second = trace.epochs[100].time, trace.epochs[101].time
    assert second - first == timedelta(milliseconds=200)
    with pytest.raises(ValueError, match="rate 3"):
        synthesise(DriveOptions(rate_hz=3))


@pytest.mark.parametrize("suffix", ["nmea", "candump"])
def test_the_committed_trace_is_what_its_header_command_makes(tmp_path, suffix):
    committed = (TRACES / f"default.{suffix}").read_bytes()
    command = re.search(rb"# made by: milepost-sim synth (.*)\n", committed)[1].decode().split()
    done = CliRunner().invoke(synth, [*command, "--out", str(tmp_path / "made")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / f"made.{suffix}").read_bytes() == committed


def test_the_committed_traces_stay_small():
    assert sum((TRACES / name).stat().st_size for name in ("default.nmea", "default.candump")) < (
        1_500_000
    )


def test_the_package_ships_the_dbc_of_the_firmware_folder():
    assert built_in_file("milepost-demo.dbc").read_bytes() == DBC.read_bytes()


def test_an_output_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(synth, ["--out", str(tmp_path / "file" / "drive")])
    assert done.exit_code == 1
    assert "cannot write" in done.output
    assert "--out" in done.output


def test_a_route_needs_two_places_that_differ():
    with pytest.raises(ValueError, match="two way points"):
        Route((WayPoint(50, 8),))
    with pytest.raises(ValueError, match="less than a metre"):
        Route((WayPoint(50, 8), WayPoint(50, 8), WayPoint(50.1, 8)))


def test_corners_are_round_and_shorten_the_way():
    square = (WayPoint(50, 8), WayPoint(50.001, 8), WayPoint(50.001, 8.002))
    route = Route(square)
    assert len(route.corners) == 1
    headings = [route.place(metre).heading_deg for metre in range(int(route.length_m))]
    turns = [abs((b - a + 180) % 360 - 180) for a, b in itertools.pairwise(headings)]
    assert max(turns) < 10, "a vehicle does not turn on the spot"
    assert headings[0] == pytest.approx(0, abs=0.5)
    assert headings[-1] == pytest.approx(90, abs=0.5)
    straight = metres(square[0], square[1]) + metres(square[1], square[2])
    assert straight - 15 < route.length_m < straight


def test_the_committed_can_log_is_read_without_a_bad_line():
    counts = CanLog(TRACES / "default.candump").survey()
    assert counts.bad_lines == 0
    assert counts.empty_lines == 2, "the header's remarks"
    assert counts.frames > 10_000


@pytest.mark.needs("gpsdecode")
def test_gpsds_own_decoder_sees_every_epoch_of_the_committed_trace():
    decoded = subprocess.run(
        [program("gpsdecode")],
        input=(TRACES / "default.nmea").read_bytes(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    reports = [json.loads(line) for line in decoded.stdout.splitlines() if line.startswith(b"{")]
    fixes = [one for one in reports if one["class"] == "TPV" and one["mode"] == 3]
    trace = read_trace(TRACES / "default.nmea")
    assert len(fixes) == trace.counts.fixes_3d
    expected = [epoch for epoch in trace.epochs if epoch.has_fix]
    for fix, epoch in zip(fixes, expected, strict=True):
        assert fix["lat"] == pytest.approx(epoch.lat, abs=1e-7)
        assert fix["lon"] == pytest.approx(epoch.lon, abs=1e-7)
        assert fix["speed"] == pytest.approx(epoch.speed_mps, abs=0.002)
