"""The real process on a board with a wrong clock: gpsd without a fix, then with one.

Each sample carries a CAN signal that says what time it truly was, from a bus on which the
test sends it all the while; so the timestamps are judged by nothing of the agent's.
"""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from statistics import median

import can
import pytest

from contract import decode_batch, decode_event, decode_sample, decode_status
from simulator.gpsd_server import GpsdServer
from simulator.trace import read_trace
from tests.fakes import nmea
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki

GROUP = "239.74.163.2"
EPOCHS_PER_S = 5
DBC = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Truth: 8 ECU
 SG_ Elapsed : 0|32@1+ (1,0) [0|4294967295] "ms" ECU
"""


def now():
    return datetime.now(UTC)  # noqa: TID251  the truth that the agent is not told


class Vehicle:
    def __init__(self, folder, free_port, no_fix_s):
        self.folder = folder
        self.begin = now()
        self.can_port = random.randrange(20_000, 60_000)
        self.pki = Pki(folder / "pki")
        identity = self.pki.vehicle("van-1")
        self.broker_port = free_port()
        lines = []
        for second in range(no_fix_s * EPOCHS_PER_S):
            lines += [nmea.rmc(43_200 + second, valid=False), nmea.gga(43_200 + second, quality=0)]
        for second in range(no_fix_s * EPOCHS_PER_S, (no_fix_s + 60) * EPOCHS_PER_S):
            lines += nmea.epoch(43_200 + second)
        (folder / "drive.nmea").write_bytes(nmea.log(lines))
        self.gpsd = GpsdServer(read_trace(folder / "drive.nmea"), speed=EPOCHS_PER_S)
        self.gpsd.start()
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
signals = {{ "signals.truth_ms" = "Truth.Elapsed" }}
[broker]
host = "localhost"
port = {self.broker_port}
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
"""
        )
        self.process = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tell_truth, name="truth", daemon=True)
        self._thread.start()

    def _tell_truth(self):
        with can.Bus(
            interface="udp_multicast", channel=GROUP, port=self.can_port, hop_limit=0
        ) as bus:
            while not self._stopping.wait(0.01):
                elapsed_ms = (now() - self.begin) // timedelta(milliseconds=1)
                data = elapsed_ms.to_bytes(4, "little") + bytes(4)
                bus.send(can.Message(arbitration_id=256, is_extended_id=False, data=data))

    def error_s(self, sample):
        truth = self.begin + timedelta(milliseconds=sample.signals["truth_ms"])
        return (sample.timestamp - truth).total_seconds()

    def run(self, system_off_s, boot_id="boot-1"):
        arguments = [self.config, system_off_s, boot_id]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.clockless_agent", *map(str, arguments)],
            stderr=(self.folder / "agent.log").open("ab"),
        )

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def log(self):
        return (self.folder / "agent.log").read_text()

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._stopping.set()
        self._thread.join(5)
        self.gpsd.stop()


@pytest.fixture
def make_vehicle(tmp_path, free_port):
    made = []

    def make(no_fix_s):
        made.append(Vehicle(tmp_path, free_port, no_fix_s))
        return made[-1]

    yield make
    for vehicle in made:
        vehicle.close()


def received(listener):
    samples = [decode_sample(payload) for payload in listener.on("telemetry/van-1")]
    for payload in listener.on("telemetry/van-1/batch"):
        samples += decode_batch(payload)
    return samples


def wait_for(vehicle, condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert vehicle.process.poll() is None, vehicle.log()
        assert time.monotonic() < deadline, vehicle.log()
        time.sleep(0.1)


@pytest.mark.needs("mosquitto", "mosquitto_sub")
@pytest.mark.parametrize("same_boot", [True, False])
def test_samples_from_before_the_first_fix_reach_the_broker_with_their_true_time(
    same_boot, make_vehicle
):
    vehicle = make_vehicle(no_fix_s=9)
    with (
        Mosquitto(vehicle.folder / "mosquitto", vehicle.pki.broker(), vehicle.broker_port),
        MosquittoSub(vehicle.pki.vehicle(LISTENER), vehicle.broker_port) as listener,
    ):
        vehicle.run(-3600.0)
        status = decode_status(listener.wait_for("status/van-1", 1)[0])
        assert status.time_quality.value == "unsynced"
        time.sleep(4)
        assert received(listener) == []
        vehicle.kill()
        vehicle.run(7200.0, "boot-1" if same_boot else "boot-2")
        wait_for(
            vehicle,
            lambda: any(
                sample.run_id != status.run_id and sample.sequence > 8
                for sample in received(listener)
            ),
        )
        vehicle.process.send_signal(signal.SIGTERM)
        assert vehicle.process.wait(30) == 0, vehicle.log()
        samples = received(listener)
        events = [decode_event(payload) for payload in listener.on("events/van-1")]
    first = [sample for sample in samples if sample.run_id == status.run_id]
    second = [sample for sample in samples if sample.run_id != status.run_id]
    assert len(first) >= 2
    judged = first + second if same_boot else second
    judged = [sample for sample in judged if sample.signals]
    errors_s = sorted(abs(vehicle.error_s(sample)) for sample in judged)
    # the truth itself arrives late on a machine that is busy: that is no error of the time
    assert median(errors_s) < 0.1, errors_s
    assert errors_s[-1] < 1.5, errors_s
    assert {sample.time_quality.value for sample in judged} == {"gps"}
    assert {event.time_quality.value for event in events} <= {"gps"}
    numbers = sorted(one.sequence for one in (*second, *events) if one.run_id != status.run_id)
    assert numbers == list(range(1, len(numbers) + 1))
    if not same_boot:
        assert {sample.time_quality.value for sample in first} == {"unsynced"}
        off_s = [vehicle.error_s(sample) + 3600.0 for sample in first if sample.signals]
        assert max(map(abs, off_s)) < 1.5, "flagged, and not guessed"
    assert "no trusted time yet" in vehicle.log()
    assert "the time is known (gps)" in vehicle.log()


@pytest.mark.needs("mosquitto")
def test_the_log_says_that_tls_needs_the_time_and_the_samples_are_kept(make_vehicle):
    vehicle = make_vehicle(no_fix_s=600)
    not_yet = vehicle.pki.broker(valid_days=(1, 9))
    with Mosquitto(vehicle.folder / "mosquitto", not_yet, vehicle.broker_port):
        vehicle.run(-3600.0)
        wait_for(vehicle, lambda: "cannot connect" in vehicle.log())
        time.sleep(2)
        vehicle.process.send_signal(signal.SIGTERM)
        assert vehicle.process.wait(30) == 0, vehicle.log()
    assert "this board's clock is not set, so the broker's certificate cannot be checked" in (
        vehicle.log()
    )
    account = json.loads((vehicle.folder / "state/last-run.json").read_text())
    assert account["waits_for_time"]
    assert account["time_quality"] == "unsynced"
    assert account["backlog_messages"] == account["last_sequence"] > 1
