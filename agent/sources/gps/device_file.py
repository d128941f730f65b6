"""A number for each receiver, in a small file of the state directory."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from agent.files import write_atomically

_log = logging.getLogger(__name__)


def load_numbers(path: Path, least: float, most: float) -> dict[str, float]:
    """What was kept, by device; empty where there is no such file or it makes no sense."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {
        device: number
        for device, number in known.items()
        if isinstance(number, int | float) and least <= number <= most
    }


def save_numbers(path: Path, numbers: Mapping[str, float]) -> None:
    """Keep them; a file that cannot be written is logged, for each can be found out again."""
    data = json.dumps(dict(numbers), indent=2) + "\n"
    try:
        write_atomically(path, data.encode())
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error)
