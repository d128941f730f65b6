"""Whole drives through the engine: trips, distances, modes and events; recorded and made up."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import CanSettings
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.dbc.compile import compile_in_process
from contract import Mode
from tests.fakes.can_frames import frames_of
from tests.fakes.drives import START_S, DriveRig, recorded_fixes
from tests.fakes.receiver import NoisyReceiver, moved, parked
from tests.fakes.recorder import FixedReader

HOUR_S = 3600
PAST_ANY_TRIP_S = 700
HOME = next(iter(parked(1)))


def tour(*legs, step_s=1.0, start_s=START_S):
    """A truth: legs of (km/h, seconds) going north; speeds change by at most 1.5 m/s²."""
    fixes, north_m, kmh, now_s = [], 0.0, 0.0, start_s
    for target_kmh, seconds in legs:
        for _ in range(round(seconds / step_s)):
            most = 1.5 * 3.6 * step_s
            before, kmh = kmh, kmh + min(max(target_kmh - kmh, -most), most)
            north_m += (before + kmh) / 2 / 3.6 * step_s
            now_s += step_s
            fixes.append(replace(moved(HOME, 0.0, north_m), received_s=now_s, speed_kmh=kmh))
    return fixes, north_m


def noisy(fixes, seed=1, **errors):
    receiver = NoisyReceiver(seed, **errors)
    return [receiver.fix(fix) for fix in fixes]


# --- recorded ------------------------------------------------------------------------------


@pytest.mark.needs_traces
@pytest.mark.parametrize(
    ("name", "kilometres", "harsh"),
    [
        # one drive through Munich with a tunnel; braking from 31 to 3 km/h in 2 s at 1,543 s
        ("dev01_munich_drive.nmea", [10.90], 1),
        ("dev02_mtv_f9k_rtk_drive_a.nmea", [2.97], 0),
        # stops of more than two minutes, one of them with a gap of 798 s, one of 1,250 s
        ("dev03_reno_tahoe_garmin_drive_a.nmea", [36.85, 1.13, 8.60, 6.38, 3.29], 0),
        # its positions alone say how fast it is; it stood for two minutes in between
        ("dev04_munich_gga_gsa_only.nmea", [1.51, 0.53], 0),
        ("dev06_gp320fw_week_rollover.log", [], 0),
        ("dev07_unicore_um621_losefix.log", [], 0),
    ],
)
def test_the_recorded_drives_have_these_trips(tmp_path, traces, name, kilometres, harsh):
    rig = DriveRig(tmp_path)
    rig.play(recorded_fixes(traces / "nmea" / name))
    rig.wait(PAST_ANY_TRIP_S)
    trips = rig.trips()
    assert [km for _, _, km, _ in trips] == pytest.approx(kilometres, rel=0.01)
    assert len({trip_id for trip_id, *_ in trips}) == len(kilometres)
    assert all(source == "gps" for *_, source in trips)
    assert len(rig.events("trip_started")) == len(kilometres)
    assert len(rig.events("harsh_braking", "harsh_acceleration")) == harsh
    assert rig.engine.account()["mode"] == "normal"


@pytest.mark.needs_traces
def test_the_distance_by_gps_is_that_of_the_car_s_own_speed(tmp_path, traces):
    """5.05 km by OBD-II, whose speedometer reads 0.37 km/h more in the median; 0.8 % of it."""
    folder = traces / "can"
    gps = signal_map(
        folder / "canmod-gps.dbc",
        {
            "location.lat": {"signal": "Latitude", "valid_if": "PositionValid"},
            "location.lon": {"signal": "Longitude", "valid_if": "PositionValid"},
            "location.accuracy": "PositionAccuracy",
            "motion.speed_kmh": {
                "signal": "gnss_speed.Speed",
                "scale": 3.6,
                "valid_if": "SpeedValid",
            },
        },
    )
    obd = signal_map(
        folder / "CSS-Electronics-OBD2-v1.4.dbc", {"signals.kmh": "S1_PID_0D_VehicleSpeed"}
    )
    rig = DriveRig(tmp_path, gps)
    start_s, begin, last, obd_m = rig.clock.monotonic_s(), None, None, 0.0
    for at, frame in frames_of(folder / "dev01_car_gps_obd_start.candump"):
        if frame[0] == 9:
            continue
        begin = begin or at
        rig.clock.advance(max(0.0, start_s + at - begin - rig.clock.monotonic_s()))
        now_s = rig.clock.monotonic_s()
        gps.take([frame], now_s)
        obd.take([frame], now_s)
        rig.engine.step(None, now_s)
        measured_s, kmh = obd.received_s("signals.kmh"), obd.read(now_s).get("signals.kmh")
        if rig.recorder.samples[-1].location is None or measured_s is None or kmh is None:
            continue
        if last is None or measured_s > last[0]:
            if last is not None:
                obd_m += (kmh + last[1]) / 2 / 3.6 * (measured_s - last[0])
            last = (measured_s, kmh)
    gps_km = rig.recorder.samples[-1].signals["gps_distance_km"]
    assert obd_m == pytest.approx(5050, abs=10)
    assert gps_km == pytest.approx(obd_m / 1000, rel=0.02)


def signal_map(dbc, signals):
    config = CanSettings.model_validate({"dbc": [dbc], "signals": signals})
    return SignalMap(config, compile_in_process(config.dbc, references(config)))


# --- made up -------------------------------------------------------------------------------


def test_a_day_of_three_deliveries_is_three_trips_whatever_the_receiver_s_noise(tmp_path):
    drive = (50.0, 300), (0.0, 60), (30.0, 200), (0.0, 400)
    truth, true_m = tour((0.0, 300), *drive, *drive, *drive)
    rig = DriveRig(tmp_path, FixedReader(**{"battery.percent": 90.0}))
    rig.play(noisy(truth, sigma_m=6.0, spike_share=0.03))
    trips = rig.trips()
    assert len(trips) == len(rig.events("trip_started")) == 3
    assert sum(km for _, _, km, _ in trips) == pytest.approx(true_m / 1000, rel=0.03)
    assert rig.events("harsh_braking", "harsh_acceleration") == []
    changes = [(e.details["from"], e.details["to"]) for e in rig.events("mode_changed")]
    assert (
        changes
        == [("normal", "idle")]
        + [
            ("idle", "in_trip"),
            ("in_trip", "normal"),
            ("normal", "idle"),
        ]
        * 3
    )


def test_positions_of_can_without_a_speed_are_trips_and_parked_too(tmp_path):
    truth, true_m = tour((0.0, 200), (40.0, 300), (0.0, 400))
    car = FixedReader(**{"battery.percent": 90.0})
    rig = DriveRig(tmp_path, car)
    for fix in noisy(truth):
        car.values |= {"location.lat": fix.lat, "location.lon": fix.lon}
        car.at_s = rig.clock.monotonic_s()
        rig.engine.step(None, car.at_s)
        rig.clock.advance(1.0)
    changes = [(e.details["from"], e.details["to"]) for e in rig.events("mode_changed")]
    assert changes == [
        ("normal", "idle"),
        ("idle", "in_trip"),
        ("in_trip", "normal"),
        ("normal", "idle"),
    ]
    [(_, _, km, source)] = rig.trips()
    assert (km, source) == (pytest.approx(true_m / 1000, rel=0.05), "gps")
    assert all(
        sample.motion is None or sample.motion.speed_kmh is None for sample in rig.recorder.samples
    )


@pytest.mark.parametrize("with_speed", [True, False], ids=["with speeds", "positions only"])
@pytest.mark.parametrize(
    "errors", [{}, {"sigma_m": 15.0, "time_s": 300.0, "spike_share": 0.05}], ids=["common", "bad"]
)
def test_a_parked_vehicle_stays_parked_for_hours_however_its_receiver_drifts(
    tmp_path, errors, with_speed
):
    rig = DriveRig(tmp_path, FixedReader(**{"battery.percent": 90.0}))
    true = [fix if with_speed else replace(fix, speed_kmh=None) for fix in parked(3 * HOUR_S)]
    rig.play(noisy(true, **errors))
    changes = [(e.details["from"], e.details["to"]) for e in rig.events("mode_changed")]
    assert changes == [("normal", "idle")]
    assert rig.trips() == []
    idle = [sample for sample in rig.recorder.samples[100:] if sample.location]
    assert {sample.motion.speed_kmh for sample in idle} == {0.0 if with_speed else None}
    times = [sample.location.fix_time for sample in idle]
    assert len(set(times)) == len(times), "a held position has the time of the fix behind it"
    assert rig.state.view(rig.clock.monotonic_s()).odometers.gps_km < 0.01


def test_a_departure_from_parked_is_a_trip_within_ten_seconds(tmp_path):
    truth, _ = tour((0.0, 300), (30.0, 60))
    rig = DriveRig(tmp_path, FixedReader(**{"battery.percent": 90.0}))
    rig.play(noisy(truth))
    [started] = rig.events("trip_started")
    departed = rig.recorder.samples[0].timestamp + timedelta(seconds=300)
    assert timedelta(0) < started.timestamp - departed < timedelta(seconds=12)


def test_a_trip_keeps_its_id_and_its_kilometres_across_a_power_cut_in_its_middle(tmp_path):
    truth, true_m = tour((0.0, 60), (60.0, 600), (0.0, 200))
    cut = 360
    first = DriveRig(tmp_path)
    first.play(truth[:cut])
    [started] = first.events("trip_started")
    second = DriveRig(tmp_path, clock=first.clock, boot_id="after the cut")
    second.clock.advance(40)
    second.play(truth[cut + 40 :])
    second.wait(PAST_ANY_TRIP_S)
    [(trip_id, duration_s, km, source)] = second.trips()
    assert trip_id == started.trip_id
    assert second.events("trip_started") == []
    assert duration_s == pytest.approx(600 + 140, abs=60)
    assert (km, source) == (pytest.approx(true_m / 1000, rel=0.02), "gps")


def test_the_odometer_of_can_wins_and_the_distance_by_gps_is_not_told_beside_it(tmp_path):
    truth, _ = tour((0.0, 60), (60.0, 300), (0.0, 200))
    car = FixedReader(**{"diagnostics.odometer_km": 2458.0})
    rig = DriveRig(tmp_path, car)
    rig.play(truth[:200])
    car.values["diagnostics.odometer_km"] = 2463.0
    rig.play(truth[200:])
    [(_, _, km, source)] = rig.trips()
    assert (km, source) == (5.0, "can")
    assert all(sample.signals is None for sample in rig.recorder.samples)
    del car.values["diagnostics.odometer_km"]
    rig.play(truth[-5:])
    assert rig.recorder.samples[-1].signals["gps_distance_km"] == pytest.approx(5.0, abs=0.1)


def test_low_and_recovered_battery_are_told_once_each_around_a_noisy_level(tmp_path):
    battery = FixedReader(**{"battery.percent": 16.0, "vehicle_status.in_use": True})
    rig = DriveRig(tmp_path, battery)
    for tick in range(3000):
        battery.values["battery.percent"] = abs(16.0 - tick / 100) + (tick % 7) / 3
        rig.engine.step(None, rig.clock.monotonic_s())
        rig.clock.advance(1.0)
    kinds = [e.event_type for e in rig.events("battery_low", "battery_recovered")]
    assert kinds == ["battery_low"]
    battery.values["battery.percent"] = 25.0
    rig.wait(30)
    kinds = [e.event_type for e in rig.events("battery_low", "battery_recovered")]
    assert kinds == ["battery_low", "battery_recovered"]


def test_a_low_battery_that_restarts_the_board_again_and_again_is_told_once(tmp_path):
    battery = FixedReader(**{"battery.percent": 9.0})
    told = []
    for boot in range(5):
        rig = DriveRig(tmp_path, battery, boot_id=f"boot-{boot}")
        rig.wait(30)
        told += [e.event_type for e in rig.events("battery_low", "battery_recovered")]
    battery.values["battery.percent"] = 60.0
    for boot in range(5, 8):
        rig = DriveRig(tmp_path, battery, boot_id=f"boot-{boot}")
        rig.wait(30)
        told += [e.event_type for e in rig.events("battery_low", "battery_recovered")]
    assert told == ["battery_low", "battery_recovered"]


def test_a_folder_that_takes_no_mark_costs_no_event(tmp_path, caplog):
    rig = DriveRig(tmp_path / "absent", FixedReader(**{"battery.percent": 9.0}))
    rig.wait(30)
    assert len(rig.events("battery_low")) == 1
    assert "battery-low" in caplog.text


def test_the_acceleration_of_can_tells_a_harsh_start_that_speeds_would_not(tmp_path):
    car = FixedReader(**{"motion.acceleration.x": 0.0, "motion.speed_kmh": 20.0})
    rig = DriveRig(tmp_path, car)
    for tick in range(50):
        car.values["motion.acceleration.x"] = 4.2 if 20 <= tick < 30 else 0.1
        rig.engine.step(None, rig.clock.monotonic_s())
        rig.clock.advance(0.2)
    [event] = rig.events("harsh_braking", "harsh_acceleration")
    assert event.event_type == "harsh_acceleration"
    assert event.details["source"] == "can_acceleration"
    assert 3.0 < event.details["acceleration_mps2"] <= 4.2


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 4.0, 30.0, 90.0]), st.integers(10, 400)), max_size=8
    ),
    st.integers(0, 2**32),
)
def test_every_trip_that_began_ends_and_no_mode_is_shorter_than_its_dwell(
    tmp_path_factory, legs, seed
):
    truth, true_m = tour((0.0, 60), *legs)
    rig = DriveRig(tmp_path_factory.mktemp("drive"), FixedReader(**{"battery.percent": 90.0}))
    rig.play(noisy(truth, seed, spike_share=0.02))
    rig.wait(PAST_ANY_TRIP_S)
    assert len(rig.trips()) == len(rig.events("trip_started"))
    changes = rig.events("mode_changed")
    leaves_after_s = {"in_trip": 120, "idle": 5, "normal": 5}
    for before, after in pairwise(changes):
        stayed_s = (after.timestamp - before.timestamp).total_seconds()
        assert stayed_s >= leaves_after_s[after.details["from"]] - 1
    driven_m = (rig.state.view(rig.clock.monotonic_s()).odometers.gps_km or 0.0) * 1000
    creeping_m = sum(4.0 / 3.6 * seconds for kmh, seconds in legs if kmh == 4.0)
    assert driven_m == pytest.approx(true_m, rel=0.02, abs=40 + creeping_m)
    assert {Mode(change.details["to"]) for change in changes} <= set(Mode)
