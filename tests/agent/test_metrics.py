"""The account as Prometheus reads it."""

import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.config import MetricsSettings
from agent.errors import StateError
from agent.metrics import MetricsServer
from tests.conftest import ROOT
from tests.fakes.pki import Pki

ACCOUNT = {
    "vehicle_id": "van-1",
    "run_id": "aaaaaaaa",
    "software_version": "1.2.3",
    "mode": "in_trip",
    "time_quality": "gps",
    "connected": True,
    "samples_created": 100,
    "samples_acknowledged": 90,
    "backlog_messages": 7,
    "dropped_messages": {"thinned": 2, "expired": 1},
    "seconds_in_mode": {"in_trip": 12.5},
    "sample_interval_s": None,
    "faults": [{"code": "P0420"}],
    "identity": {
        "valid_until": "2027-01-01T00:00:00.000Z",
        "rotation_due_at": None,
        "last_rotation": {"succeeded": False},
    },
    "can": [
        {"channel": "can0", "state": "active", "frames": 5, "dropped": 1, "kernel_dropped": 0,
         "controller_overflows": 0, "error_frames": 3}
    ],
}  # fmt: skip
CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[metrics]
port = {port}
[broker]
host = "127.0.0.1"
port = 1
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
"""


def read(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_account_is_served_with_its_units_and_labels(free_port):
    port = free_port()
    server = MetricsServer(MetricsSettings(port=port), lambda: ACCOUNT)
    server.start()
    try:
        found = read(port)
    finally:
        server.stop()
    assert found[("milepost_connected",)] == 1
    assert found[("milepost_samples_created_total",)] == 100
    assert found[("milepost_messages_dropped_total", ("reason", "thinned"))] == 2
    assert found[("milepost_mode_seconds_total", ("mode", "in_trip"))] == 12.5
    assert found[("milepost_can_up", ("channel", "can0"), ("state", "active"))] == 1
    assert found[("milepost_can_error_frames_total", ("channel", "can0"))] == 3
    assert found[("milepost_faults",)] == 1
    assert found[("milepost_certificate_expires_timestamp_seconds",)] == 1_798_761_600
    assert found[("milepost_rotation_failed",)] == 1
    assert ("milepost_rotation_due_timestamp_seconds",) not in found
    (about,) = [key for key in found if key[0] == "milepost_agent_info"]
    assert ("vehicle_id", "van-1") in about


def test_what_the_agent_does_not_know_is_left_out(free_port):
    port = free_port()
    server = MetricsServer(MetricsSettings(port=port), lambda: ACCOUNT)
    server.start()
    try:
        assert ("milepost_sample_interval_seconds",) not in read(port)
    finally:
        server.stop()
    server.stop()


def test_a_port_that_is_taken_is_told_with_its_key(free_port):
    port = free_port()
    first, second = (MetricsServer(MetricsSettings(port=port), lambda: ACCOUNT) for _ in range(2))
    first.start()
    try:
        with pytest.raises(
            StateError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1.*{port}"
        ):
            second.start()
    finally:
        first.stop()


def test_a_running_agent_serves_its_account_on_loopback_and_ends_in_order(tmp_path, free_port):
    port = free_port()
    identity = Pki(tmp_path / "pki").vehicle("van-1")
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.format(port=port, identity=identity))
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--config", config], cwd=ROOT
    ) as run:
        try:
            deadline_s = time.monotonic() + 60
            while not _answers(port) and time.monotonic() < deadline_s:
                time.sleep(0.1)
            assert read(port)[("milepost_connected",)] == 0
        finally:
            run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0


def _answers(port):
    try:
        return bool(read(port))
    except OSError:
        return False
