"""A backlog of 1,000,000 samples: start to first live publish, drain rate, peak memory.

The agent itself (``milepost-agent run``) is started on an outbox that holds the backlog,
with its config's limits at AWS IoT Core's: 100 publishes/s, 512 KB/s. GPS comes from the
simulator's gpsd server, the broker is a real Mosquitto with mutual TLS. Measured:

- seconds from the start of the process to the PUBACK of its first own sample
- samples/s while the backlog drains, and how much of the two token buckets that takes
- the process's RSS at the start of the drain and its peak, CPU seconds a sample

    python bench/drain.py --samples 1000000 --seconds 90
    python bench/drain.py --samples 100000 --json
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from _peers import (
    SecuredBroker,
    account,
    arguments,
    cpu_s,
    memory_mb,
    progress,
    running_agent,
    samples,
    scratch,
    secured_broker,
    show,
    written_bytes,
)

from agent.host import SystemClock
from agent.outbox import Batch, Kind, Message, Store
from contract import encode

EARLIER_RUN = "0be1c4a1"
PUBLISHES_PER_S = 100
BYTES_PER_S = 512_000
_CHUNK = 10_000


def fill(path: Path, count: int) -> float:
    """Write a backlog as an earlier run would have left it; the file's size in MB."""
    store = Store(path)
    store.open(EARLIER_RUN)
    hour = [encode(sample) for sample in samples(3_600)]
    begun_ms = int(SystemClock().utc().timestamp() * 1000) - 1_000 * count
    for first in range(1, count + 1, _CHUNK):
        rows = []
        for number in range(first, min(first + _CHUNK, count + 1)):
            payload = hour[number % len(hour)]
            payload = payload.replace(b'"0be1c4a2"', b'"%s"' % EARLIER_RUN.encode())
            payload = payload.replace(
                b'"sequence":%d,' % (number % len(hour) + 1), b'"sequence":%d,' % number
            )
            taken_ms = begun_ms + 1_000 * number
            rows.append((number, Message(Kind.SAMPLE, EARLIER_RUN, number, payload, taken_ms, 0.0)))
        store.commit(Batch(inserts=rows))
    store.close()
    return round(path.stat().st_size / 1e6, 1)


def measure(folder: Path, broker: SecuredBroker, words: Any) -> dict[str, Any]:
    """All figures of one start."""
    progress(f"writing {words.samples} samples")
    size_mb = fill(folder / "state" / "outbox.db", words.samples)
    limits = f"""
[delivery]
max_publishes_per_s = {PUBLISHES_PER_S}
max_bytes_per_s = {BYTES_PER_S}
in_flight = {words.window}
hold_unsynced_s = 0

[outbox]
max_mb = 10000
"""
    progress("starting the agent")
    started = time.perf_counter()
    with running_agent(folder, broker, limits) as pid:
        return watch(pid, folder, started, words) | {"outbox_file_mb": size_mb}


def watch(pid: int, folder: Path, started: float, words: Any) -> dict[str, Any]:
    """From the first live PUBACK until the backlog is gone or the time is over."""
    deadline = time.monotonic() + 60
    while not (first := account(folder)) or first["samples_acknowledged"] == 0:
        if time.monotonic() > deadline or not Path(f"/proc/{pid}/io").exists():
            sys.exit(f"no publish within 60 s: {(folder / 'agent.log').read_text()}")
        time.sleep(0.01)
    first_live_s = round(time.perf_counter() - started, 2)
    before_mb = memory_mb(pid)["rss_mb"]
    cpu, written, begun = cpu_s(pid), written_bytes(pid), time.perf_counter()
    peak_mb, last = before_mb, first
    while last["inherited_acknowledged"] < words.samples:
        if time.perf_counter() - begun > words.seconds:
            break
        time.sleep(0.25)
        now = account(folder)
        if now is not None:
            last, at = now, time.perf_counter()
        peak_mb = max(peak_mb, memory_mb(pid)["rss_mb"])
    spent_s = at - begun
    drained = last["inherited_acknowledged"] - first["inherited_acknowledged"]
    publishes = last["publishes"] - first["publishes"]
    sent = last["bytes_published"] - first["bytes_published"]
    return {
        "benchmark": "drain",
        "backlog_samples": words.samples,
        "start_to_first_publish_s": first["first_publish_s"],
        "start_to_first_live_publish_s": first_live_s,
        "drained_samples": drained,
        "seconds": round(spent_s, 1),
        "samples_per_s": round(drained / spent_s),
        "publishes_per_s": round(publishes / spent_s, 1),
        "percent_of_publish_bucket": round(100 * publishes / spent_s / PUBLISHES_PER_S, 1),
        "bytes_per_s": round(sent / spent_s),
        "percent_of_byte_bucket": round(100 * sent / spent_s / BYTES_PER_S, 1),
        "payload_bytes_per_sample": round(sent / max(1, drained), 1),
        "cpu_us_per_sample": round((cpu_s(pid) - cpu) / max(1, drained) * 1e6, 1),
        "cpu_percent_of_one_core": round(100 * (cpu_s(pid) - cpu) / spent_s, 1),
        "flash_bytes_per_sample": round((written_bytes(pid) - written) / max(1, drained), 1),
        "rss_mb_at_start": before_mb,
        "rss_mb_peak": peak_mb,
        "dropped": last["dropped_messages"],
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(
        __doc__,
        samples=(1_000_000, "samples in the outbox"),
        seconds=(90, "seconds to drain at most"),
        window=(20, "publishes that may await their PUBACK"),
    )
    words = parser.parse_args()
    with scratch() as folder, secured_broker(folder) as broker:
        figures = measure(folder, broker, words)
    show(figures, as_json=words.json)


if __name__ == "__main__":
    main()
