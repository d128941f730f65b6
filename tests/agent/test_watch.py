"""The live picture: what it says, that it fits, and how it behaves in a real terminal."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from agent.watch import words
from agent.watch.picture import picture
from agent.watch.rates import Look, rates_between
from tests.conftest import ROOT, program
from tests.fakes.pki import Pki

SAMPLE = {
    "sequence": 412,
    "timestamp": "2026-06-01T12:00:01.500Z",
    "time_quality": "gps",
    "location": {
        "lat": 50.110571,
        "lon": 8.682127,
        "accuracy": 3.14,
        "fix_mode": "3d",
        "satellites": 11,
        "fix_time": "2026-06-01T12:00:01.300Z",
    },
    "motion": {"speed_kmh": 43.25, "acceleration": {"x": 0.5, "y": -0.1, "z": 9.81}},
    "battery": {"percent": 68, "charging": False},
    "diagnostics": {"error_codes": ["P0301", "P0420"]},
    "signals": {"engine_rpm": 2150, "gear": "drive"},
}

ACCOUNT = {
    "vehicle_id": "van-1",
    "run_id": "f3a1c2d40000",
    "software_version": "0.1.0",
    "uptime_s": 4000.0,
    "connected": True,
    "mode": "in_trip",
    "sample_interval_s": 0.2,
    "wanted_mode": "in_trip",
    "limited_by": None,
    "samples_created": 400,
    "events_created": 12,
    "inherited_messages": 3,
    "samples_acknowledged": 390,
    "events_acknowledged": 12,
    "inherited_acknowledged": 3,
    "backlog_messages": 10,
    "dropped_messages": {},
    "time_quality": "gps",
    "fixes_received": 81,
    "fixes_rejected": {"jump": 2},
    "bytes_published": 200_000,
    "can": [
        {"channel": "can0", "state": "error-active", "frames": 900, "decoded": 900, "dropped": 0}
    ],
    "obd": [],
    "faults": [],
    "budgets": {
        "day": None,
        "data": {"used_bytes": 40_000_000, "cap_bytes": 50_000_000, "stage": "near"},
        "flash": {"used_bytes": 1_200_000, "cap_bytes": 1_000_000_000, "stage": "within"},
    },
    "last_sample": SAMPLE,
    "events": [
        {"event_type": name, "timestamp": f"2026-06-01T11:0{n}:00.000Z", "details": details}
        for n, (name, details) in enumerate(
            [("trip_started", None), ("mode_changed", {"from": "normal", "to": "in_trip"})]
        )
    ],
}


def drawn(account, rates=None, *, width=80, height=24, silent=""):
    console = Console(file=io.StringIO(), width=width, height=height or 200, force_terminal=False)
    console.print(picture(account, rates, width=width, height=height, silent=silent), end="")
    return console.file.getvalue()


def test_all_that_matters_is_on_80_by_24():
    text = drawn(ACCOUNT)
    for fact in (
        *("van-1", "up 1 h 6 min", "2026-06-01 12:00:01 gps", "in_trip, a sample every 0.2 s"),
        *("50.11057 8.68213", "3D, 11 sats, ±3.1 m, 0.2 s old", "81 in all, 2 rejected"),
        *("connected", "10 waiting", "412, acknowledged 405", "data 40.0 MB 80 %", "flash 1.2 MB"),
        *("11:01:00 mode_changed: in_trip", "11:00:00 trip_started"),
        *("900 frames, 0 dropped", "43.25", "68 %", "P0301, P0420", "0.5 -0.1 9.81", "2150"),
    ):
        assert fact in text, fact
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (61, 24), (200, 60)])
def test_the_picture_fills_the_window_and_goes_no_further(size):
    width, height = size
    crowded = ACCOUNT | {
        "last_sample": SAMPLE | {"signals": {f"signal_{n}": n for n in range(64)}},
        "can": [ACCOUNT["can"][0] | {"channel": f"can{n}"} for n in range(6)],
        "faults": [{"code": f"P{n:04}", "reason": "r" * 200, "lasts_s": 5.0} for n in range(40)],
    }
    lines = drawn(crowded, width=width, height=height).splitlines()
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}
    assert any("more" in line for line in lines)


def test_what_is_asked_and_heard_on_a_bus_is_told():
    asked = {"channel": "can0", "state": "ask", "reason": "engine_runs", "ecus": ["7E8", "7E9"]}
    asleep = asked | {"channel": "can1", "state": "listen", "reason": "bus_silent", "ecus": []}
    account = ACCOUNT | {
        "can": [],
        "obd": [one | {"requests": 57, "answered": 56} for one in (asked, asleep)],
        "j1939": [{"channel": "can2", "frames": 430, "telling_faults": [0, 11]}],
    }
    text = drawn(account, width=160, height=0)
    assert "ask, 7E8, 7E9, 56 of 57 answered" in text
    assert "listen (bus_silent), no ECU yet" in text
    assert "430 frames, faults of 2 ECUs" in text


def test_what_is_wrong_is_said():
    account = ACCOUNT | {
        "connected": False,
        "dropped_messages": {"thinned": 5},
        "backlog_messages": 4,
        "limited_by": "data",
        "wanted_mode": "in_trip",
        "mode": "saver",
        "can": [ACCOUNT["can"][0] | {"state": "bus-off", "kernel_dropped": 7, "dropped": 3}],
        "faults": [{"code": "source:gps", "reason": "the receiver is silent", "lasts_s": 61.0}],
        "last_sample": None,
    }
    text = drawn(account, silent="no answer for 9 s: no agent runs")
    for fact in (
        *("not connected", "5 thinned", "1 messages: see the log", "data budget; else in_trip"),
        *("bus-off, 7 dropped, 3 bad", "gps: the receiver is silent", "unknown"),
        "no answer for 9 s",
    ):
        assert fact in text, fact


def test_a_window_too_narrow_for_two_columns_shows_faults_before_signals():
    text = drawn(ACCOUNT, width=50, height=24)
    assert text.index("Faults") < text.index("Last sample")


def test_rates_are_worked_out_between_two_looks_at_one_run():
    later = ACCOUNT | {
        "samples_created": 410,
        "bytes_published": 204_000,
        "can": [ACCOUNT["can"][0] | {"frames": 1100, "kernel_dropped": 4}],
    }
    rates = rates_between(Look(ACCOUNT, 10.0), Look(later, 12.0))
    assert (rates.samples_per_s, rates.bytes_per_s) == (5.0, 2000.0)
    assert rates.as_json()["buses"] == {"can0": {"frames_per_s": 100.0, "dropped_per_s": 2.0}}
    assert "100 frames/s" in drawn(later, rates)
    assert rates_between(None, Look(later, 12.0)) is None
    assert rates_between(Look(ACCOUNT | {"run_id": "0" * 12}, 10.0), Look(later, 12.0)) is None


def test_values_are_short_and_have_their_units():
    assert [words.duration(one) for one in (0.4, 119, 720, 12_000, 300_000)] == [
        *("0 s", "119 s", "12 min", "3 h 20 min", "3 d 11 h"),
    ]
    assert [words.size(one) for one in (12, 4_200, 1_300_000)] == ["12 B", "4.2 kB", "1.3 MB"]
    assert words.value("battery.charging", of=True) == "yes"
    assert words.fix_age_s({}) is None


def watch(config, *arguments):
    return [sys.executable, "-m", "agent", "watch", "--config", str(config), *arguments]


@pytest.fixture
def config(tmp_path):
    identity = Pki(tmp_path / "pki").vehicle("van-1")
    file = tmp_path / "agent.toml"
    file.write_text(
        f"""
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[delivery]
shutdown_drain_s = 0
[broker]
host = "127.0.0.1"
port = 1
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
"""
    )
    return file


@contextlib.contextmanager
def running(config):
    """A real agent, without a broker."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((config.parent / "run" / "agent.sock").exists)
        yield process
    finally:
        process.kill()
        process.wait(10)


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)
    return found


def run(command):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_without_an_agent_it_says_how_to_start_one(config):
    done = run(watch(config, "--once"))
    assert done.returncode == 1
    assert "no agent runs" in done.stderr
    assert "milepost-agent run" in done.stderr


def test_without_a_config_it_says_so(tmp_path):
    done = run(watch(tmp_path / "nowhere.toml", "--once"))
    assert done.returncode == 2
    assert "there is no file" in done.stderr


def test_once_and_json_are_for_scripts(config):
    with running(config):
        once = run(watch(config, "--once", "--interval", "0.3"))
        told = run(watch(config, "--once", "--json", "--interval", "1.5"))
        piped = subprocess.run(
            ["bash", "-c", f"{' '.join(watch(config, '--json', '--interval', '0.1'))} | head -n 2"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "van-1" in once.stdout
    assert "not connected" in once.stdout
    line = json.loads(told.stdout)
    assert line["vehicle_id"] == "van-1"
    assert line["rates"]["samples_per_s"] > 0
    assert line["last_sample"]["sequence"] >= 1
    assert len(piped.stdout.splitlines()) == 2
    assert piped.stderr == ""


class Terminal:
    """A real terminal: tmux, with a server of its own."""

    def __init__(self, folder, command, width=80, height=24):
        self._tmux = [program("tmux"), "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._call(
            *("new-session", "-d", "-s", "w", "-x", str(width), "-y", str(height), "-c", str(ROOT)),
            f"PYTHONPATH={ROOT} {' '.join(command)}; echo ended; exec cat",
        )

    def _call(self, *arguments):
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    def shown(self):
        return self._call("capture-pane", "-p", "-t", "w")

    def wait_for(self, *texts):
        try:
            return wait_for(lambda: all(text in (s := self.shown()) for text in texts) and s)
        except AssertionError:
            pytest.fail(f"{texts} never stood in\n{self.shown()}")

    def resize(self, width, height):
        self._call("resize-window", "-t", "w", "-x", str(width), "-y", str(height))

    def press(self, key):
        self._call("send-keys", "-t", "w", key)

    def close(self):
        self._call("kill-server")


@pytest.mark.needs("tmux")
def test_in_a_terminal_it_follows_the_agent_and_the_window_and_ends_with_q(config, tmp_path):
    with running(config) as agent:
        terminal = Terminal(tmp_path, watch(config, "--interval", "0.3"))
        try:
            first = terminal.wait_for("van-1", "Delivery", "Faults", "not connected")
            assert first.splitlines()[-1].startswith("╰")
            terminal.resize(100, 30)
            terminal.wait_for("╮╭─ Last sample " + "─" * 29)
            created = terminal.shown().partition("created")[2].split()[0]
            terminal.wait_for("van-1")
            wait_for(lambda: terminal.shown().partition("created")[2].split()[0] != created)
            agent.send_signal(signal.SIGTERM)
            agent.wait(30)
            terminal.wait_for("no answer for", "no agent runs")
            terminal.press("q")
            terminal.wait_for("ended")
        finally:
            terminal.close()


def test_ctrl_c_ends_the_lines_without_a_word(config):
    with running(config):
        process = subprocess.Popen(
            watch(config, "--json", "--interval", "0.1"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout.readline().startswith("{")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors == ""


def test_the_running_agent_loads_nothing_of_what_looks_at_it():
    program = (
        "import sys; import agent.compose, agent.supervisor, agent.sd_notify; "
        "print(sorted({'rich', 'gpsd', 'agent.watch', 'agent.doctor'} & sys.modules.keys()))"
    )
    done = run([sys.executable, "-c", program])
    assert done.stdout == "[]\n", done.stderr
