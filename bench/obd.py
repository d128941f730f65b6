"""What asking costs: CPU of the OBD-II source with its preset, and of the J1939 source.

    python bench/obd.py --seconds 20

The ECU and the truck run in processes of their own, on python-can's ``udp_multicast``. The
figures are CPU time of this process, in which only the source runs.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from typing import Any

from _peers import arguments, show

from agent.config import J1939Settings, ObdSettings
from agent.host import SystemClock
from agent.inputs import Inbox
from agent.sources.can.worker import BusWorker
from agent.sources.j1939.source import J1939Source
from agent.sources.obd.source import ObdSource

BUS = {"interface": "udp_multicast", "options": {"hop_limit": 0}}


def measure(source: BusWorker, seconds: float, settle_s: float = 6.0) -> tuple[float, dict]:
    """CPU in per cent of one core after the start has settled, and the account."""
    source.start()
    time.sleep(settle_s)
    before_s, wall_s = time.process_time(), time.monotonic()
    time.sleep(seconds)
    cpu = 100 * (time.process_time() - before_s) / (time.monotonic() - wall_s)
    account = source.account()  # type: ignore[attr-defined]
    source.stop()
    return cpu, account


def peer(kind: str, channel: str, *more: str) -> subprocess.Popen[bytes]:
    """``milepost-sim ecu`` in a process of its own."""
    command = [sys.executable, "-m", "simulator", "ecu", kind, "--channel", channel, *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print the figures."""
    words = arguments(__doc__, seconds=(20.0, "how long each source runs")).parse_args()
    figures: dict[str, Any] = {"benchmark": "obd"}
    clock = SystemClock()
    for kind, more in (
        ("obd", ["--speed-kmh", "50"]),
        ("obd", ["--ignition", "off", "--stays-awake", "0"]),
        ("j1939", []),
    ):
        channel = f"239.74.{uuid.uuid4().int % 200 + 20}.{uuid.uuid4().int % 200 + 20}"
        child = peer(kind, channel, *more)
        try:
            if kind == "obd":
                source: BusWorker = ObdSource(
                    ObdSettings.model_validate({**BUS, "channel": channel}), Inbox(), clock
                )
            else:
                source = J1939Source(
                    J1939Settings.model_validate({**BUS, "channel": channel}), Inbox(), clock
                )
            cpu, account = measure(source, words.seconds)
        finally:
            child.terminate()
            child.wait(10)
        name = " ".join((kind, *more))
        figures[name] = {"cpu_percent": round(cpu, 2), "account": account}
    show(figures, as_json=words.json)


if __name__ == "__main__":
    main()
