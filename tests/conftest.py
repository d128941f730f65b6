"""What every test may use: real peers by name, the recorded traces, free ports."""

import os
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
TRACES = Path(os.environ.get("MILEPOST_TRACES", ROOT.parent / "shared" / "traces"))
REQUIRE_ALL = os.environ.get("MILEPOST_REQUIRE_ALL") == "1"
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

# Shared machines stall; a property is about values, never about time.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def program(name):
    """Where a program is, /usr/sbin included; None when it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def pytest_runtest_setup(item):
    for mark in item.iter_markers("needs"):
        missing = [name for name in mark.args if program(name) is None]
        if missing:
            reason = f"not installed: {', '.join(missing)} (make apt-packages)"
            if REQUIRE_ALL:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    if item.get_closest_marker("needs_traces") and not TRACES.is_dir():
        pytest.skip(f"no recorded traces at {TRACES}; set MILEPOST_TRACES")


@pytest.fixture
def free_port():
    """A function that gives a TCP port on loopback that was free a moment ago."""

    def choose():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return choose


@pytest.fixture
def traces():
    """The folder of recorded traces."""
    return TRACES
