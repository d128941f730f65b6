"""How long a rotation of the identity takes, and how late samples get by it.

The agent's delivery with its rotation on a real Mosquitto with mutual TLS, 20 samples a
second; what the cloud's provisioning service answers comes from a peer beside it. Measured:

- from the request to the end: the new key (in a process of its own), its certificate and
  registration, the new connection, its proof, the commit
- the latest sample of each rotation: from its making to its arrival at a subscriber
- samples that are missing, or came twice

    python bench/rotation.py
    python bench/rotation.py --rotations 20 --transport awscrt --json
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.config import TransportKind
from contract import decode_batch
from tests.fakes.mosquitto import Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.fakes.rotating_delivery import RotatingDelivery, keep_as_provisioned
from tests.fakes.rotation_peer import ACL, RotationPeer


class Arrivals:
    """When each sample was first seen, and how often."""

    def __init__(self, listener: MosquittoSub) -> None:
        self.seen_s: dict[int, float] = {}
        self.times: dict[int, int] = {}
        self._listener, self._read = listener, 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.wait(0.005):
            self.look()

    def look(self) -> None:
        """Stamp what is new."""
        new = self._listener.messages[self._read :]
        self._read += len(new)
        for topic, payload in new:
            for number in _sequences(topic, payload):
                self.seen_s.setdefault(number, time.monotonic())
                self.times[number] = self.times.get(number, 0) + 1

    def stop(self) -> None:
        """No more stamps."""
        self._stopping.set()
        self._thread.join()
        self.look()


def _sequences(topic: str, payload: bytes) -> list[int]:
    if topic == "telemetry/van-1":
        return [json.loads(payload)["sequence"]]
    if topic == "telemetry/van-1/batch":
        return [sample.sequence for sample in decode_batch(payload)]
    return []


def measure(rotations: int, transport: TransportKind) -> dict[str, Any]:
    """Rotate so many times; seconds."""
    with tempfile.TemporaryDirectory(prefix="milepost-bench-") as name:
        folder = Path(name)
        pki = Pki(folder / "pki")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        state = keep_as_provisioned(folder / "state", pki.vehicle("van-1"))
        took, latest = [], []
        listener = pki.vehicle("listener")
        with (
            Mosquitto(folder / "broker", pki.broker(), port, acl=ACL),
            RotationPeer(pki, listener, port),
            MosquittoSub(listener, port) as subscriber,
        ):
            arrivals = Arrivals(subscriber)
            with RotatingDelivery(state, port, pki.ca_file, transport) as vehicle:
                vehicle.online()
                for number in range(rotations):
                    time.sleep(1.0)
                    print(f"rotation {number + 1} of {rotations}", file=sys.stderr)
                    first, began_s = vehicle.sequence + 1, time.monotonic()
                    end = vehicle.rotate()
                    took.append(time.monotonic() - began_s)
                    if not end.succeeded:
                        raise RuntimeError(end.reason)
                    time.sleep(1.0)
                    latest.append(
                        max(
                            arrivals.seen_s.get(number, time.monotonic()) - vehicle.made_s[number]
                            for number in range(first, vehicle.sequence - 4)
                        )
                    )
            time.sleep(1.0)
            arrivals.stop()
        missing = set(range(1, vehicle.sequence + 1)) - set(arrivals.times)
        return {
            "transport": transport.value,
            "rotations": rotations,
            "took_p50_s": round(statistics.median(took), 2),
            "took_max_s": round(max(took), 2),
            "latest_sample_p50_s": round(statistics.median(latest), 2),
            "latest_sample_max_s": round(max(latest), 2),
            "samples": vehicle.sequence,
            "missing": len(missing),
            "twice": sum(count > 1 for count in arrivals.times.values()),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rotations", type=int, default=10)
    parser.add_argument("--transport", type=TransportKind, default=TransportKind.PAHO)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args()
    figures = measure(given.rotations, given.transport)
    if given.json:
        print(json.dumps({"benchmark": "rotation", **figures}))
    else:
        for name, value in figures.items():
            print(f"{name:<22}{value}")


if __name__ == "__main__":
    main()
