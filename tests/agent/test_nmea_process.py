"""The real agent with a receiver on a serial port that ``milepost-sim nmea`` plays."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes import nmea
from tests.fakes.pki import Pki

CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "serial"
[gps.serial]
device = "{link}"
[broker]
host = "localhost"
port = {port}
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
[delivery]
shutdown_drain_s = 0
"""


def milepost(package, *arguments, **options):
    command = [sys.executable, "-m", package, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


class Desk:
    """An agent without a broker, and a receiver that can be plugged in and out."""

    def __init__(self, folder, port):
        self.link = folder / "gps0"
        self.config = folder / "agent.toml"
        identity = Pki(folder / "pki").vehicle("van-1")
        self.config.write_text(CONFIG.format(link=self.link, port=port, identity=identity))
        self.log = folder / "drive.nmea"
        self.log.write_bytes(nmea.drive(600))
        self.agent = milepost("agent", "run", "--config", self.config)
        self.receiver = None

    def plug(self, baud):
        self.receiver = milepost(
            "simulator", "nmea", self.log, "--link", self.link, "--baud", baud, "--loop"
        )

    def unplug(self):
        self.receiver.send_signal(signal.SIGINT)
        out, err = self.receiver.communicate(timeout=30)
        assert self.receiver.returncode == 0, err
        return out.decode()

    def account(self, condition, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.agent.poll() is None, self.agent.stderr.read().decode()
            asked = milepost("agent", "status", "--config", self.config, "--json")
            out, _ = asked.communicate(timeout=30)
            if asked.returncode == 0 and condition(json.loads(out)):
                return json.loads(out)
            time.sleep(0.2)
        pytest.fail(f"the account never said so: {out}")

    def close(self):
        for process in filter(None, (self.agent, self.receiver)):
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=30)


@pytest.fixture
def desk(tmp_path, free_port):
    desk = Desk(tmp_path, free_port())
    yield desk
    desk.close()


def test_the_agent_finds_loses_and_finds_again_a_receiver_on_a_serial_port(desk):
    lost = desk.account(lambda account: "source:gps" in json.dumps(account["faults"]))
    assert lost["gps"]["lost"] == "removed"
    desk.plug(9600)
    found = desk.account(lambda account: account["fixes_received"] >= 3)
    assert found["gps"]["baud"] == 9600
    assert found["gps"]["lost"] is None
    assert found["fixes_rejected"] == {}
    desk.account(lambda account: "source:gps" not in json.dumps(account["faults"]))
    location = desk.account(lambda account: "location" in account["last_sample"])["last_sample"]
    assert 50.08 < location["location"]["lat"] < 50.1
    assert location["location"]["fix_mode"] == "3d"
    assert location["motion"]["speed_kmh"] == 18.52
    assert "epochs" in desk.unplug()
    desk.account(lambda account: account["gps"]["lost"] == "removed")
    # another receiver in the same place may speak at another rate
    desk.plug(38400)
    again = desk.account(lambda account: account["gps"].get("fixes", 0) >= 2)
    assert again["gps"]["baud"] == 38400
