"""The real process with an OBD-II van or a J1939 truck and a Mosquitto over mutual TLS."""

import signal
import subprocess
import sys
import time

import pytest

from contract import decode_event, decode_sample
from simulator.ecu.engine import EngineState, held
from simulator.ecu.j1939 import Fault
from simulator.ecu.node import EcuNode, EcuOptions
from simulator.ecu.obd import parse_code
from simulator.ecu.truck import TruckNode, TruckOptions
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki

GROUP = "239.74.163.2"

CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[[obd]]
interface = "udp_multicast"
channel = "{group}"
options = {{ hop_limit = 0, port = {obd_port} }}
quiet_s = 2
engine_off_s = 3
dtc_interval_s = 1
[[j1939]]
interface = "udp_multicast"
channel = "{group}"
options = {{ hop_limit = 0, port = {j1939_port} }}
[broker]
host = "localhost"
port = {broker_port}
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
[delivery]
shutdown_drain_s = 3
hold_unsynced_s = 1
"""


def command(*arguments):
    return [sys.executable, "-m", "agent", *map(str, arguments)]


class Van:
    """A broker, the agent's process, and two buses whose ECUs the test holds."""

    def __init__(self, folder, free_port):
        self.folder = folder
        pki = Pki(folder / "pki")
        ports = {name: free_port() for name in ("obd_port", "j1939_port", "broker_port")}
        self.ports = ports
        self.config = folder / "agent.toml"
        identity = pki.vehicle("van-1")
        self.config.write_text(CONFIG.format(group=GROUP, identity=identity, **ports))
        self.broker = Mosquitto(folder / "mosquitto", pki.broker(), ports["broker_port"])
        self.listener_identity = pki.vehicle(LISTENER)
        self.listener = None
        self.parts = []

    def bus(self, name):
        return {
            "interface": "udp_multicast",
            "channel": GROUP,
            "bus_options": {"port": self.ports[name]},
        }

    def start(self, part):
        part.start()
        self.parts.append(part)
        return part

    def wait_for(self, condition, what, within_s=60):
        end_s = time.monotonic() + within_s
        while not (found := condition()):
            assert time.monotonic() < end_s, (what, (self.folder / "agent.log").read_text())
            time.sleep(0.1)
        return found

    def events(self, kind):
        events = [decode_event(payload) for payload in self.listener.on("events/van-1")]
        return {event.details["code"] for event in events if event.event_type == kind}

    def last_sample(self):
        samples = self.listener.on("telemetry/van-1")
        return decode_sample(samples[-1]) if samples else None

    def status(self, *options):
        asked = command("status", "--config", self.config, *options)
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def van(tmp_path, free_port):
    van = Van(tmp_path, free_port)
    with (
        van.broker,
        MosquittoSub(van.listener_identity, van.ports["broker_port"]) as van.listener,
        (tmp_path / "agent.log").open("ab") as log,
    ):
        process = subprocess.Popen(command("run", "--config", van.config), stderr=log, stdout=log)
        yield van
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            for part in van.parts:
                part.stop()


@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_values_and_faults_of_both_worlds_reach_the_broker(van):
    said = subprocess.run(
        command("check-config", "--config", van.config), capture_output=True, text=True, check=True
    )
    assert "1 asked by OBD-II or UDS, 1 of J1939" in said.stdout
    ecu = EcuNode(
        EcuOptions(stored=[parse_code("P0301")], stays_awake_s=2),
        engine=held(EngineState(speed_kmh=43, rpm=1900)),
        **van.bus("obd_port"),
    )
    truck = TruckNode(TruckOptions(faults=[Fault(110, 3), Fault(100, 1)]), **van.bus("j1939_port"))
    van.start(ecu)
    van.start(truck)
    van.wait_for(
        lambda: van.events("fault_raised") >= {"P0301", "SPN 110 FMI 3", "SPN 100 FMI 1"},
        "faults of both buses",
    )

    def complete():
        sample = van.last_sample()
        return (
            sample is not None
            and sample.diagnostics is not None
            and len(sample.diagnostics.error_codes or ()) == 3
            and "vin" in (sample.signals or {})
            and sample.motion is not None
            and sample.battery is not None
            and sample.diagnostics.odometer_km is not None
            and sample
        )

    sample = van.wait_for(complete, "a sample with everything")
    assert sample.motion.speed_kmh == 43
    assert sample.battery.voltage == 14.1
    assert sample.diagnostics.odometer_km == 2458
    assert sample.signals["engine_rpm"] == 1900
    assert sample.signals["amber_warning_lamp"] is True
    assert "requests answered; ask, " in van.status()
    truck.faults = ()
    van.wait_for(lambda: "SPN 110 FMI 3" in van.events("fault_cleared"), "mended")
    # the van sleeps at once, as one whose battery is disconnected
    ecu.stop()
    van.wait_for(lambda: van.last_sample().motion is None, "its speed goes stale")
    assert van.last_sample().diagnostics.error_codes == ("P0301",), "held"
