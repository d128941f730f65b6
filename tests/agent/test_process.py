"""The real process: ``milepost-agent run`` with gpsd, CAN and a Mosquitto over mutual TLS."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import can
import pytest

from agent.compose_sources import DBC_TAKES_S, REST_OF_START_S
from contract import decode_event, decode_sample, decode_status
from tests.fakes.gpsd_script import ScriptedGpsd
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki

DBC = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Pack: 8 ECU
 SG_ Percent : 0|8@1+ (0.5,0) [0|100] "%" ECU
"""

GROUP = "239.74.163.2"
AGENT_UNIT = Path(__file__).resolve().parents[2] / "systemd/milepost-agent.service"


def agent_command(*arguments):
    return [sys.executable, "-m", "agent", *map(str, arguments)]


def utc_now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"  # noqa: TID251  real peers


class Vehicle:
    """A config on disk, a scripted gpsd and a CAN bus that talk while the agent runs."""

    def __init__(self, folder, free_port):
        self.folder = folder
        self.pki = Pki(folder / "pki")
        identity = self.pki.vehicle("van-1")
        self.broker_port = free_port()
        self.can_port = free_port()
        self.gpsd = ScriptedGpsd(devices=[{"path": "/dev/gps0", "cycle": 1.0}])
        (folder / "car.dbc").write_text(DBC)
        self.config = folder / "agent.toml"
        self.config.write_text(
            f"""
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
port = {self.gpsd.port}
[[can]]
interface = "udp_multicast"
channel = "{GROUP}"
dbc = ["car.dbc"]
options = {{ hop_limit = 0, port = {self.can_port} }}
signals = {{ "battery.percent" = "Pack.Percent" }}
[broker]
host = "localhost"
port = {self.broker_port}
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
[delivery]
shutdown_drain_s = 3
[log]
format = "json"
"""
        )
        self.process = None
        self._talking = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="vehicle", daemon=True)
        self._thread.start()

    def _talk(self):
        lat = 50.0
        with can.Bus(
            interface="udp_multicast", channel=GROUP, port=self.can_port, hop_limit=0
        ) as bus:
            while not self._talking.wait(0.2):
                lat += 5e-5
                bus.send(
                    can.Message(
                        arbitration_id=256, is_extended_id=False, data=bytes([136] + [0] * 7)
                    )
                )
                try:
                    self.gpsd.send(
                        {
                            "class": "TPV",
                            "device": "/dev/gps0",
                            "mode": 3,
                            "time": utc_now(),
                            "lat": lat,
                            "lon": 8.0,
                            "speed": 12.0,
                            "track": 0.0,
                            "eph": 3.0,
                        }
                    )
                except (OSError, AttributeError):
                    continue  # no agent is connected at this moment

    def mosquitto(self):
        return Mosquitto(self.folder / "mosquitto", self.pki.broker(), self.broker_port)

    def run(self, behind=()):
        self.log = (self.folder / "agent.log").open("ab")
        self.process = subprocess.Popen(
            [*behind, *agent_command("run", "--config", self.config)],
            stderr=self.log,
            stdout=self.log,
        )

    def ask(self):
        return subprocess.run(
            agent_command("status", "--config", self.config, "--json"),
            capture_output=True,
            text=True,
            check=False,
        )

    def wait_for_account(self, condition, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            answer = self.ask()
            if answer.returncode == 0 and condition(json.loads(answer.stdout)):
                return
            assert self.process.poll() is None, self.log_text()
            time.sleep(0.2)
        pytest.fail(f"the account never said so: {answer} {self.log_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log_text()
        return json.loads((self.folder / "state/last-run.json").read_text())

    def log_text(self):
        return (self.folder / "agent.log").read_text()

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._talking.set()
        self._thread.join(5)
        self.gpsd.close()


@pytest.fixture
def vehicle(tmp_path, free_port):
    rig = Vehicle(tmp_path, free_port)
    yield rig
    rig.close()


@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_every_sample_of_a_drive_reaches_the_broker_though_it_comes_late(vehicle):
    vehicle.run()
    # no broker yet: samples gather in the outbox
    vehicle.wait_for_account(lambda account: account["samples_created"] >= 3)
    # it must not connect between the broker's start and the listener's subscription
    vehicle.process.send_signal(signal.SIGSTOP)
    with (
        vehicle.mosquitto(),
        MosquittoSub(vehicle.pki.vehicle(LISTENER), vehicle.broker_port) as listener,
    ):
        vehicle.process.send_signal(signal.SIGCONT)
        vehicle.wait_for_account(
            lambda account: account["mode"] == "in_trip" and account["samples_acknowledged"] > 20
        )
        second = subprocess.run(
            agent_command("run", "--config", vehicle.config),
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert second.returncode == 1
        assert "another agent uses" in second.stderr
        account = vehicle.stop()
        status = decode_status(listener.wait_for("status/van-1", 2)[-1])
        events = [decode_event(payload) for payload in listener.on("events/van-1")]
        samples = [decode_sample(payload) for payload in listener.on("telemetry/van-1")]
        batches = listener.on("telemetry/van-1/batch")
    assert status.state.value == "offline"
    assert account["samples_created"] == account["samples_acknowledged"]
    assert account["backlog_messages"] == 0
    assert account["dropped_messages"] == {}
    assert [event.event_type for event in events] == ["trip_started", "mode_changed"]
    from contract import decode_batch  # noqa: PLC0415  beside its only use

    received = samples + [sample for batch in batches for sample in decode_batch(batch)]
    numbers = {m.sequence for m in received + events}
    assert numbers == set(range(1, account["last_sequence"] + 1))
    last = max(received, key=lambda sample: sample.sequence)
    assert last.battery.percent == 68
    assert last.motion.speed_kmh == 43.2
    assert last.location.accuracy == 3.0
    assert last.vehicle_status.trip_id == events[0].trip_id
    assert account["can"][0]["decoded"] > 0
    assert not (vehicle.folder / "run/agent.sock").exists()
    for line in vehicle.log_text().splitlines():
        assert {"time", "level", "component", "message"} <= json.loads(line).keys()


@pytest.mark.needs("mosquitto")
def test_a_killed_agent_takes_its_trip_up_again(vehicle):
    with vehicle.mosquitto():
        vehicle.run()
        vehicle.wait_for_account(lambda account: account["mode"] == "in_trip")
        trip_file = vehicle.folder / "state/trip.json"
        trip = json.loads(trip_file.read_text())["trip_id"]
        vehicle.process.kill()
        vehicle.process.wait(10)
        vehicle.run()
        vehicle.wait_for_account(lambda account: account["samples_created"] > 5)
        account = vehicle.stop()
    assert json.loads(trip_file.read_text())["trip_id"] == trip
    assert account["mode"] == "in_trip"
    assert account["events"] == []


@pytest.mark.needs("mosquitto", "systemd-analyze")
def test_the_agent_lacks_nothing_behind_the_filters_of_its_unit(vehicle):
    with vehicle.mosquitto():
        vehicle.run(behind=(sys.executable, "-m", "tests.fakes.unit_sandbox", AGENT_UNIT))
        vehicle.wait_for_account(
            lambda account: account["mode"] == "in_trip" and account["samples_acknowledged"] > 5
        )
        account = vehicle.stop()
    assert account["can"][0]["decoded"] > 0
    assert account["faults"] == []
    assert account["dropped_messages"] == {}


def test_check_config_says_what_is_mapped_and_what_is_wrong(vehicle):
    def check():
        return subprocess.run(
            agent_command("check-config", "--config", vehicle.config),
            capture_output=True,
            text=True,
            check=False,
        )

    good = check()
    assert (good.returncode, good.stderr) == (0, "")
    assert "1 mapped field" in good.stdout
    text = vehicle.config.read_text()
    vehicle.config.write_text(text.replace("Pack.Percent", "Pack.Percen"))
    wrong = check()
    assert wrong.returncode == 2
    assert '"Pack.Percent"' in wrong.stderr
    vehicle.config.write_text(text.replace('"state"', "7"))
    assert "state.dir = 7" in check().stderr
    vehicle.config.write_text(text.replace('id = "van-1"', 'id = "van-2"'))
    of_another = check()
    assert of_another.returncode == 0
    assert "the certificate of 'van-1', vehicle.id is 'van-2'" in of_another.stderr
    vehicle.config.write_text(text)
    (vehicle.pki.folder / "van-1.key.pem").unlink()
    missing = check()
    assert missing.returncode == 1
    assert "broker.key_file" in missing.stderr


@pytest.mark.parametrize("command", ["run", "check-config", "outbox", "status", "completion"])
def test_every_command_has_help_with_an_example(command):
    shown = subprocess.run(
        agent_command(command, "--help"), capture_output=True, text=True, check=True
    ).stdout
    assert f"milepost-agent {command}" in shown


def test_completion_is_printed_for_bash():
    shown = subprocess.run(
        agent_command("completion", "bash"), capture_output=True, text=True, check=True
    ).stdout
    assert "_MILEPOST_AGENT_COMPLETE" in shown


def test_nobody_to_ask_is_said_with_what_to_do(vehicle):
    answer = vehicle.ask()
    assert answer.returncode == 1
    assert "milepost-agent run" in answer.stderr


def test_systemd_is_asked_for_time_before_each_bus_whose_files_are_read(vehicle):
    with vehicle.config.open("a") as config:
        config.write(
            f"""
[[can]]
interface = "udp_multicast"
channel = "{GROUP}"
dbc = ["car.dbc"]
options = {{ hop_limit = 0, port = {vehicle.can_port} }}
signals = {{ "vehicle_status.locked" = "Pack.Percent" }}
"""
        )
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(f"{folder}/notify")
        manager.settimeout(60)
        vehicle.run(behind=["env", f"NOTIFY_SOCKET={folder}/notify"])
        told = [manager.recv(4096).decode()]
        while told[-1] != "READY=1":
            told.append(manager.recv(4096).decode())
        vehicle.stop()
    asked = f"EXTEND_TIMEOUT_USEC={round((DBC_TAKES_S + REST_OF_START_S) * 1e6)}"
    assert told == [asked, asked, "READY=1"]
