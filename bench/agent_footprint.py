"""What the agent costs: CPU, memory, bytes published, bytes written, time to first publish.

Starts the one-machine cloud, replays the committed drive as GPS and one CAN bus, and runs
the agent as its own process with the demo's signal map. Measurement begins once the agent
is in a trip (5 samples/s) and lasts ``--duration`` seconds.

    python bench/agent_footprint.py --duration 60 --json

CPU is user plus system time of the agent's process; PSS and RSS are the kernel's
(``smaps_rollup``), taken at the end; bytes written are ``write_bytes`` of ``/proc/PID/io``.
Latency is from a sample's creation to its position being stored, as the cloud counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _peers import cpu_s, memory_mb, written_bytes

from simulator.can_player import CanPlayer
from simulator.demo.agent_config import AgentConfig, CanBus, config_text
from simulator.demo.signals import BUILT_IN
from simulator.gpsd_server import GpsdServer
from simulator.trace import read_trace

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT / "simulator" / "traces"
VEHICLE_ID = "bench-1"


@contextmanager
def running(*words: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One of Milepost's commands, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(read: Any, what: str, timeout_s: float = 60.0) -> Any:
    """The first true answer of ``read``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = read()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"no {what} within {timeout_s} s")


def account(runtime_dir: Path) -> dict[str, Any] | None:
    """The agent's account from its control socket."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(2)
        try:
            control.connect(str(runtime_dir / "agent.sock"))
            return dict(json.loads(control.makefile("rb").read()))
        except (OSError, ValueError):
            return None


def measure(folder: Path, duration_s: float) -> dict[str, Any]:
    """Run everything in ``folder`` and return the figures."""
    data = folder / "cloud"
    certificates = folder / "vehicle"
    with running(
        "cloud", "serve", "--data", data, "--mqtt-port", 0, "--http-port", 0, "--no-tiles",
        log=folder / "cloud.log",
    ):  # fmt: skip
        wait_for((data / "serve.json").exists, "cloud")
        ports = json.loads((data / "serve.json").read_text())
        subprocess.run(
            [sys.executable, "-m", "cloud", "certs", "issue", VEHICLE_ID,
             "--data", str(data), "--out", str(certificates)],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        options = {"hop_limit": 0, "port": 47_000 + os.getpid() % 10_000}
        gps = GpsdServer(read_trace(TRACES / "default.nmea"), loop=True)
        can = CanPlayer(
            TRACES / "default.candump", interface="udp_multicast", channel="239.74.163.9",
            options=options, loop=True,
        )  # fmt: skip
        bus = CanBus(
            "udp_multicast", "239.74.163.9", options, fd=False,
            dbcs=(TRACES / "milepost-demo.dbc",), signals=BUILT_IN,
        )  # fmt: skip
        gps.start()
        can.start()
        config = certificates / "agent.toml"
        config.write_text(
            config_text(
                AgentConfig(
                    vehicle_id=VEHICLE_ID, state_dir=folder / "state",
                    runtime_dir=folder / "run", gpsd_port=gps.port,
                    broker_port=ports["mqtt_port"], speed=1.0, can=bus,
                )
            )
        )  # fmt: skip
        try:
            with running("agent", "run", "--config", config, log=folder / "agent.log") as agent:
                figures = watch(agent.pid, folder / "run", duration_s)
        finally:
            gps.stop()
            can.stop()
    report = subprocess.run(
        [sys.executable, "-m", "cloud", "report", "--data", str(data), "--json"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    latency_ms = json.loads(report.stdout)["latency_ms"]
    return figures | {
        f"latency_{name}_ms": round(latency_ms[name], 1) for name in ("p50", "p95", "p99")
    }


def watch(pid: int, runtime_dir: Path, duration_s: float) -> dict[str, Any]:
    """The agent's figures over ``duration_s`` in a trip."""

    def in_trip() -> dict[str, Any] | None:
        now = account(runtime_dir)
        return now if now and now["mode"] == "in_trip" else None

    before = wait_for(in_trip, "trip", 120.0)
    cpu, written, since = cpu_s(pid), written_bytes(pid), time.monotonic()
    time.sleep(duration_s)
    spent_s = time.monotonic() - since
    after = account(runtime_dir)
    assert after is not None
    samples = after["samples_created"] - before["samples_created"]
    used_s = cpu_s(pid) - cpu
    return {
        "benchmark": "agent_footprint",
        "duration_s": round(spent_s, 1),
        "samples_per_s": round(samples / spent_s, 2),
        "can_frames_per_s": round(
            sum(a["frames"] - b["frames"] for a, b in zip(after["can"], before["can"], strict=True))
            / spent_s,
            1,
        ),
        "cpu_s": round(used_s, 2),
        "cpu_percent_of_one_core": round(100 * used_s / spent_s, 2),
        **memory_mb(pid),
        "bytes_published": after["bytes_published"] - before["bytes_published"],
        "bytes_written_to_disk": written_bytes(pid) - written,
        "start_to_first_publish_s": after["first_publish_s"],
        "samples_waiting": after["backlog_messages"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=60.0, help="seconds in a trip")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="milepost-bench-") as folder:
        figures = measure(Path(folder), words.duration)
    if words.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
