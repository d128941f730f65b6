import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import cantools
import pytest
from click.testing import CliRunner
from rich.console import Console

from agent.config import parse as parse_agent_config
from simulator.cli import cli
from simulator.demo.account import ask
from simulator.demo.agent_config import AgentConfig, CanBus, config_text
from simulator.demo.bus import new_bus
from simulator.demo.children import Child, run_to_end, stop_all
from simulator.demo.errors import DemoError
from simulator.demo.outages import Outage, outage_at, parse_outage
from simulator.demo.plan import BUILT_IN_ID, built_in_plan, plan_of, unique_ids, write_fleet
from simulator.demo.report import VehicleEnd, build_report, messages_missing, samples_lost
from simulator.demo.screen import Latency, Screen, StatusLine, span
from simulator.demo.signals import BUILT_IN, MappedSignal, parse_signal
from simulator.demo.summary import summary_lines
from simulator.demo.workspace import Workspace
from simulator.durations import parse_duration_s
from simulator.network.faults import parse_fault
from tests.conftest import ROOT

TRACES = ROOT / "simulator" / "traces"
DBC = ROOT / "firmware-config" / "dbc" / "milepost-demo.dbc"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("90", 90), ("2m", 120), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "abc", "60x", "-5s", "1m 30s", "s", "1:30"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration_s(text)


def test_an_outage_has_a_start_a_length_and_a_kind():
    assert parse_outage("20s:1m") == Outage(20, 60, parse_fault("cut"))
    assert parse_outage("5:10:half-open") == Outage(5, 10, parse_fault("half-open"))
    assert parse_outage("5:10:rate=1KB/s").condition_at(6).rate_bytes_per_s == 1000
    for wrong in ("20s", ":5s", "5s:", "5s:0s", "5s:5s:quietly"):
        with pytest.raises(ValueError, match=r"START:LENGTH|duration|no time|no fault"):
            parse_outage(wrong)


def test_of_overlapping_outages_the_longest_holds():
    outages = (Outage(10, 5), Outage(12, 20, parse_fault("half-open")))
    assert outage_at(outages, 9.9) is None
    assert outage_at(outages, 10) == outages[0]
    assert outage_at(outages, 13) == outages[1]
    assert outage_at(outages, 31.9) == outages[1]
    assert outage_at(outages, 32) is None


def test_vehicle_ids_are_safe_and_unique():
    names = ["van 1", "van/1", "Überland", "...", "van-1", "x" * 200]
    ids = unique_ids(names)
    assert ids[0] == "van-1"
    assert len(set(ids)) == len(ids)
    for vehicle_id in ids:
        assert vehicle_id.isascii()
        assert set(vehicle_id) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        )
        assert 1 <= len(vehicle_id) <= 70


def test_every_trace_is_a_vehicle_and_can_logs_belong_to_them_in_order(tmp_path):
    second = tmp_path / "second drive.nmea"
    second.write_bytes((TRACES / "default.nmea").read_bytes())
    plan = plan_of(
        [TRACES / "default.nmea", second],
        [without_header(tmp_path)],
        [DBC],
        {"battery.percent": MappedSignal("BatteryState.StateOfCharge")},
    )
    first, other = plan.vehicles
    assert (first.vehicle_id, other.vehicle_id) == ("default", "second-drive")
    assert first.can is not None
    assert other.can is None
    assert first.signals["battery.percent"].signal == "BatteryState.StateOfCharge"
    assert first.signals["signals.VehicleSpeed"].signal == "DriveState.VehicleSpeed"
    assert "signals.StateOfCharge" not in first.signals, "it is mapped already"
    write_fleet(tmp_path / "fleet.toml", plan.vehicles)
    fleet = tomllib.loads((tmp_path / "fleet.toml").read_text())
    assert fleet["vehicles"]["second-drive"]["name"] == "Second drive"


def without_header(tmp_path):
    """The default CAN log as another program would have written it."""
    log = tmp_path / "anonymous.candump"
    lines = (TRACES / "default.candump").read_text().splitlines()
    log.write_text("\n".join(lines[2:2000]) + "\n")
    return log


def test_a_can_log_of_the_synthesiser_needs_neither_dbc_nor_map():
    (vehicle,) = plan_of([], [TRACES / "default.candump"], [], {}).vehicles
    assert vehicle.signals == BUILT_IN
    assert vehicle.dbcs[0].read_bytes() == DBC.read_bytes()


def test_a_can_log_without_a_trace_is_a_vehicle_without_gps(tmp_path):
    (vehicle,) = plan_of([], [without_header(tmp_path)], [DBC], {}).vehicles
    assert vehicle.trace is None
    assert len(vehicle.signals) == 21


def test_a_dbc_that_describes_nothing_of_the_log_is_a_clear_error(tmp_path):
    log = tmp_path / "other.candump"
    log.write_text("(1.0) can0 7FF#00\n")
    with pytest.raises(DemoError, match="no frame of") as caught:
        plan_of([], [log], [DBC], {})
    assert "--dbc" in caught.value.hint


def test_a_broken_dbc_is_a_clear_error(tmp_path):
    broken = tmp_path / "broken.dbc"
    broken.write_text("BO_ 1 nonsense")
    with pytest.raises(DemoError, match=r"broken\.dbc cannot be read"):
        plan_of([], [without_header(tmp_path)], [broken], {})


def test_a_trace_without_any_fix_is_refused(tmp_path):
    lines = (TRACES / "default.nmea").read_text().splitlines()[:12]
    dark = tmp_path / "dark.nmea"
    dark.write_text("\n".join(lines) + "\n")
    with pytest.raises(DemoError, match="no fix"):
        plan_of([dark], [], [], {})


def test_signals_are_named_with_an_optional_scale():
    assert parse_signal("location.lat=gnss_pos.Latitude") == (
        "location.lat",
        MappedSignal("gnss_pos.Latitude"),
    )
    assert parse_signal("motion.speed_kmh=Speed*3.6")[1].scale == 3.6
    assert parse_signal("a=B.C*-.5e1?D.E") == ("a", MappedSignal("B.C", -5.0, "D.E"))
    for wrong in ("x", "=y", "x=", "x=a b", "x=a*", "x=a*1.2.3", "x=a?"):
        with pytest.raises(ValueError, match="FIELD=SIGNAL"):
            parse_signal(wrong)


def test_the_agents_config_is_what_the_agent_takes(tmp_path):
    config = AgentConfig(
        vehicle_id="van-1",
        state_dir=tmp_path / 'a "quoted" folder',
        runtime_dir=tmp_path / "run",
        gpsd_port=2947,
        broker_port=8883,
        speed=10,
        can=CanBus(
            interface="udp_multicast",
            channel="239.74.1.2",
            options={"port": 5, "hop_limit": 0},
            fd=False,
            dbcs=(DBC,),
            signals=BUILT_IN,
        ),
    )
    table = tomllib.loads(config_text(config))
    settings = parse_agent_config(table, tmp_path / "agent.toml")
    assert settings.position.max_speed_kmh == 4000
    assert settings.sampling.thresholds.trip_leave_dwell_s == 12
    assert settings.sampling.in_trip.interval_s == 0.2
    assert settings.state.dir.name == 'a "quoted" folder'
    assert settings.broker.key_file == tmp_path / "key.pem"
    assert settings.can[0].options == {"port": 5, "hop_limit": 0}
    assert set(settings.can[0].signals) == set(BUILT_IN)
    without = AgentConfig(
        vehicle_id="v",
        state_dir=tmp_path,
        runtime_dir=tmp_path,
        gpsd_port=None,
        broker_port=1,
        speed=1,
        can=CanBus(
            interface="virtual",
            channel="0",
            options={},
            fd=True,
            dbcs=(DBC,),
            signals={"motion.speed_kmh": MappedSignal("S", 3.6, "V")},
        ),
    )
    settings = parse_agent_config(tomllib.loads(config_text(without)), tmp_path / "agent.toml")
    assert settings.gps.source == "none"
    assert settings.can[0].fd
    (speed,) = settings.can[0].signals["motion.speed_kmh"]
    assert (speed.signal, speed.scale, speed.valid_if) == ("S", 3.6, "V")


def test_the_built_in_map_names_signals_that_the_dbc_has():
    database = cantools.database.load_file(DBC)
    for entry in BUILT_IN.values():
        message, signal = entry.signal.split(".")
        database.get_message_by_name(message).get_signal_by_name(signal)
    (vehicle,) = built_in_plan().vehicles
    assert vehicle.vehicle_id == BUILT_IN_ID


def test_each_bus_is_its_own():
    first, second = new_bus(), new_bus()
    assert first != second
    assert first.options["hop_limit"] == 0
    assert first.channel.startswith("239.")


def test_a_second_run_begins_with_an_empty_folder(tmp_path):
    folder = tmp_path / "data"
    space = Workspace(folder)
    space.open()
    (space.cloud).mkdir()
    (space.cloud / "milepost.db").write_text("old")
    space.report.write_text("{}")
    runtime = space.runtime
    assert runtime.is_dir()
    space.close()
    assert not runtime.exists()
    again = Workspace(folder)
    again.open()
    assert not again.cloud.exists()
    assert not again.report.exists()
    again.close()
    again.close()


def test_a_folder_with_anything_else_in_it_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "cloud").mkdir()
    with pytest.raises(DemoError, match=r"thesis\.txt") as caught:
        Workspace(tmp_path).open()
    assert "--data" in caught.value.hint
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    other = tmp_path / "cloud-of-serve"
    (other / "cloud").mkdir(parents=True)
    with pytest.raises(DemoError, match="not a demo's folder"):
        Workspace(other).open()


def test_two_demos_do_not_share_a_folder(tmp_path):
    first = Workspace(tmp_path / "data")
    first.open()
    with pytest.raises(DemoError, match="another demo is running"):
        Workspace(tmp_path / "data").open()
    first.close()


def wait_until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_ends_by_itself_is_told_with_the_end_of_its_log(tmp_path):
    child = Child(
        "the thing",
        [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"],
        tmp_path / "thing.log",
    )
    child.require_alive()
    child.start()
    assert child.wait(20)
    with pytest.raises(DemoError, match=r"the thing ended with code 3(.|\n)*the reason") as caught:
        child.require_alive()
    assert "thing.log" in caught.value.hint
    child.stop()
    child.stop()


def test_a_child_that_does_not_listen_is_killed_with_its_children(tmp_path):
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = Child("deaf", [sys.executable, "-c", code], tmp_path / "deaf.log")
    child.start()
    wait_until(lambda: child.log_path.read_text().strip())
    inner = int(child.log_path.read_text())
    stop_all([child], 0.2)
    assert child.exit_code == -signal.SIGKILL
    wait_until(lambda: not runs(inner))


def test_children_do_not_outlive_a_killed_demo(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from simulator.demo.children import Child\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"child = Child('c', command, Path({str(tmp_path)!r}) / 'c.log')\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    demo = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid = int(demo.stdout.readline())
    # the launcher has become the command once the command line says so
    wait_until(lambda: b"_LAUNCHER" not in cmdline(pid) and b"prctl" not in cmdline(pid))
    assert runs(pid)
    demo.kill()
    demo.wait(10)
    demo.stdout.close()
    wait_until(lambda: not runs(pid))


def cmdline(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_failed_command_is_told_with_what_it_said(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.stderr.write('no such thing'); sys.exit(2)"]
    with pytest.raises(DemoError, match="no such thing"):
        run_to_end("asking", command, tmp_path / "log")
    assert run_to_end("asking", [sys.executable, "-c", "print(5)"], tmp_path / "log") == "5\n"
    with pytest.raises(DemoError, match="took longer"):
        run_to_end(
            "asking",
            [sys.executable, "-c", "import time; time.sleep(9)"],
            tmp_path / "log",
            timeout_s=0.3,
        )


def test_an_agent_that_does_not_answer_has_no_account(tmp_path):
    assert ask(tmp_path) is None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "agent.sock"))
    assert ask(tmp_path) is None
    listener.close()


def account(**changed):
    return {
        "run_id": "0123456789ab",
        "samples_created": 100,
        "samples_acknowledged": 100,
        "events_created": 2,
        "events_acknowledged": 2,
        "last_sequence": 102,
        "backlog_messages": 0,
        "bytes_published": 50_000,
        "flash_bytes_written": None,
        "seconds_in_mode": {"normal": 10.0},
        "events": [],
    } | changed


def cloud_report(**changed):
    vehicle = {
        "vehicle_id": "van",
        "samples_stored": 100,
        "events_stored": 2,
        "samples_duplicated": 0,
        "runs": {"0123456789ab": {"min_sequence": 1, "max_sequence": 102, "stored": 102}},
        "bytes_received": 50_000,
    } | changed
    return {
        "vehicles": [vehicle],
        "latency_ms": {"p50": 5.0, "p95": 8.0, "p99": 9.0, "count": 100},
        "alerts": [{"resolved_at": None}],
        "archive_rows": 102,
        "dead_letters": 0,
    }


@pytest.mark.parametrize(
    ("created", "acknowledged", "stored", "waiting", "lost"),
    [
        (100, 100, 100, 0, 0),
        (100, 100, 97, 0, 3),
        (100, 90, 90, 10, 0),
        (100, 90, 95, 10, 0),
        (100, 90, 88, 10, 2),
        (100, 90, 90, 0, 10),
        (0, 0, 0, 0, 0),
    ],
)
def test_lost_is_what_is_neither_stored_nor_waiting(created, acknowledged, stored, waiting, lost):
    assert samples_lost(created, acknowledged, stored, waiting) == lost


def test_the_report_counts_each_figure_at_its_own_end():
    end = VehicleEnd("van", 90, 1000, account())
    report = build_report([end], cloud_report(samples_stored=99, samples_duplicated=4))
    (vehicle,) = report["vehicles"]
    assert vehicle["samples_created"] == 100
    assert vehicle["samples_stored"] == 99
    assert vehicle["samples_lost"] == 1
    assert vehicle["samples_duplicated"] == 4
    assert vehicle["fixes_replayed"] == 90
    assert report["latency_ms"] == {"p50": 5.0, "p95": 8.0, "p99": 9.0}
    assert report["archive_rows"] == 102
    json.dumps(report)


def test_a_vehicle_that_the_cloud_never_saw_lost_what_it_created():
    end = VehicleEnd("ghost", 90, 0, account())
    (vehicle,) = build_report([end], cloud_report())["vehicles"]
    assert vehicle["samples_stored"] == 0
    assert vehicle["samples_lost"] == 100


def test_the_cloud_is_waited_for_until_what_was_acknowledged_is_stored():
    end = VehicleEnd("van", 90, 0, account())
    assert messages_missing([end], cloud_report()) == 0
    behind = {"0123456789ab": {"min_sequence": 1, "max_sequence": 102, "stored": 95}}
    assert messages_missing([end], cloud_report(runs=behind)) == 7
    assert messages_missing([end], cloud_report(runs={})) == 102


def test_the_summary_shouts_when_a_sample_is_lost_and_fits_80_columns(tmp_path):
    end = VehicleEnd("van", 90, 1000, account())
    good = summary_lines(build_report([end], cloud_report()), Path("r.json"), Path("d"))
    assert good[-1] == "no sample was lost"
    assert max(map(len, good)) <= 80
    bad = build_report([end], cloud_report(samples_stored=98))
    assert summary_lines(bad, Path("r.json"), Path("d"))[-1] == "2 SAMPLES WERE LOST"
    waiting = account(samples_acknowledged=90, backlog_messages=10)
    late = build_report([VehicleEnd("van", 90, 0, waiting)], cloud_report(samples_stored=90))
    assert "10 samples wait" in summary_lines(late, Path("r.json"), Path("d"))[-2]


def test_the_summary_names_a_command_that_can_be_typed(tmp_path, monkeypatch):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/milepost-cloud").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [".venv/bin/milepost-sim"])
    end = VehicleEnd("van", 90, 1000, account())
    lines = summary_lines(build_report([end], cloud_report()), Path("r.json"), Path("d"))
    assert any(line.startswith("history   .venv/bin/milepost-cloud history ") for line in lines)


def test_the_living_line_says_mode_rate_backlog_acknowledged_and_latency():
    line = StatusLine()
    said = {"mode": "in_trip", "samples_acknowledged": 1234, "backlog_messages": 2}
    text = line.text([said | {"samples_created": 1240}], Latency(18.4), where="0:42 5 %")
    assert text == "in_trip · 0.0/s · backlog 2 · acknowledged 1,234 · latency 18 ms · 0:42 5 %"
    assert len(text) <= 80
    both = line.text([said, said | {"mode": "normal"}], None)
    assert both.startswith("1 in_trip, 1 normal · ")
    assert "latency …" in both
    assert "waiting" in line.text([], None)
    assert (span(95), span(3700)) == ("1:35", "1:01:40")


def test_off_a_terminal_the_line_is_printed_now_and_then():
    out = io.StringIO()
    with Screen(Console(file=out, force_terminal=False, width=200)) as screen:
        screen.say("begin")
        for number in range(50):
            screen.status(f"status {number}")
        screen.say("end")
    assert out.getvalue().splitlines() == ["begin", "status 0", "end"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trace", "nowhere.nmea"], "nowhere.nmea"),
        (["--can", "default.nmea"], "--dbc"),
        (["--dbc", "milepost-demo.dbc"], "--can"),
        (["--speed", "0"], "--speed"),
        (["--for", "soon"], "no duration"),
        (["--outage", "5s"], "START:LENGTH"),
        (["--outage", "30s:5s", "--for", "20s"], "ends after 20 s"),
        (["--port", "70000"], "--port"),
        (["--report", "no/such/folder/report.json"], "there is no folder"),
        (["--can", "default.candump", "--signal", "x"], "FIELD=SIG"),
    ],
)
def test_wrong_words_on_the_command_line_are_explained(monkeypatch, words, said):
    monkeypatch.chdir(TRACES)
    done = CliRunner().invoke(cli, ["demo", *words, "--no-browser", "--data", os.devnull + "x"])
    assert done.exit_code == 2
    assert said in done.output


def test_a_taken_port_is_told_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(
            cli, ["demo", "--no-browser", "--port", str(port), "--data", str(tmp_path / "d")]
        )
    assert done.exit_code == 1
    assert f"port {port}" in done.output
    assert "--port" in done.output
    assert not (tmp_path / "d").exists()
