"""Which of the agent's threads take CPU and wake how often, of one tree or of two side by side.

One cloud, one receiver and one bus serve all agents at the same time, each of its own working
tree, so that whatever else the machine does meets all of them alike: read the ratios.

    python bench/agent_threads.py --duration 60
    git worktree add ../before HEAD~5
    python bench/agent_threads.py --against ../before --duration 120

    python bench/agent_threads.py --can datagrams

The bus is python-can's ``udp_multicast`` unless ``--can datagrams`` is given: then its frames are
``struct can_frame`` in datagrams over loopback, and the very code that reads a SocketCAN socket on
a vehicle reads them, many a call. Only the kernel's filter by id is missing.

CPU is the kernel's account of each thread in nanoseconds (``schedstat``), wake-ups its voluntary
context switches. The modes are those of ``bench/agent_footprint.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from _peers import account, arguments, free_port, memory_mb, progress, running, show, written_bytes
from agent_footprint import LOG_S, ROOT, SCENES, vehicle, wait_for

from simulator.demo.agent_config import AgentConfig, config_text

CAN_FRAME = struct.Struct("=IB3x8s")

# Python before 3.14 does not tell the kernel the names of its threads
NAMED_RUN = """
import os, sys, threading
begin = threading.Thread._bootstrap_inner
def named(thread):
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
        comm.write(thread.name)
    begin(thread)
threading.Thread._bootstrap_inner = named
if "MILEPOST_BENCH_CAN_PORT" in os.environ:
    import socket
    from agent.sources.can import source
    def open_socket(channel, filters, *, fd):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("127.0.0.1", int(os.environ["MILEPOST_BENCH_CAN_PORT"])))
        return opened
    source.open_socket = open_socket
from agent.cli import main
main()
"""


@contextmanager
def agent_of(tree: Path, config: Path, log: Path, can_port: int | None) -> Iterator[int]:
    """The agent of a working tree; its process id. ``can_port`` is where its frames come."""
    can = {} if can_port is None else {"MILEPOST_BENCH_CAN_PORT": str(can_port)}
    words = ("-c", NAMED_RUN, "run", "--config", config)
    with running(*words, log=log, tree=tree, environment={"PYTHONPATH": str(tree)} | can) as agent:
        yield agent.pid


@contextmanager
def datagrams(log: Path, ports: list[int]) -> Iterator[None]:
    """Play a candump log to these ports, again and again."""
    frames = []
    for line in log.read_text().splitlines():
        at, _, frame = line.split()
        identifier, _, data = frame.partition("#")
        payload = bytes.fromhex(data)
        packed = CAN_FRAME.pack(int(identifier, 16), len(payload), payload)
        frames.append((float(at.strip("()")), packed))
    stopping = threading.Event()

    def play() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            begun_s = time.monotonic() - frames[0][0]
            while True:
                for at_s, packed in frames:
                    if stopping.wait(max(0.0, begun_s + at_s - time.monotonic())):
                        return
                    for port in ports:
                        with contextlib.suppress(OSError):  # nobody listens there yet
                            sender.sendto(packed, ("127.0.0.1", port))
                begun_s += LOG_S

    player = threading.Thread(target=play, name="player")
    player.start()
    try:
        yield
    finally:
        stopping.set()
        player.join()


def threads(pid: int) -> dict[str, tuple[float, int]]:
    """CPU seconds and voluntary context switches so far, by the thread's name."""
    found: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            spent_s = int((task / "schedstat").read_text().split()[0]) / 1e9
            lines = (task / "status").read_text().splitlines()
            switches = int(dict(line.split(":\t") for line in lines)["voluntary_ctxt_switches"])
            name = "main" if int(task.name) == pid else (task / "comm").read_text().strip()
            before = found[name]
            found[name] = (before[0] + spent_s, before[1] + switches)
    return dict(found)


def figures(
    before: dict[str, tuple[float, int]], after: dict[str, tuple[float, int]], spent_s: float
) -> dict[str, Any]:
    """Percent of one core and wake-ups a second, in all and of each thread."""
    rows = {
        name: {
            "cpu_percent": round(100 * (used_s - before.get(name, (0.0, 0))[0]) / spent_s, 3),
            "wakeups_per_s": round((woken - before.get(name, (0.0, 0))[1]) / spent_s, 1),
        }
        for name, (used_s, woken) in sorted(after.items())
    }
    total = {
        key: round(sum(row[key] for row in rows.values()), 2)
        for key in ("cpu_percent", "wakeups_per_s")
    }
    return {"total": total, **rows}


def compare(
    folder: Path, mode: str, trees: dict[str, Path], duration_s: float, *, as_datagrams: bool
) -> dict[str, Any]:
    """Run one agent of each tree at the same time and return what their threads took."""
    data = folder / "cloud"
    with ExitStack() as stack:
        stack.enter_context(
            running(
                "-m", "cloud", "serve", "--data", data, "--mqtt-port", 0, "--http-port", 0,
                "--no-tiles", log=folder / "cloud.log",
            )
        )  # fmt: skip
        wait_for((data / "serve.json").exists, "cloud")
        ports = json.loads((data / "serve.json").read_text())
        gpsd_port, bus = stack.enter_context(vehicle(folder, SCENES[mode], 1.0))
        can_ports = {name: free_port() for name in trees} if as_datagrams else {}
        if as_datagrams:
            stack.enter_context(datagrams(folder / "bus.candump", [*can_ports.values()]))
            bus = replace(bus, interface="socketcan", channel="can0", options={})
        pids = {}
        for name, tree in trees.items():
            home = folder / name
            subprocess.run(
                [sys.executable, "-m", "cloud", "certs", "issue", name,
                 "--data", str(data), "--out", str(home)],
                cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            text = config_text(
                AgentConfig(
                    vehicle_id=name, state_dir=home / "state", runtime_dir=home / "run",
                    gpsd_port=gpsd_port, broker_port=ports["mqtt_port"], speed=1.0, can=bus,
                )
            )  # fmt: skip
            config = home / "agent.toml"
            config.write_text(text.replace("parked_dwell_s = 60.0", "parked_dwell_s = 5.0"))
            pids[name] = stack.enter_context(
                agent_of(tree, config, home / "agent.log", can_ports.get(name))
            )
        for name in trees:
            wait_for(lambda name=name: _is_in(folder / name, mode), f"{name} in {mode}")
        time.sleep(3)  # the start's own work is over
        since = time.monotonic()
        before = {name: threads(pid) for name, pid in pids.items()}
        written = {name: written_bytes(pid) for name, pid in pids.items()}
        time.sleep(duration_s)
        spent_s = time.monotonic() - since
        after = {name: threads(pid) for name, pid in pids.items()}
        return {
            name: figures(before[name], after[name], spent_s)
            | {"bytes_written_to_disk": written_bytes(pid) - written[name]}
            | memory_mb(pid)
            for name, pid in pids.items()
        }


def _is_in(home: Path, mode: str) -> bool:
    told = account(home)
    return bool(told and told["mode"] == mode and told["first_publish_s"] is not None)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, duration=(60.0, "seconds in the mode"))
    parser.add_argument("--mode", choices=SCENES, default="in_trip", help="default: in_trip")
    parser.add_argument(
        "--can", choices=("udp_multicast", "datagrams"), default="udp_multicast", help="the bus"
    )
    parser.add_argument("--against", type=Path, help="another working tree, run at the same time")
    words: argparse.Namespace = parser.parse_args()
    trees = {"this": ROOT}
    if words.against is not None:
        trees = {"before": words.against.resolve()} | trees
    progress(f"{words.mode} for {words.duration:.0f} s")
    with tempfile.TemporaryDirectory(prefix="milepost-bench-") as folder:
        found = compare(
            Path(folder), words.mode, trees, words.duration, as_datagrams=words.can == "datagrams"
        )
    if words.against is not None:
        found["ratio"] = {
            key: round(found["this"]["total"][key] / found["before"]["total"][key], 3)
            for key in ("cpu_percent", "wakeups_per_s")
        }
    show({"benchmark": "agent_threads", "mode": words.mode, **found}, as_json=words.json)


if __name__ == "__main__":
    main()
