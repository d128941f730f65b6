"""How fast boards become vehicles on the one-machine cloud.

Boards with a claim certificate go the whole way against ``milepost-cloud serve``: TLS, four
subscriptions, CreateCertificateFromCsr, RegisterThing, all over real MQTT. Then all vehicles
connect with their own certificates for the first time, and again.

    python bench/provisioning.py [--boards 200] [--at-once 8] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloud.cli.registry import opened_registry
from cloud.provisioning.ports import AllowedVehicle
from cloud.stores.sqlite_fleet import SqliteFleet
from tests.fakes.one_machine import CloudProcess, Vehicle, running_cloud
from tests.fakes.provisioning import Asker, new_key, write_identity


def prepare(data: Path, claim: Path, boards: int) -> None:
    """A claim certificate and the allow list."""
    with opened_registry(data, create=True) as here:
        fleet = SqliteFleet(here.database, here.registry, here.authority, here.clock)
        fleet.create_claim("bench", 1).credentials.write_to(claim)
        fleet.allow([AllowedVehicle(f"S{number}", f"van-{number}") for number in range(boards)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        data, claim = folder / "data", folder / "claim"
        prepare(data, claim, options.boards)
        keys = [new_key() for _ in range(options.boards)]
        with running_cloud(data) as cloud, ThreadPoolExecutor(options.at_once) as pool:

            def provision(number: int) -> None:
                with Vehicle(cloud.port, claim, f"claim-S{number}") as board:
                    assert board.connect()
                    asker = Asker(board)
                    answer = asker.certificate(keys[number])
                    assert asker.register(answer["certificateOwnershipToken"], f"S{number}")[0]
                ca_pem = (claim / "ca.pem").read_bytes()
                write_identity(folder / str(number), ca_pem, answer["certificatePem"], keys[number])

            def connect(number: int) -> None:
                with Vehicle(cloud.port, folder / str(number), f"van-{number}") as vehicle:
                    assert vehicle.connect()

            everyone = range(options.boards)
            figures = {
                step: measure(cloud, lambda work=work: pool.map(work, everyone), options.boards)
                for step, work in (
                    ("provisioned", provision),
                    ("connected for the first time", connect),
                    ("connected", connect),
                )
            }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for step, (per_s, cpu_ms) in figures.items():
        print(f"{step:30} {per_s:7.1f} a second, {cpu_ms:6.1f} ms of the cloud's CPU each")


def measure(
    cloud: CloudProcess, run: Callable[[], Iterable[None]], count: int
) -> tuple[float, float]:
    """A second's number, and milliseconds of the cloud's CPU for each."""
    process = psutil.Process(cloud.process.pid)

    def cpu_s() -> float:
        times = process.cpu_times()
        return times.user + times.system

    before_s, begin_s = cpu_s(), time.perf_counter()
    list(run())
    spent_s = time.perf_counter() - begin_s
    return count / spent_s, (cpu_s() - before_s) / count * 1000


if __name__ == "__main__":
    main()
