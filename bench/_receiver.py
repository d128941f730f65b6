"""What the benchmarks of one GPS source share; it loads nothing that they do not measure."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.inputs import FixReceived, Inbox

ROOT = Path(__file__).resolve().parent.parent


def take_fixes(inbox: Inbox, duration_s: float) -> int:
    """How many new fixes come in so long."""
    count, ends_s = 0, time.monotonic() + duration_s
    while (left_s := ends_s - time.monotonic()) > 0:
        item = inbox.get(left_s)
        count += isinstance(item, FixReceived) and item.is_new
    return count


def words_given(description: str) -> argparse.Namespace:
    """``log``, ``baud``, ``duration`` and ``json`` of the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    drive = ROOT / "simulator" / "traces" / "default.nmea"
    parser.add_argument("--log", type=Path, default=drive, help="an NMEA log")
    parser.add_argument("--baud", type=int, default=9_600)
    parser.add_argument("--duration", type=float, default=20.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args()


def tell(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:20} {value}")
