"""What the agent costs in each mode: CPU, memory, bytes published, bytes written, first publish.

For each mode it starts the one-machine cloud and the agent as its own process, with GPS from
the simulator's gpsd server and one CAN bus, mapped as in the demo. Measurement begins once
the agent is in the mode and lasts ``--duration`` seconds.

    python bench/agent_footprint.py --duration 120 --json
    python bench/agent_footprint.py --mode in_trip --batch-s 1 --duration 60

in_trip   the built-in drive at 5 fixes/s; in use, its bus is awake (116 mapped frames/s)
normal    standing with the ignition on (the same bus), battery 60 %
idle      parked, its bus asleep but for the battery (1 frame/s of each), battery 95 %
saver     the same with 10 %

CPU is user plus system time of the agent's process; PSS and RSS are the kernel's
(``smaps_rollup``), taken at the end, USS the part that no other process shares; bytes written
are ``write_bytes`` of ``/proc/PID/io``. Latency is from a sample's creation to its position
being stored, as the cloud counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cantools
from _peers import (
    account,
    arguments,
    cpu_s,
    memory_mb,
    progress,
    running,
    show,
    wakeups,
    written_bytes,
)

from simulator.can_player import CanPlayer
from simulator.demo.agent_config import AgentConfig, CanBus, config_text
from simulator.demo.signals import BUILT_IN
from simulator.gpsd_server import GpsdServer
from simulator.trace import read_trace
from tests.fakes import nmea

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT / "simulator" / "traces"
DBC = TRACES / "milepost-demo.dbc"
VEHICLE_ID = "bench-1"
LOG_S = 60
AWAKE_HZ = {
    "DriveState": 50,
    "Acceleration": 50,
    "BatteryState": 10,
    "BodyState": 5,
    "Distance": 1,
}
ASLEEP_HZ = {"BatteryState": 1, "BodyState": 1}


@dataclass(frozen=True)
class Scene:
    """What brings the agent into a mode and keeps it there."""

    is_driving: bool
    battery_percent: float
    rates_hz: dict[str, int]


SCENES = {
    "in_trip": Scene(is_driving=True, battery_percent=60, rates_hz=AWAKE_HZ),
    "normal": Scene(is_driving=False, battery_percent=60, rates_hz=AWAKE_HZ),
    "idle": Scene(is_driving=False, battery_percent=95, rates_hz=ASLEEP_HZ),
    "saver": Scene(is_driving=False, battery_percent=10, rates_hz=ASLEEP_HZ),
}


def can_log(scene: Scene, share: float) -> str:
    """A candump log of a minute; the values move as measurements do."""
    chance = random.Random(1)
    messages = cantools.database.load_file(DBC)
    steady = {
        "StateOfCharge": scene.battery_percent,
        "Charging": 0,
        "InUse": int(scene.is_driving),
        "Locked": int(not scene.is_driving),
        "VehicleSpeed": 0.0,
        "Odometer": 2458.0,
        "LastService": 2100.0,
    }
    lines = []
    for name, rate_hz in scene.rates_hz.items():
        message = messages.get_message_by_name(name)
        for number in range(int(rate_hz * share * LOG_S)):
            values = {
                signal.name: steady.get(signal.name, float(chance.randint(0, 1)))
                for signal in message.signals
            }
            if scene.is_driving and name == "DriveState":
                values["VehicleSpeed"] = 40 + chance.random()
            at_s = number / rate_hz / share + chance.random() / 1_000
            data = message.encode(values).hex().upper()
            lines.append(f"({1_700_000_000 + at_s:.6f}) can0 {message.frame_id:03X}#{data}")
    return "".join(f"{line}\n" for line in sorted(lines))


def parked_log() -> bytes:
    """Ten minutes at one place, with a receiver's noise."""
    chance = random.Random(1)
    return nmea.log(
        line
        for second in range(600)
        for line in nmea.epoch(
            43_200 + second, minutes=5.1 + chance.gauss(0, 0.0003), knots=abs(chance.gauss(0, 0.05))
        )
    )


def wait_for(read: Any, what: str, timeout_s: float = 120.0) -> Any:
    """The first true answer of ``read``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = read()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"no {what} within {timeout_s} s")


@contextmanager
def vehicle(folder: Path, scene: Scene, share: float) -> Iterator[tuple[int, CanBus]]:
    """GPS and CAN of a scene: gpsd's port, and the bus as the agent reads it."""
    (folder / "parked.nmea").write_bytes(parked_log())
    log = folder / "bus.candump"
    log.write_text(can_log(scene, share))
    options = {"hop_limit": 0, "port": 47_000 + os.getpid() % 10_000}
    trace = folder / "parked.nmea"
    if scene.is_driving:
        trace = folder / "drive.nmea"
        subprocess.run(
            [sys.executable, "-m", "simulator", "synth", "--rate", "5", "--out", folder / "drive"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    gps = GpsdServer(read_trace(trace), loop=True)
    can = CanPlayer(
        log, interface="udp_multicast", channel="239.74.163.9", options=options, loop=True
    )
    gps.start()
    can.start()
    try:
        yield gps.port, CanBus(
            "udp_multicast", "239.74.163.9", options, fd=False, dbcs=(DBC,), signals=BUILT_IN
        )  # fmt: skip
    finally:
        gps.stop()
        can.stop()


def measure(folder: Path, mode: str, words: argparse.Namespace) -> dict[str, Any]:
    """Run everything in ``folder`` and return the figures of one mode."""
    data = folder / "cloud"
    certificates = folder / "vehicle"
    with running(
        "-m", "cloud", "serve", "--data", data, "--mqtt-port", 0, "--http-port", 0, "--no-tiles",
        log=folder / "cloud.log",
    ):  # fmt: skip
        wait_for((data / "serve.json").exists, "cloud")
        ports = json.loads((data / "serve.json").read_text())
        subprocess.run(
            [sys.executable, "-m", "cloud", "certs", "issue", VEHICLE_ID,
             "--data", str(data), "--out", str(certificates)],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with vehicle(folder, SCENES[mode], words.can_share) as (gpsd_port, bus):
            config = certificates / "agent.toml"
            text = config_text(
                AgentConfig(
                    vehicle_id=VEHICLE_ID, state_dir=folder / "state",
                    runtime_dir=folder / "run", gpsd_port=gpsd_port,
                    broker_port=ports["mqtt_port"], speed=1.0, can=bus,
                )
            )  # fmt: skip
            # nobody needs to wait a minute to be parked
            text = text.replace("parked_dwell_s = 60.0", "parked_dwell_s = 5.0")
            text = text.replace("[delivery]", f"[delivery]\nbatch_s = {words.batch_s}")
            config.write_text(text)
            with running(
                "-m", "agent", "run", "--config", config, log=folder / "agent.log"
            ) as agent:
                figures = watch(agent.pid, folder, mode, words.duration)
    report = subprocess.run(
        [sys.executable, "-m", "cloud", "report", "--data", str(data), "--json"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    latency_ms = json.loads(report.stdout)["latency_ms"]
    return figures | {
        f"latency_{name}_ms": round(latency_ms[name], 1) for name in ("p50", "p95", "p99")
    }


def watch(pid: int, folder: Path, mode: str, duration_s: float) -> dict[str, Any]:
    """The agent's figures over ``duration_s`` in the mode."""

    def in_mode() -> dict[str, Any] | None:
        now = account(folder)
        settled = now and now["mode"] == mode and now["first_publish_s"] is not None
        return now if settled else None

    before = wait_for(in_mode, mode)
    time.sleep(3)  # the start's own work is over
    before = account(folder) or before
    cpu, written, woken, since = cpu_s(pid), written_bytes(pid), wakeups(pid), time.monotonic()
    time.sleep(duration_s)
    spent_s = time.monotonic() - since
    used_s = cpu_s(pid) - cpu
    after = account(folder)
    assert after is not None
    assert after["mode"] == mode, f"left {mode} for {after['mode']}"

    def per_second(of: Any) -> float:
        return round((of(after) - of(before)) / spent_s, 2)

    return {
        "samples_per_s": per_second(lambda told: told["samples_created"]),
        "fixes_per_s": per_second(lambda told: told["fixes_received"]),
        "can_frames_per_s": per_second(lambda told: sum(bus["frames"] for bus in told["can"])),
        "cpu_percent_of_one_core": round(100 * used_s / spent_s, 2),
        "wakeups_per_s": round((wakeups(pid) - woken) / spent_s, 1),
        **memory_mb(pid),
        "bytes_published": after["bytes_published"] - before["bytes_published"],
        "bytes_written_to_disk": written_bytes(pid) - written,
        "start_to_first_publish_s": after["first_publish_s"],
        "samples_waiting": after["backlog_messages"],
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(
        __doc__,
        duration=(60.0, "seconds in each mode"),
        can_share=(1.0, "share of the bus's frames"),
        batch_s=(0.0, "the agent's delivery.batch_s: 0 is one message a sample"),
    )
    parser.add_argument("--mode", choices=SCENES, action="append", help="default: each")
    words = parser.parse_args()
    figures: dict[str, Any] = {"benchmark": "agent_footprint", "duration_s": words.duration}
    for mode in words.mode or SCENES:
        progress(f"{mode} for {words.duration:.0f} s")
        with tempfile.TemporaryDirectory(prefix="milepost-bench-") as folder:
            figures[mode] = measure(Path(folder), mode, words)
    show(figures, as_json=words.json)


if __name__ == "__main__":
    main()
