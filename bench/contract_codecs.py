"""The contract's codecs: bytes a sample and samples a second, beside plain JSON.

The drive is the one of ``tests/contract``: 1 Hz, every group filled, noisy values. JSON
of a batch is an array, deflated as hard as ours, so the ratio shows what columns give.

    python bench/contract_codecs.py --json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contract import (
    decode_batch,
    decode_batch_rows,
    decode_sample,
    encode,
    encode_batch_rows,
)
from tests.contract.test_batch_codec import drive


def rate(work: Callable[[], Any], items: int, seconds: float) -> float:
    """Items a processor second, the best of three runs."""
    best = 0.0
    for _ in range(3):
        rounds, begun = 0, time.process_time()
        while (spent := time.process_time() - begun) < seconds / 3:
            work()
            rounds += 1
        best = max(best, rounds * items / spent)
    return round(best)


def figures(seconds: float) -> dict[str, Any]:
    """All of them."""
    rows = drive(60)
    one = json.dumps(rows[0], separators=(",", ":")).encode()
    sample = decode_sample(one)
    result: dict[str, Any] = {
        "benchmark": "contract_codecs",
        "json_bytes_per_sample": len(one),
        "json_decode_per_s": rate(lambda: decode_sample(one), 1, seconds),
        "json_encode_per_s": rate(lambda: encode(sample), 1, seconds),
    }
    for count in (10, 60):
        batch = rows[:count]
        payload = encode_batch_rows(batch)
        deflated = zlib.compress(json.dumps(batch, separators=(",", ":")).encode(), 9)
        result |= {
            f"batch_{count}_bytes_per_sample": round(len(payload) / count, 1),
            f"batch_{count}_deflated_json_bytes_per_sample": round(len(deflated) / count, 1),
        }
    payload = encode_batch_rows(rows)
    return result | {
        "batch_60_encode_per_s": rate(lambda: encode_batch_rows(rows), 60, seconds),
        "batch_60_decode_rows_per_s": rate(lambda: decode_batch_rows(payload), 60, seconds),
        "batch_60_decode_validated_per_s": rate(lambda: decode_batch(payload), 60, seconds),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    words = parser.parse_args()
    result = figures(words.seconds)
    if words.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:42} {value}")


if __name__ == "__main__":
    main()
