"""The kilometres by GPS: they outlast restarts and power cuts, and wear no flash."""

import json

import pytest

from agent.engine.odometer import RESUME_M, SAVE_EVERY_M, GpsOdometer, Odometers
from agent.inputs import Fix
from tests.fakes.receiver import moved

HOME = Fix(received_s=0.0, lat=50.1, lon=8.68, accuracy_m=5.0)


def at(north_m, accuracy_m=5.0):
    return moved(Fix(0.0, HOME.lat, HOME.lon, accuracy_m=accuracy_m), 0.0, north_m)


def drive(odometer, metres, *, start_m=0.0, step_m=10.0):
    """Count a way north; how often the file was written."""
    before, writes = content(odometer), 0
    for step in range(1, round(metres / step_m) + 1):
        odometer.count(step_m, at(start_m + step * step_m))
        now = content(odometer)
        writes += now != before
        before = now
    return writes


def content(odometer):
    path = odometer._path
    return path.read_bytes() if path.exists() else None


def test_a_vehicle_that_never_had_a_position_has_no_distance(tmp_path):
    odometer = GpsOdometer(tmp_path)
    assert odometer.km is None
    odometer.save()
    assert list(tmp_path.iterdir()) == []
    odometer.count(0.0, HOME)
    assert odometer.km == 0.0


def test_the_file_is_written_once_a_kilometre_and_not_while_the_vehicle_stands(tmp_path):
    odometer = GpsOdometer(tmp_path)
    assert drive(odometer, 25_000) == 25_000 / SAVE_EVERY_M
    odometer.save()
    kept = content(odometer)
    inode = odometer._path.stat().st_ino
    for _ in range(1000):
        odometer.count(0.0, at(25_000))
    odometer.save()
    assert content(odometer) == kept
    assert odometer._path.stat().st_ino == inode, "an unchanged count is not written again"


def test_an_orderly_stop_loses_nothing(tmp_path):
    odometer = GpsOdometer(tmp_path)
    drive(odometer, 1_730)
    odometer.save()
    assert GpsOdometer(tmp_path).km == pytest.approx(1.73)


def test_a_power_cut_loses_nothing_that_the_next_position_does_not_bring_back(tmp_path):
    drive(GpsOdometer(tmp_path), 1_730)
    again = GpsOdometer(tmp_path)
    assert again.km == pytest.approx(1.0)
    again.count(0.0, at(1_780))
    assert again.km == pytest.approx(1.78, abs=0.001)
    drive(again, 500, start_m=1_780)
    assert again.km == pytest.approx(2.28, abs=0.001)


def test_the_first_position_that_is_good_counts_and_what_was_driven_since_the_start_once(tmp_path):
    drive(GpsOdometer(tmp_path), 1_000)
    again = GpsOdometer(tmp_path)
    again.count(0.0, at(1_600, accuracy_m=300.0))
    assert again.km == pytest.approx(1.0), "the first fixes of a receiver are its worst"
    again.count(150.0, at(1_550, accuracy_m=200.0))
    again.count(50.0, at(1_600, accuracy_m=10.0))
    assert again.km == pytest.approx(1.6, abs=0.001)


@pytest.mark.parametrize("away_m", [RESUME_M[0] - 20, RESUME_M[1] + 100])
def test_a_vehicle_that_hardly_moved_or_was_carried_has_driven_nothing_meanwhile(tmp_path, away_m):
    drive(GpsOdometer(tmp_path), 1_000)
    again = GpsOdometer(tmp_path)
    again.count(0.0, at(1_000 + away_m))
    assert again.km == pytest.approx(1.0)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b'{"travelled_m": 5}',
        b'{"travelled_m": "5", "lat": 50, "lon": 8}',
        b'{"travelled_m": -5, "lat": 50, "lon": 8}',
        b'{"travelled_m": NaN, "lat": 50, "lon": 8}',
        b'{"travelled_m": true, "lat": 50, "lon": 8}',
    ],
)
def test_a_damaged_file_is_set_aside_and_the_agent_goes_on(tmp_path, caplog, damage):
    (tmp_path / "distance.json").write_bytes(damage)
    odometer = GpsOdometer(tmp_path)
    assert odometer.km is None
    assert "distance.json" in caplog.text
    assert (tmp_path / "distance.json.damaged").read_bytes() == damage
    drive(odometer, 1_000)
    assert json.loads(content(odometer))["travelled_m"] == 1_000


def test_a_disk_that_cannot_be_written_is_told_once_and_costs_no_metre(tmp_path, caplog):
    odometer = GpsOdometer(tmp_path / "absent")
    drive(odometer, 5_000)
    assert odometer.km == pytest.approx(5.0)
    assert caplog.text.count("lost") == 1
    (tmp_path / "absent").mkdir()
    drive(odometer, 1_000, start_m=5_000)
    assert json.loads(content(odometer))["travelled_m"] == 6_000


def test_can_s_odometer_goes_before_gps_where_it_is_known_at_both_ends():
    start = Odometers(can_km=2458.0, gps_km=10.0)
    assert Odometers(2470.0, 21.5).since(start) == (12.0, "can")
    assert Odometers(None, 21.5).since(start) == (11.5, "gps")
    assert Odometers(2470.0, 21.5).since(Odometers(None, 10.0)) == (11.5, "gps")
    assert Odometers(0.0, 21.5).since(start) == (11.5, "gps"), "one that was reset is not used"
    assert Odometers(None, 5.0).since(start) is None
    assert Odometers().since(start) is None
