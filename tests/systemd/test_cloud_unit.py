"""The one-machine cloud behind its unit's system call filter."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fakes.one_machine import wait_until

UNIT = ROOT / "systemd/cloud/milepost-cloud.service"

pytestmark = pytest.mark.needs("systemd-analyze")


def test_the_cloud_serves_vehicles_and_map_behind_its_units_filter(tmp_path):
    data = Path(tmp_path / "data")
    command = [
        *(sys.executable, "-m", "tests.fakes.unit_sandbox", UNIT),
        *(sys.executable, "-m", "cloud", "serve", "--data", data, "--no-browser"),
        *("--mqtt-port", "0", "--http-port", "0", "--no-tiles"),
    ]
    with subprocess.Popen(command, cwd=ROOT) as cloud:
        try:
            ready = data / "serve.json"
            wait_until(lambda: ready.exists() or cloud.poll() is not None, "the cloud", 60)
            where = json.loads(ready.read_text())
            with urllib.request.urlopen(where["http_url"], timeout=60) as page:  # noqa: S310
                assert page.status == 200
            with socket.create_connection(("127.0.0.1", where["mqtt_port"]), timeout=10):
                pass
        finally:
            cloud.send_signal(signal.SIGTERM)
        assert cloud.wait(60) == 0
