"""The ledger with a million messages of one vehicle: what ingest pays, what `gaps` costs.

    python bench/accounting.py --messages 1000000

Every tenth message is missing in one stretch of a tenth of the run, as after thinning. Beside
the command stands what it would take to find the same gaps by a scan of the history.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from _peers import ROOT, arguments, progress, show, spread

from cloud.accounting.ledger import Arrival, Change
from cloud.ports import EnrichedSample
from cloud.stores.sqlite import SqliteStores

START = datetime(2025, 1, 15, 12, tzinfo=UTC)
CHUNK = 500
"""A function's batch, as in the template."""
RUN = "f3a1c2d4"
SCAN = """
    SELECT count(*) FROM (SELECT sequence, LAG(sequence, 1, 0) OVER (ORDER BY sequence) AS previous
    FROM history WHERE vehicle_id = 'van-1' AND run_id = ?) WHERE sequence > previous + 1
"""


def main() -> None:
    """Fill a data directory, then measure."""
    words = arguments(__doc__, messages=(1_000_000, "how many the run has")).parse_args()
    with tempfile.TemporaryDirectory(prefix="milepost-bench-") as folder:
        show(measure(int(words.messages), Path(folder)), as_json=words.json)


def measure(messages: int, folder: Path) -> dict[str, Any]:
    """All figures."""
    progress(f"storing {messages} messages")
    stores = SqliteStores.open(folder)
    thinned = range(messages // 2, messages // 2 + messages // 10)
    sequences = [n for n in range(1, messages + 1) if n not in thinned or n % 10]
    history_s = ledger_s = 0.0
    for start in range(0, len(sequences), CHUNK):
        chunk = sequences[start : start + CHUNK]
        rows = [_row(n) for n in chunk]
        began_s = time.perf_counter()
        stores.hot.put_samples(rows)
        history_s += time.perf_counter() - began_s
        at_ms = round(START.timestamp() * 1000)
        arrivals = [
            Arrival(n, at_ms + n * 1000, at_ms + n * 1000 + 80, is_event=False) for n in chunk
        ]
        began_s = time.perf_counter()
        stores.ledger.record([Change("van-1", RUN, at_ms, arrivals)])
        ledger_s += time.perf_counter() - began_s
    ((blocks, size),) = stores.database.read("SELECT count(*), sum(length(ranges)) FROM run_blocks")
    began_s = time.perf_counter()
    ((gaps,),) = stores.database.read(SCAN, (RUN,))
    scan_s = time.perf_counter() - began_s
    stores.close()
    command = [sys.executable, "-m", "cloud", "gaps", "--vehicle", "van-1", "--data", str(folder)]
    took_s = []
    for _ in range(3):
        began_s = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        took_s.append(time.perf_counter() - began_s)
    began_s = time.perf_counter()
    subprocess.run([*command[:3], "--help"], cwd=ROOT, check=True, capture_output=True)
    stored = len(sequences)
    return {
        "benchmark": "accounting",
        "messages": stored,
        "gaps": gaps,
        "history_us_per_row": round(1e6 * history_s / stored, 1),
        "ledger_us_per_row": round(1e6 * ledger_s / stored, 1),
        "blocks": blocks,
        "blocks_bytes": size,
        "scan_of_the_history_s": round(scan_s, 2),
        "gaps_command_s": spread(took_s),
        "start_of_the_command_alone_s": round(time.perf_counter() - began_s, 2),
    }


def _row(sequence: int) -> EnrichedSample:
    taken = START + timedelta(seconds=sequence)
    payload = b'{"vehicle_id":"van-1","sequence":%d,"pad":"%s"}' % (sequence, b"x" * 300)
    return EnrichedSample(
        "van-1", RUN, sequence, taken, 50.1, 8.7, "electric_van", "u0yjjd1", taken, payload
    )


if __name__ == "__main__":
    main()
