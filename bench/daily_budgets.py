"""What a day costs: mobile data and flash writes, by rate and by ``delivery.batch_s``.

Measured, on a real Mosquitto with mutual TLS and on a real disk, with every group filled:

- bytes on the wire (the kernel's count, headers included) for a sample that goes alone, for
  a batch message beside its payload, and for a connection from dial to CONNACK
- payload bytes a sample in batches, from the contract's codec
- bytes written a commit, offline, with 1, 5 and 25 samples in it

From these the MB of a day are worked out: 24 hours in one mode, status every 60 s and
keep-alive included, events not.

    python bench/daily_budgets.py
    python bench/daily_budgets.py --json
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _peers import (
    RUN_ID,
    SecuredBroker,
    arguments,
    open_delivery,
    progress,
    samples,
    scratch,
    secured_broker,
    show,
)

from agent.account import flash_bytes_written
from agent.outbox import Eviction, Kind, Message, Outbox, Store
from contract import encode, encode_batch_rows
from tests.contract.test_batch_codec import drive
from tests.fakes.clock import FakeClock

DAY_S = 86_400
RATES = {"in_trip": 5.0, "normal": 1.0, "idle": 0.1, "saver": 1 / 60}
STATUS_BYTES = 700
KEEP_ALIVE_BYTES = 204
"""PINGREQ, PINGRESP and the ACK in between, each with a TLS record's and TCP/IP's headers."""


def wire(folder: Path, broker: SecuredBroker, count: int) -> dict[str, float]:
    """Bytes on the wire of a connection, and of a sample that goes alone."""
    delivery = open_delivery(folder, broker)
    delivery.start()
    try:
        _until(lambda: delivery.publisher.connected)
        time.sleep(0.5)
        connected = delivery.account()
        for sample in samples(count):
            delivery.record_sample(sample)
            _until(lambda: delivery.outbox.waiting() == 0)
            time.sleep(0.06)  # the bare ACK goes after up to 40 ms, or with the next sample
        done = delivery.account()
    finally:
        delivery.stop(0)
    published = done["bytes_published"] - connected["bytes_published"]
    publishes = done["publishes"] - connected["publishes"]
    total = done["wire_bytes"] - connected["wire_bytes"]
    return {
        "connection": connected["wire_bytes"] - connected["bytes_published"],
        "payload_of_a_single": round(published / publishes),
        "beside_the_payload": round((total - published) / publishes),
    }


def flash(folder: Path, rows: int, commits: int) -> float:
    """Bytes written a commit of so many samples, checkpoints included."""
    clock = FakeClock()
    outbox = Outbox(
        store=Store(folder / f"outbox-{rows}.db"),
        clock=clock,
        run_id=RUN_ID,
        flush_interval_s=1.0,
        eviction=Eviction(max_bytes=1_000_000_000, max_age_s=1e9),
    )
    payloads = [encode(sample) for sample in samples(60)]
    outbox.open()
    before = flash_bytes_written() or 0
    sequence = 0
    for _ in range(commits):
        for _ in range(rows):
            payload = payloads[sequence % len(payloads)]
            sequence += 1
            outbox.put(Message(Kind.SAMPLE, RUN_ID, sequence, payload, None, clock.monotonic_s()))
            clock.advance(1 / rows)
        outbox.flush()
    written = (flash_bytes_written() or 0) - before
    outbox.close(sequence)
    return round(written / commits)


def data_mb(single: float, beside: float) -> dict[str, dict[str, float]]:
    """Megabytes of 24 hours, by mode and by ``batch_s``."""
    hum = (STATUS_BYTES + beside + KEEP_ALIVE_BYTES) * DAY_S / 60
    found: dict[str, dict[str, float]] = {}
    for mode, rate in RATES.items():
        found[mode] = {"batch_s=0": round((rate * DAY_S * single + hum) / 1e6, 1)}
        for batch_s in (10, 60):
            rows = int(min(rate * batch_s, 512))
            if rows > 1:
                batch = len(encode_batch_rows(drive(rows))) + beside
                found[mode][f"batch_s={batch_s}"] = round((DAY_S / batch_s * batch + hum) / 1e6, 1)
    return found


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "", samples=(200, "samples sent alone"), commits=(600, "commits measured")
    ).parse_args()
    with scratch() as folder, secured_broker(folder) as broker:
        progress("on the wire")
        (folder / "state").mkdir()
        on_the_wire = wire(folder / "state", broker, options.samples)
        progress("on the disk")
        commits = {rows: flash(folder, rows, options.commits) for rows in (1, 5, 25)}
    single = on_the_wire["payload_of_a_single"] + on_the_wire["beside_the_payload"]
    figures: dict[str, Any] = {
        "benchmark": "daily_budgets",
        "wire_bytes": on_the_wire,
        "data_mb_per_day": data_mb(single, on_the_wire["beside_the_payload"]),
        "flash_bytes_per_commit": {f"{rows}_samples": size for rows, size in commits.items()},
        "offline_flash_mb_per_day": {
            "in_trip": round(commits[5] * DAY_S / 1e6),
            "in_trip, flush_interval_s=5": round(commits[25] * DAY_S / 5 / 1e6),
            "normal": round(commits[1] * DAY_S / 1e6),
            "idle": round(commits[1] * DAY_S / 10 / 1e6),
            "saver": round(commits[1] * DAY_S / 60 / 1e6),
        },
    }
    show(figures, as_json=options.json)


if __name__ == "__main__":
    main()
