"""What every test may use: real peers by name, the recorded traces, free ports."""

import os
import random
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
TRACES = Path(os.environ.get("MILEPOST_TRACES", ROOT.parent / "shared" / "traces"))
REQUIRE_ALL = os.environ.get("MILEPOST_REQUIRE_ALL") == "1"
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

# Shared machines stall; a property is about values, never about time. Where every peer is required
# a run is a verdict on a change: the same examples each time. Elsewhere it searches for new ones.
settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=REQUIRE_ALL,
)
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


def pytest_collection_finish(session):
    """Fail where the groups of tests would be torn apart without a word: three demos at once."""
    if not getattr(session.config.option, "loadgroup", False):
        return
    for item in session.items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError("this pytest-xdist ignores xdist_group with this pytest")


def _own_ports():
    """Ports that the kernel gives to nobody by itself, and that no other worker chooses.

    A port from the kernel's own range may be taken, between asking and listening, by any
    connection that goes out; one that dials it while nobody listens may even reach itself.
    The port after each is left alone too: a server may take it without being told.
    """
    try:
        given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        end = int(given.split()[0])
    except OSError:
        end = 0
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(10_000 + 2 * (worker % 8), end if end > 12_000 else 32_768, 16))
    random.SystemRandom().shuffle(ports)
    return ports


PORTS = _own_ports()


def _is_free(port):
    """Whether TCP and UDP have it."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


def take_port():
    """A port, free for TCP and UDP, never the same one twice."""
    while not _is_free(port := PORTS.pop()):
        pass
    return port


@pytest.fixture
def free_port():
    """``take_port``, for a server that has to be told its port, or that comes back on the same."""
    return take_port


@pytest.fixture
def traces():
    """The folder of recorded traces."""
    return TRACES
