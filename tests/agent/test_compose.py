"""What the composition refuses before anything starts."""

import subprocess
import sys

import pytest

from agent.errors import StateError
from agent.state_dir import VEHICLE_FILE, claim
from tests.conftest import ROOT
from tests.fakes.pki import Pki

CONFIG = """
[vehicle]
id = "{vehicle_id}"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[broker]
host = "127.0.0.1"
port = 1
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
"""


def test_a_state_directory_keeps_its_vehicle(tmp_path):
    claim(tmp_path, "van-2")
    claim(tmp_path, "van-2")
    assert (tmp_path / VEHICLE_FILE).read_text() == "van-2\n"
    with pytest.raises(StateError, match="van-2 has not delivered yet, and this is van-1"):
        claim(tmp_path, "van-1")


def test_run_refuses_another_vehicles_state_and_says_what_to_do(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / VEHICLE_FILE).write_text("van-2\n")
    identity = Pki(tmp_path / "pki").vehicle("van-1")
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.format(vehicle_id="van-1", identity=identity))
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "van-2" in done.stderr
    assert "state.dir of its own" in done.stderr
    assert "Traceback" not in done.stderr
