"""A mark that this run has reached the cloud, for the updater (``agent.updater.health``).

In the runtime directory, a tmpfs: it costs no flash, and a later boot does not find it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from agent.files import write_atomically
from agent.host import boottime_s

FILE_NAME: Final = "health.json"

_log = logging.getLogger(__name__)


class HealthMark:
    """Written at the run's first PUBACK; never raises."""

    def __init__(self, runtime_dir: Path, *, boot_id: str, run_id: str) -> None:
        self._path = runtime_dir / FILE_NAME
        self._identity = {"boot_id": boot_id, "run_id": run_id}

    def acknowledged(self) -> None:
        """The cloud has acknowledged a message of this run."""
        mark = {**self._identity, "acknowledged_s": boottime_s()}
        try:
            write_atomically(self._path, json.dumps(mark).encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)
