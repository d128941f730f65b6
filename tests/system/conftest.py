"""The demo as its user runs it: one command, real processes, a report."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def run_command():
    """Run one of Milepost's commands to its end; returns the finished process."""

    def run(*words, check=True, timeout_s=120):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture
def start_command(tmp_path):
    """Start one of Milepost's commands; ended in order, or killed, after the test."""
    started = []

    def start(*words, log="command.log"):
        with (tmp_path / log).open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, words)],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        process.log = tmp_path / log
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@pytest.fixture
def wait_for():
    """Wait until a function gives something true; returns it."""

    def wait(condition, what, timeout_s=60.0, process=None):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            if process is not None and process.poll() is not None:
                pytest.fail(f"ended before {what}:\n{process.log.read_text()[-3000:]}")
            time.sleep(0.1)
        tail = process.log.read_text()[-3000:] if process is not None else ""
        pytest.fail(f"no {what} within {timeout_s} s\n{tail}")

    return wait


def read_json(path):
    """The JSON in a file, or None while it is not there."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
