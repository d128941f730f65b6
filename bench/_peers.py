"""What the benchmarks share: a real Mosquitto with mutual TLS, samples, figures, printing."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.config import BrokerSettings, DeliverySettings, OutboxSettings
from agent.delivery import Delivery
from agent.host import SystemClock
from contract import Sample, decode_sample
from simulator.gpsd_server import GpsdServer
from simulator.trace import read_trace
from tests.contract.test_batch_codec import drive
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.pki import Identity, Pki

ROOT = Path(__file__).resolve().parent.parent
VEHICLE_ID = "bench-1"
RUN_ID = "0be1c4a2"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on a real disk: in a tmpfs a sync costs nothing."""
    with tempfile.TemporaryDirectory(prefix="milepost-bench-", dir="/var/tmp") as folder:
        yield Path(folder)


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class QuietMosquitto(Mosquitto):
    """The tests' broker without its log of every packet; ``plain_port`` has no TLS."""

    def __init__(self, folder: Path, identity: Identity, port: int, extra: str = "") -> None:
        super().__init__(folder, identity, port, extra)
        text = self._config.read_text(encoding="utf-8")
        self._config.write_text(text.replace("log_type all", "log_type error"), encoding="utf-8")


@dataclass(frozen=True)
class SecuredBroker:
    """Where a vehicle dials and with what."""

    port: int
    identity: Identity
    pki: Pki

    def settings(self, port: int | None = None) -> BrokerSettings:
        """For the agent; ``port`` of a proxy in between."""
        return BrokerSettings(
            host="127.0.0.1",
            port=port or self.port,
            server_name="localhost",
            ca_file=self.identity.ca_file,
            certificate_file=self.identity.certificate_file,
            key_file=self.identity.key_file,
        )


@contextmanager
def secured_broker(folder: Path, extra: str = "") -> Iterator[SecuredBroker]:
    """A Mosquitto that asks for a client certificate."""
    pki = Pki(folder / "pki")
    broker = SecuredBroker(free_port(), pki.vehicle(VEHICLE_ID), pki)
    with QuietMosquitto(folder / "mosquitto", pki.broker(), broker.port, extra):
        yield broker


def open_delivery(
    folder: Path,
    broker: SecuredBroker,
    *,
    port: int | None = None,
    outbox: Mapping[str, Any] | None = None,
    **delivery: Any,
) -> Delivery:
    """The agent's real outbox, publisher and transport; not started."""
    return Delivery(
        clock=SystemClock(kernel_is_synchronised=lambda: True),  # a container may not say so
        vehicle_id=VEHICLE_ID,
        run_id=RUN_ID,
        state_dir=folder,
        outbox=OutboxSettings(**(outbox or {})),
        delivery=DeliverySettings(**delivery),
        broker=broker.settings(port),
        software_version="bench",
    )


AGENT_CONFIG = """
[vehicle]
id = "{vehicle}"

[broker]
host = "127.0.0.1"
server_name = "localhost"
port = {broker.port}
ca_file = "{broker.identity.ca_file}"
certificate_file = "{broker.identity.certificate_file}"
key_file = "{broker.identity.key_file}"

[gps]
host = "127.0.0.1"
port = {gpsd}

[state]
dir = "{folder}/state"
runtime_dir = "{folder}/run"
{more}
"""


@contextmanager
def running(
    *words: object, log: Path, tree: Path = ROOT, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments in a working tree, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=tree,
            env=os.environ | (environment or {}),
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def running_agent(folder: Path, broker: SecuredBroker, more: str = "") -> Iterator[int]:
    """``milepost-agent run`` with GPS from the simulator's gpsd server; its process id."""
    gps = GpsdServer(read_trace(ROOT / "simulator" / "traces" / "default.nmea"), loop=True)
    gps.start()
    config = folder / "agent.toml"
    config.write_text(
        AGENT_CONFIG.format(
            vehicle=VEHICLE_ID, broker=broker, gpsd=gps.port, folder=folder, more=more
        ),
        encoding="utf-8",
    )
    try:
        with running("-m", "agent", "run", "--config", config, log=folder / "agent.log") as agent:
            yield agent.pid
    finally:
        gps.stop()


def account(folder: Path) -> dict[str, Any] | None:
    """What the agent in ``folder`` says of itself; None while it does not answer."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(2)
        try:
            control.connect(str(folder / "run" / "agent.sock"))
            return dict(json.loads(control.makefile("rb").read()))
        except (OSError, ValueError):
            return None


def samples(count: int) -> list[Sample]:
    """Samples of a drive, every group filled, numbered from 1; it begins anew after an hour."""
    hour = drive(min(count, 3_600))
    identity = {"vehicle_id": VEHICLE_ID, "run_id": RUN_ID}
    return [
        decode_sample(json.dumps(hour[number % len(hour)] | identity | {"sequence": number + 1}))
        for number in range(count)
    ]


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    """PSS, RSS and USS, what no other process shares, in megabytes (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    kib["Uss"] = kib["Private_Clean"] + kib["Private_Dirty"]
    return {
        f"{name.lower()}_mb": round(kib[name] * 1024 / 1e6, 1) for name in ("Pss", "Rss", "Uss")
    }


def wakeups(pid: int) -> int:
    """How often the process's threads went to sleep so far: what a mostly idle one pays for."""
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            fields = dict(line.split(":\t") for line in status.read_text().splitlines())
            switches += int(fields["voluntary_ctxt_switches"])
    return switches


def written_bytes(pid: int) -> int:
    """Bytes that the process caused to be written to disk."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def spread(rounds: list[float]) -> dict[str, float]:
    """Median, lowest and highest of the rounds."""
    return {
        "median": round(statistics.median(rounds), 1),
        "min": round(min(rounds), 1),
        "max": round(max(rounds), 1),
    }


def arguments(description: str, **numbers: tuple[float, str]) -> argparse.ArgumentParser:
    """The options that every benchmark has, and some numbers of its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (default, text) in numbers.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            help=f"{text} (default {default})",
        )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser


def show(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the figures, nested ones with dotted names."""
    if as_json:
        print(json.dumps(figures))
        return
    _rows(figures, "", print)


def _rows(figures: Mapping[str, Any], prefix: str, tell: Callable[[str], None]) -> None:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            _rows(value, f"{prefix}{name}.", tell)
        else:
            tell(f"{prefix + name:52} {value}")


def progress(text: str) -> None:
    """What goes on, for whoever waits; not part of the figures."""
    print(f"  {text}", file=sys.stderr, flush=True)
