"""The parts of a scenario: its file, its faults, and what is expected beside what came."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import cantools
import pytest
from click.testing import CliRunner

from simulator.can_faults import ERROR_BUS_OFF, ERROR_RESTARTED, BusFaults
from simulator.can_log import CanLog
from simulator.cli import cli
from simulator.epoch import Epoch, FixMode
from simulator.errors import FileError
from simulator.gps_faults import Sky
from simulator.network.conditions import CLEAR
from simulator.network.faults import parse_fault
from simulator.scenario import wrong_clock
from simulator.scenario.agent_config import merged
from simulator.scenario.evidence import Evidence, Message, Truth, distance_m
from simulator.scenario.expectations import check
from simulator.scenario.faults import ALL_IS_WELL, FAULTS, situation_at
from simulator.scenario.library import find, library
from simulator.scenario.model import Expect, Fault, FaultName, load_scenario
from simulator.scenario.reference import page
from simulator.scenario.wrong_clock import WrongClock
from tests.conftest import ROOT

DBC = ROOT / "firmware-config" / "dbc" / "e-bike.dbc"
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def faults_of(tmp_path, text):
    with pytest.raises(FileError) as caught:
        load_scenario(write(tmp_path, text))
    return str(caught.value)


def test_a_scenario_is_read_with_durations_as_people_write_them(tmp_path):
    scenario = load_scenario(
        write(
            tmp_path,
            'title = "x"\nduration_s = "1m"\n'
            '[[fault]]\nname = "gps-loss"\nat_s = "5s"\nfor_s = 2\n',
        )
    )
    assert scenario.duration_s == 60
    assert (scenario.fault[0].at_s, scenario.fault[0].end_s) == (5, 7)
    assert scenario.vehicle.preset == "gps-only"


def test_every_key_that_is_wrong_is_named_at_once(tmp_path):
    said = faults_of(
        tmp_path,
        "titel = 'x'\n[[fault]]\nname = 'gps-los'\nat_s = 1\nfor_s = 2\n[expect]\ntrips = -1\n",
    )
    assert "title: is required and missing" in said
    assert 'titel: unknown key; did you mean "title"?' in said
    assert "fault[0].name = 'gps-los'" in said
    assert "'brown-out'" in said, "it tells which there are"
    assert "expect.trips = -1" in said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("name = 'sensor-stuck'\nat_s = 1\nfor_s = 1", "sensor-stuck needs signals"),
        ("name = 'clock-1970'\nat_s = 1\nfor_s = 1", "at_s must be 0"),
        ("name = 'gps-loss'\nat_s = 1\nfor_s = 0", "lasts no time"),
        ("name = 'gps-loss'\nat_s = 1\nfor_s = 1\njump_m = 5", "jump_m belongs to gps-jump"),
        ("name = 'network-cut'\nat_s = 1\nfor_s = 1\nnetwork = 'slow'", "there is no fault 'slow'"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(tmp_path, fault, said):
    assert said in faults_of(tmp_path, f"title = 'x'\n[[fault]]\n{fault}\n")


def test_every_fault_has_a_row_in_the_table_and_a_scenario_in_the_library():
    assert set(FAULTS) == set(FaultName)
    used = {fault.name for path in library().values() for fault in load_scenario(path).fault}
    assert used == set(FaultName)


def test_faults_that_hold_together_are_one_situation():
    faults = (
        Fault(name="gps-loss", at_s=0, for_s=10),
        Fault(name="gps-jump", at_s=5, for_s=10, jump_m=300),
        Fault(name="bus-off", at_s=5, for_s=10, bus="can1"),
        Fault(name="sensor-stuck", at_s=5, for_s=10, signals=("A.B",)),
        Fault(name="network-cut", at_s=5, for_s=10, network="rate=1KB/s"),
        Fault(name="brown-out", at_s=8, for_s=1),
        Fault(name="clock-1970", at_s=0, for_s=6),
        Fault(name="stale-fix", at_s=5, for_s=1),
    )
    assert situation_at(faults, 20) == ALL_IS_WELL
    now = situation_at(faults, 5.5)
    assert now.sky == Sky(lost=True, frozen=True, jump_m=300)
    assert (now.is_off("can0"), now.is_off("can1")) == (False, True)
    assert now.stuck == {"A.B"}
    assert now.network == parse_fault("rate=1KB/s").condition
    assert (now.powered, now.clock_wrong) == (True, True)
    assert not situation_at(faults, 8.5).powered
    assert situation_at(faults, 4.9).network == CLEAR
    assert situation_at((Fault(name="bus-off", at_s=0, for_s=1),), 0).is_off("can7")


def test_a_jump_moves_the_fix_by_so_many_metres_and_a_loss_takes_it():
    epoch = Epoch(offset_s=0, mode=FixMode.FIX_3D, lat=50.1, lon=8.6)
    moved = Sky(jump_m=2_000).seen(epoch)
    assert distance_m(epoch.lat, epoch.lon, moved.lat, moved.lon) == pytest.approx(2_000, rel=1e-3)
    assert not Sky(lost=True).seen(epoch).has_fix
    assert Sky().seen(epoch) == epoch


def bike_frames(tmp_path):
    log = tmp_path / "bike"
    words = ["synth", "can", "--vehicle", "e-bike", "--route", "hop", "--out", str(log)]
    assert CliRunner().invoke(cli, words).exit_code == 0
    return [frame for frame in CanLog(f"{log}.candump") if frame.arbitration_id == 0x200]


def test_a_stuck_signal_keeps_its_value_and_its_neighbours_in_the_frame_do_not(tmp_path):
    database = cantools.database.load_file(DBC)
    message = database.get_message_by_name("MotorState")
    faults = BusFaults(database.messages)
    frames = bike_frames(tmp_path)[160:500]
    faults.stick(["MotorState.WheelSpeed"])
    (first,) = faults.shaped(frames[0])
    seen = [message.decode(one.data) for frame in frames for one in faults.shaped(frame)]
    assert {values["WheelSpeed"] for values in seen} == {message.decode(first.data)["WheelSpeed"]}
    truth = [message.decode(frame.data) for frame in frames]
    assert len({values["WheelSpeed"] for values in truth}) > 10
    for name in ("MotorSpeed", "Assist", "BrakeLever"):
        assert [values[name] for values in seen] == [values[name] for values in truth]
    faults.stick([])
    assert faults.shaped(frames[-1]) == [frames[-1]]
    with pytest.raises(FileError, match="WheelSped"):
        faults.stick(["MotorState.WheelSped"])


def test_a_bus_that_is_off_says_so_once_and_is_silent_until_its_controller_returns(tmp_path):
    faults = BusFaults()
    frames = bike_frames(tmp_path)[:5]
    assert faults.shaped(frames[0]) == [frames[0]]
    faults.off = True
    (report,) = faults.shaped(frames[1])
    assert (report.error, report.arbitration_id) == (True, ERROR_BUS_OFF)
    assert faults.shaped(frames[2]) == []
    faults.off = False
    restarted, frame = faults.shaped(frames[3])
    assert (restarted.error, restarted.arbitration_id) == (True, ERROR_RESTARTED)
    assert frame == frames[3]


def sample(at_s, run="aaaaaaaa", **groups):
    moment = BEGIN + timedelta(seconds=at_s)
    return Message(run, moment, {"time_quality": "gps", **groups})


def event(at_s, kind, run="aaaaaaaa", **fields):
    return replace(sample(at_s, run), body={"time_quality": "gps", "event_type": kind, **fields})


def evidence(*messages, **changes):
    told = {
        "begun": BEGIN,
        "started": BEGIN - timedelta(seconds=3),
        "ended": BEGIN + timedelta(seconds=60),
        "messages": messages,
        "missing": 0,
        "unexplained": 0,
        "truth": Truth([0.0, 60.0], [(50.0, 8.0), (50.006, 8.0)]),
    }
    return Evidence(**(told | changes))


def failed(expect, *messages, starts=1, **changes):
    """The names of the checks that did not pass."""
    expect = Expect(**({"samples_min": 1} | expect))
    checks = check(expect, evidence(*messages, **changes), starts=starts)
    return [one.name for one in checks if not one.passed]


def test_what_is_always_checked_fails_when_it_should():
    assert failed({}, sample(1)) == []
    assert failed({}) == ["samples", "runs of the agent"]
    assert failed({}, sample(1), unexplained=1) == ["unexplained"]
    assert failed({"missing_max": 3}, sample(1), missing=4) == ["missing"]
    assert failed({"missing_max": 4}, sample(1), missing=4) == []
    assert failed({}, sample(1), sample(2, "bbbbbbbb")) == ["runs of the agent"]
    assert failed({}, sample(1), sample(2, "bbbbbbbb"), starts=2) == []
    assert failed({}, sample(1), sample(-3600 * 24 * 365)) == ["timestamps"]


def test_events_trips_and_modes_are_looked_for():
    trip = event(5, "trip_started", trip_id="t1")
    fault = event(6, "fault_raised", details={"code": "source:gps"})
    mode = event(5, "mode_changed", details={"from": "normal", "to": "in_trip"})
    seen = (sample(1), trip, fault, mode, sample(7, vehicle_status={"trip_id": "t1"}))
    assert failed({"events": ["trip_started", "fault_raised:source:gps"]}, *seen) == []
    assert failed({"events": ["fault_raised:source", "fault_raised:*:gps"]}, *seen) == []
    assert failed({"events": ["fault_raised:source:can"]}, *seen) == [
        "event fault_raised:source:can"
    ]
    assert failed({"no_events": ["fault_raised", "trip_ended"]}, *seen) == ["no event fault_raised"]
    assert failed({"trips": 1, "modes": ["in_trip"]}, *seen) == []
    assert failed({"trips": 0, "modes": ["saver"]}, *seen) == ["trips", "modes"]
    other = sample(9, vehicle_status={"trip_id": "t2"})
    assert failed({"trips": 1}, *seen, other) == ["trips"]


def test_a_position_is_compared_with_the_truth_at_the_time_of_its_fix():
    def at(lat, fix_at_s):
        fix_time = (BEGIN + timedelta(seconds=fix_at_s)).isoformat()
        return sample(40, location={"lat": lat, "lon": 8.0, "fix_time": fix_time})

    limit = {"position_error_max_m": 10}
    assert failed(limit, at(50.003, 30)) == [], "old, and right for its time"
    assert failed(limit, at(50.003, 40)) == ["position error"]
    assert failed(limit, sample(1)) == ["position error"], "none at all is not right either"


def test_the_quality_of_time_is_looked_at():
    assert failed({"time_quality": ["gps"]}, sample(1)) == []
    assert failed({"time_quality": ["ntp"]}, sample(1)) == ["time quality"]


@pytest.mark.parametrize(
    ("wanted", "values", "passes"),
    [
        ({"state": "present"}, [1, 2, 3], True),
        ({"state": "present"}, [1, None, 3], False),
        ({"state": "present"}, [], False),
        ({"state": "absent"}, [None, None], True),
        ({"state": "absent"}, [None, 0], False),
        ({"state": "absent"}, [], False),
        ({"state": "constant"}, [2, 2, None, 2], True),
        ({"state": "constant"}, [2], False),
        ({"state": "constant"}, [2, 3], False),
        ({"state": "changing"}, [2, 3], True),
        ({"state": "changing"}, [2, 2], False),
        ({"min": 2, "max": 3}, [2, 3], True),
        ({"min": 2}, [1, 3], False),
        ({"max": 3}, [1, 4], False),
        ({"max": 3}, [None], False),
    ],
)
def test_a_field_is_looked_at_within_its_while_only(wanted, values, passes):
    within = [
        sample(10 + number, battery={} if value is None else {"percent": value})
        for number, value in enumerate(values)
    ]
    around = [sample(1, battery={"percent": -7}), sample(30)]
    field = {"name": "battery.percent", "from_s": 5, "to_s": 20, **wanted}
    name = "battery.percent from 5 to 20 s"
    assert failed({"field": [field]}, *around, *within) == ([] if passes else [name])


def test_the_scenarios_keys_are_laid_over_the_preset_table_by_table():
    preset = {"gps": {"port": 1, "host": "a"}, "can": [{"channel": "can0"}]}
    over = {"gps": {"port": 2}, "log": {"level": "debug"}}
    assert merged(preset, over) == {
        "gps": {"port": 2, "host": "a"},
        "can": [{"channel": "can0"}],
        "log": {"level": "debug"},
    }


@pytest.mark.needs("faketime")
def test_a_wrong_clock_is_in_1970_until_it_is_set_right_and_waits_stay_as_long(tmp_path):
    program = (
        "import time, threading\n"
        "for _ in range(2):\n"
        "    print(int(time.time()), flush=True)\n"
        "    input()\n"
        "begin = time.monotonic()\n"
        "threading.Event().wait(0.5)\n"
        "print(time.monotonic() - begin)\n"
    )
    clock = WrongClock(tmp_path)
    clock.set_wrong()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clock.environment(),
    )
    assert 0 < int(process.stdout.readline()) < 86_400
    clock.set_right()
    process.stdin.write("\n")
    process.stdin.flush()
    now = datetime.now(UTC).timestamp()  # noqa: TID251  what the process must see too
    assert abs(int(process.stdout.readline()) - now) < 60
    out, _ = process.communicate("\n", timeout=30)
    assert 0.4 < float(out) < 30


def test_scenarios_are_found_by_name_or_path_and_checked_without_running(tmp_path):
    listed = CliRunner().invoke(cli, ["scenario", "list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == list(library())
    checked = CliRunner().invoke(cli, ["scenario", "check", *library()])
    assert checked.exit_code == 0, checked.output
    assert "gps-loss: good. Preset gps-only, faults: gps-loss." in checked.output
    wrong = write(tmp_path, "title = 3\n[vehicle]\npreset = 'e-byke'\n")
    done = CliRunner().invoke(cli, ["scenario", "check", "gps-los", str(wrong)])
    assert done.exit_code == 2
    assert "did you mean 'gps-loss'" in done.output
    assert "title = 3" in done.output
    assert find(str(wrong)) == wrong
    wrong.write_text("title = 'x'\n[vehicle]\npreset = 'e-byke'\n")
    done = CliRunner().invoke(cli, ["scenario", "check", str(wrong)])
    assert (done.exit_code, "did you mean 'e-bike'" in done.output) == (2, True)
    assert CliRunner().invoke(cli, ["scenario", "run"]).exit_code == 2


def test_the_reference_of_the_files_is_what_the_models_say():
    text = (ROOT / "docs" / "simulator.md").read_text()
    assert text == page(text), "run: make schema"
    for name in ("`gps-jump`", "`position_error_max_m`", "`[[bus]]`", "`source_address`"):
        assert name in text


def test_the_example_of_the_docs_is_a_scenario(tmp_path):
    text = (ROOT / "docs" / "simulator.md").read_text()
    (example,) = re.findall(r"```toml\n(# my-van.toml\n.*?)```", text, re.DOTALL)
    scenario = load_scenario(write(tmp_path, example))
    assert [fault.name.value for fault in scenario.fault] == ["gps-loss", "network-cut"]


def test_the_dbcs_of_a_scenario_lie_beside_it(tmp_path):
    scenario = load_scenario(
        write(tmp_path, 'title = "x"\n[[agent.can]]\ndbc = ["a.dbc", "/etc/b.dbc"]\n')
    )
    assert scenario.agent["can"][0]["dbc"] == [str(tmp_path / "a.dbc"), "/etc/b.dbc"]


def test_what_the_clock_library_left_of_ended_processes_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(wrong_clock, "SHARED_MEMORY", tmp_path)
    with subprocess.Popen(["true"]) as ended:
        pass
    left = [tmp_path / f"sem.faketime_sem_{ended.pid}", tmp_path / f"faketime_shm_{ended.pid}"]
    kept = [tmp_path / f"faketime_shm_{os.getpid()}", tmp_path / "sem.another"]
    for path in (*left, *kept):
        path.touch()
    wrong_clock.forget_ended()
    assert sorted(tmp_path.iterdir()) == sorted(kept)
