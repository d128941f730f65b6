"""Each receiver's own cycle, kept in a small file while a trip has it changed.

Neither a killed agent nor gpsd puts it back: gpsd's u-blox driver does nothing when the last
client leaves, a running gpsd goes on telling the trip's cycle, and one that was started anew
tells 1 s of any u-blox. The next run would take either for the receiver's own.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.files import write_atomically

CYCLE_FILE: Final = "gps-cycle.json"

_log = logging.getLogger(__name__)


class CycleMemory:
    """By device, seconds. Not thread-safe: it is the GPS thread's."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / CYCLE_FILE
        self._changed_s = self._load()

    def recall(self, device: str) -> float | None:
        """The own cycle of a receiver that was not given it back; ``None`` of any other."""
        return self._changed_s.get(device)

    def recall_all(self) -> dict[str, float]:
        """The own cycles of all such receivers."""
        return dict(self._changed_s)

    @contextlib.contextmanager
    def changing(self, device: str, own_s: float, cycle_s: float) -> Iterator[None]:
        """Around the command that sets ``cycle_s``: known before it, forgotten once undone."""
        if cycle_s != own_s and self._changed_s.get(device) != own_s:
            self._changed_s[device] = own_s
            self._save()
        yield
        if cycle_s == own_s and self._changed_s.pop(device, None) is not None:
            self._save()

    def _save(self) -> None:
        data = json.dumps(self._changed_s, indent=2) + "\n"
        try:
            write_atomically(self._path, data.encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)

    def _load(self) -> dict[str, float]:
        try:
            known = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {
            device: float(cycle_s)
            for device, cycle_s in known.items()
            if isinstance(cycle_s, int | float) and 0.01 <= cycle_s <= 3_600
        }
