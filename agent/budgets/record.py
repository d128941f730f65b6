"""The counters' file: ``budget.json`` in the state directory.

Written by temporary file, fsync and rename at the start, at an orderly stop, when a stage
or the day changes, and when 2 % of a cap were used since; so some 100 times a day at most,
12 KB each, which the flash budget counts too.

A power cut loses what was counted since. Half a step is then added, which is right on
average: each power cut is off by at most 1 % of the cap. What has no cap has no steps.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from agent.budgets.table import Budget, Stage
from agent.files import write_atomically

FILE_NAME: Final = "budget.json"
STEP_SHARE: Final = 0.02
"""Of a cap: what is counted before the file is written again."""

_log = logging.getLogger("agent.budgets")


def _zeros() -> dict[Budget, int]:
    return dict.fromkeys(Budget, 0)


def _within() -> dict[Budget, Stage]:
    return dict.fromkeys(Budget, Stage.WITHIN)


@dataclass(slots=True)
class Record:
    """One day's counters. ``stages`` are those that an event has told of."""

    day: date | None = None
    elapsed_s: float = 0.0
    used_bytes: dict[Budget, int] = field(default_factory=_zeros)
    stages: dict[Budget, Stage] = field(default_factory=_within)
    running: bool = False
    """Not an orderly end: the agent ran, and may have used more than this."""


def load(folder: Path, cap_bytes: Mapping[Budget, int]) -> Record:
    """The counters of the run before, with what its end may have kept from being written."""
    record = read(folder)
    if record.running:
        for budget, cap in cap_bytes.items():
            record.used_bytes[budget] += round(cap * STEP_SHARE / 2)
    return record


def read(folder: Path) -> Record:
    """The file as it is; zeros where there is none or it cannot be read."""
    path = folder / FILE_NAME
    try:
        return _parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("%s cannot be used (%s); the day's budgets begin anew", path, error)
        return Record()


def save(folder: Path, record: Record) -> bool:
    """Whether it was written; a disk that takes nothing costs only the count over a restart."""
    data = {
        "day": record.day.isoformat() if record.day else None,
        "elapsed_s": round(record.elapsed_s, 1),
        "used_bytes": {budget.value: used for budget, used in record.used_bytes.items()},
        "stages": {budget.value: stage.name.lower() for budget, stage in record.stages.items()},
        "running": record.running,
    }
    try:
        write_atomically(folder / FILE_NAME, json.dumps(data).encode())
    except OSError:
        return False
    return True


def _parse(data: Any) -> Record:
    record = Record(
        day=date.fromisoformat(data["day"]) if data["day"] is not None else None,
        elapsed_s=float(data["elapsed_s"]),
        used_bytes={budget: int(data["used_bytes"][budget]) for budget in Budget},
        stages={budget: Stage[data["stages"][budget].upper()] for budget in Budget},
        running=bool(data["running"]),
    )
    # not (x >= 0) and not x < 0: NaN is what json.loads takes for a number too
    if not all(number >= 0 for number in (record.elapsed_s, *record.used_bytes.values())):
        raise ValueError("a negative count")
    return record
