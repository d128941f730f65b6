"""Every scenario of the library, and some that must fail: one run of the real command.

They run side by side against one cloud, a vehicle each, so that the whole takes as long as
the longest of them. MILEPOST_FULL=1 drives three more seeds.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulator.scenario.library import library
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("scenarios"),
    pytest.mark.needs("faketime"),
]

TRACES = ROOT / "simulator" / "traces"
VEHICLES = ROOT / "simulator" / "vehicles"
SEEDS = [None, 2, 3, 4] if os.environ.get("MILEPOST_FULL") == "1" else [None]

TOO_MUCH = """
title = "It expects what does not come"
duration_s = 14
[vehicle]
preset = "gps-only"
[[fault]]
name = "gps-loss"
at_s = 6
for_s = 6
[expect]
trips = 3
[[expect.field]]
name = "location"
from_s = 4
to_s = 13
state = "absent"
"""

BROKEN = """
title = "Its agent does not take the config"
[vehicle]
preset = "gps-only"
[agent.gps]
sorce = "gpsd"
"""


RECORDED = """
title = "Logs of a vehicle of one's own, with a map of one's own"
duration_s = 24
[vehicle]
preset = "gps-only"
profile = "light-van.toml"
nmea = "default.nmea"
can = "default.candump"
[[agent.can]]
dbc = ["milepost-demo.dbc"]
signals = { "battery.percent" = "BatteryState.StateOfCharge" }
[[fault]]
name = "bus-off"
at_s = 10
for_s = 12
[expect]
position_error_max_m = 40
[[expect.field]]
name = "battery.percent"
from_s = 2
to_s = 10
state = "present"
min = 23
max = 24
[[expect.field]]
name = "battery.percent"
from_s = 20.5
to_s = 22
state = "absent"
"""


@pytest.fixture(scope="module", params=SEEDS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenarios")
    (folder / "too-much.toml").write_text(TOO_MUCH)
    (folder / "broken.toml").write_text(BROKEN)
    (folder / "recorded.toml").write_text(RECORDED)
    for path in (
        *(TRACES / name for name in ("default.nmea", "default.candump", "milepost-demo.dbc")),
        VEHICLES / "light-van.toml",
    ):
        shutil.copy(path, folder)
    own = [folder / f"{name}.toml" for name in ("recorded", "too-much", "broken")]
    words = ["scenario", "run", *library(), *own]
    words += ["--data", folder / "data", "--report", folder / "report.json"]
    words += [] if request.param is None else ["--seed", request.param]
    done = subprocess.run(
        [sys.executable, "-m", "simulator", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    report = json.loads((folder / "report.json").read_text())
    by_name = {one["name"]: one for one in report["scenarios"]}
    return {"done": done, "report": report, "by_name": by_name}


@pytest.mark.parametrize("name", library())
def test_a_scenario_of_the_library_passes(run, name):
    one = run["by_name"][name]
    wrong = [check for check in one["checks"] if not check["passed"]]
    assert one["passed"], (one["failure"], wrong)
    assert one["samples"] > 10
    assert f"PASS  {name}: " in run["done"].stdout


def test_recorded_logs_and_a_map_of_ones_own_are_a_scenario_too(run):
    one = run["by_name"]["recorded"]
    assert one["passed"], (one["failure"], one["checks"])


def test_what_was_expected_and_did_not_come_is_told_and_the_exit_code_is_1(run):
    one = run["by_name"]["too-much"]
    assert not one["passed"]
    wrong = {check["name"]: check["found"] for check in one["checks"] if not check["passed"]}
    assert set(wrong) == {"trips", "location from 4 to 13 s"}
    assert "present in" in wrong["location from 4 to 13 s"]
    assert not run["report"]["passed"]
    assert run["done"].returncode == 1
    said = run["done"].stdout
    assert "FAIL  trips: wanted 3; found" in said
    assert f"2 of {len(library()) + 3} scenarios FAILED: too-much, broken" in said


def test_an_agent_that_cannot_run_fails_its_own_scenario_with_the_end_of_its_log(run):
    one = run["by_name"]["broken"]
    assert not one["passed"]
    assert "the agent of broken ended with code 2" in one["failure"]
    assert 'did you mean "source"' in one["failure"]


def processes_of(folder):
    """Command lines that name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(words)
    return found


def test_ctrl_c_ends_it_without_a_report_and_leaves_no_process(tmp_path):
    data = tmp_path / "data"
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator", "scenario", "run", "brown-out", "--data", data],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    deadline = time.monotonic() + 90
    while not (data / "logs" / "agent-brown-out.log").exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1, log.read_text()
    assert "stopped before the end" in log.read_text()
    assert not (data / "report.json").exists()
    assert processes_of(data) == []
