"""What the outbox costs the disk: inserts/s and bytes a sample offline, bytes an hour online.

Offline the agent's outbox takes samples and commits them in groups; beside it plain
``sqlite3`` does the same into one table of the same columns, WAL and ``synchronous=FULL``
too. The two take turns. Bytes are ``write_bytes`` of ``/proc/self/io``: what went to the
block layer, log and checkpoints included, the file system's own journal not.

Online the agent itself (``milepost-agent run``) delivers 1 to 5 samples/s to a Mosquitto;
what its process writes is scaled to an hour.

    python bench/offline.py --samples 20000 --online-seconds 60
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _peers import (
    RUN_ID,
    account,
    arguments,
    progress,
    running_agent,
    samples,
    scratch,
    secured_broker,
    show,
    spread,
    written_bytes,
)

from agent.host import SystemClock
from agent.outbox import Eviction, Kind, Message, Outbox, Store
from contract import encode

GROUPS = {5: "1 s at 5 samples/s", 100: "100", 1_000: "1000"}


Insert = Callable[[Sequence[bytes], int], None]


def open_outbox(folder: Path) -> Insert:
    """The agent's own."""
    clock = SystemClock(kernel_is_synchronised=lambda: True)
    box = Outbox(
        store=Store(folder / "outbox.db"),
        clock=clock,
        run_id=RUN_ID,
        flush_interval_s=1.0,
        eviction=Eviction(max_bytes=10_000_000_000, max_age_s=1e9),
    )
    box.open()

    def insert(payloads: Sequence[bytes], group: int) -> None:
        taken_ms = int(clock.utc().timestamp() * 1000)
        for number, payload in enumerate(payloads, start=1):
            box.put(Message(Kind.SAMPLE, RUN_ID, number, payload, taken_ms, clock.monotonic_s()))
            if number % group == 0:
                box.flush()
        assert box.on_disk() == len(payloads)
        box.close()

    return insert


def open_plain(folder: Path) -> Insert:
    """What anybody would write."""
    db = sqlite3.connect(folder / "plain.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(
        "CREATE TABLE samples (id INTEGER PRIMARY KEY, run_id TEXT, sequence INTEGER,"
        " taken_ms INTEGER, payload BLOB)"
    )

    def insert(payloads: Sequence[bytes], group: int) -> None:
        taken_ms = int(SystemClock().utc().timestamp() * 1000)
        for first in range(0, len(payloads), group):
            rows = [
                (RUN_ID, first + index, taken_ms, payload)
                for index, payload in enumerate(payloads[first : first + group])
            ]
            db.execute("BEGIN")
            db.executemany(
                "INSERT INTO samples (run_id, sequence, taken_ms, payload) VALUES (?, ?, ?, ?)",
                rows,
            )
            db.execute("COMMIT")
        db.close()

    return insert


def measured(
    make: Callable[[Path], Insert], folder: Path, payloads: Sequence[bytes], group: int
) -> tuple[float, float]:
    """Inserts/s and bytes written a sample, into a new file that is open, until it is closed."""
    folder.mkdir()
    insert = make(folder)
    written, begun = _written(), time.perf_counter()
    insert(payloads, group)
    spent_s = time.perf_counter() - begun
    return len(payloads) / spent_s, (_written() - written) / len(payloads)


def _written() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def offline(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Both, for each size of group."""
    payloads = [encode(sample) for sample in samples(count)]
    figures: dict[str, Any] = {"payload_bytes": len(payloads[0])}
    for group, meaning in GROUPS.items():
        rates: dict[str, list[float]] = {"outbox": [], "plain": []}
        sizes: dict[str, list[float]] = {"outbox": [], "plain": []}
        # small groups wait for the disk: fewer of them tell as much
        part = payloads[: min(count, max(500, group * 200))]
        for number in range(rounds):
            for name, make in (("outbox", open_outbox), ("plain", open_plain)):
                place = folder / f"{name}-{group}-{number}"
                rate, size = measured(make, place, part, group)
                rates[name].append(rate)
                sizes[name].append(size)
        inserts = {name: spread(found) for name, found in rates.items()}
        written = {name: spread(found) for name, found in sizes.items()}
        figures[f"group_of_{group}"] = {
            "meaning": meaning,
            "inserts_per_s": inserts,
            "bytes_written_per_sample": written,
            "ratio_inserts": round(inserts["outbox"]["median"] / inserts["plain"]["median"], 2),
            "ratio_bytes": round(written["outbox"]["median"] / written["plain"]["median"], 2),
        }
        progress(f"groups of {group}: {figures[f'group_of_{group}']}")
    return figures


def online(folder: Path, seconds: float) -> dict[str, Any]:
    """The agent's process, connected all the time."""
    with secured_broker(folder) as broker, running_agent(folder, broker) as pid:
        while not (before := account(folder)) or before["samples_acknowledged"] < 3:
            time.sleep(0.1)
        # what the start writes is not the steady state
        time.sleep(5)
        written, begun = written_bytes(pid), time.perf_counter()
        before = account(folder)
        time.sleep(seconds)
        after = account(folder)
        spent_s = time.perf_counter() - begun
        growth = written_bytes(pid) - written
    assert before is not None
    assert after is not None
    return {
        "seconds": round(spent_s, 1),
        "samples": after["samples_created"] - before["samples_created"],
        "bytes_written": growth,
        "bytes_written_per_hour": round(growth / spent_s * 3_600),
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(
        __doc__,
        samples=(20_000, "samples in the largest groups' rounds"),
        rounds=(3, "rounds in which the two take turns"),
        online_seconds=(45.0, "seconds of the online measurement; 0 for none"),
    )
    words = parser.parse_args()
    with scratch() as folder:
        figures = {
            "benchmark": "offline",
            "offline": offline(folder, words.samples, words.rounds),
        }
        if words.online_seconds:
            progress(f"online for {words.online_seconds:.0f} s")
            figures["online"] = online(folder, words.online_seconds)
    show(figures, as_json=words.json)


if __name__ == "__main__":
    main()
