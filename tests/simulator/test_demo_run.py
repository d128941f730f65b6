"""The demo as a command: how it ends, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("demo-command")]

ALWAYS = ["--no-browser", "--no-tiles", "--port", "0", "--data"]


@pytest.fixture
def start_demo(tmp_path):
    """Start a demo in ``tmp_path/data``; it is killed after the test if it still runs."""
    started = []

    def start(*words):
        log = (tmp_path / f"demo-{len(started)}.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator", "demo", *ALWAYS, str(tmp_path / "data"), *words],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        process.log_path = Path(log.name)
        started.append((process, log))
        return process

    yield start
    for process, log in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        log.close()


def wait_for_text(process, text, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while text not in process.log_path.read_text():
        assert process.poll() is None, process.log_path.read_text()
        assert time.monotonic() < deadline, process.log_path.read_text()
        time.sleep(0.1)


def processes_of(folder):
    """Pids of agents and clouds that work in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in b" ".join(words) and (b"agent" in words or b"cloud" in words):
            found.append(int(entry.name))
    return found


def test_ctrl_c_ends_the_looping_demo_in_order_and_the_next_one_starts_anew(start_demo, tmp_path):
    run_ids = set()
    for _ in range(2):
        demo = start_demo()
        wait_for_text(demo, "acknowledged")
        time.sleep(2)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, demo.log_path.read_text()
        assert processes_of(tmp_path / "data") == []
        said = demo.log_path.read_text()
        assert "http://127.0.0.1:" in said
        assert "no sample was lost" in said
        report = json.loads((tmp_path / "data" / "report.json").read_text())
        (vehicle,) = report["vehicles"]
        assert vehicle["samples_created"] > 0
        assert vehicle["samples_stored"] == vehicle["samples_created"]
        assert vehicle["frames_sent"] > 0
        assert vehicle["samples_duplicated"] == 0
        assert report["network"]["connections"] == 1
        assert report["network"]["bytes_to_broker"] > vehicle["bytes_published"]
        run_ids.add(vehicle["run_id"])
    assert len(run_ids) == 2


def test_it_ends_at_once_by_a_second_ctrl_c_and_leaves_no_process(start_demo, tmp_path):
    demo = start_demo("--outage", "0s:10m:half-open")
    wait_for_text(demo, "the network to the broker is bad")
    assert len(processes_of(tmp_path / "data")) >= 2
    for _ in range(2):
        demo.send_signal(signal.SIGINT)
        time.sleep(0.05)
    demo.wait(60)
    assert processes_of(tmp_path / "data") == []


def test_an_agent_that_dies_is_told_with_its_log_and_ends_the_demo(start_demo, tmp_path):
    demo = start_demo()
    wait_for_text(demo, "driving")
    for pid in processes_of(tmp_path / "data"):
        if b"agent" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGKILL)
    assert demo.wait(60) == 1
    said = demo.log_path.read_text()
    assert "the agent of demo-van was killed by signal 9" in said
    assert str(tmp_path / "data" / "logs" / "agent-demo-van.log") in said
    assert processes_of(tmp_path / "data") == []
