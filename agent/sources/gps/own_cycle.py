"""Each receiver's own cycle, kept in a small file while a trip has it changed.

Neither a killed agent nor gpsd puts it back: gpsd's u-blox driver does nothing when the last
client leaves, a running gpsd goes on telling the trip's cycle, and one that was started anew
tells 1 s of any u-blox. The next run would take either for the receiver's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.sources.gps.device_file import load_numbers, save_numbers

CYCLE_FILE: Final = "gps-cycle.json"

_LEAST_S: Final = 0.01
_MOST_S: Final = 3_600.0


class CycleMemory:
    """By device, seconds. Not thread-safe: it is the GPS thread's."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / CYCLE_FILE
        self._changed_s = load_numbers(self._path, _LEAST_S, _MOST_S)

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
            save_numbers(self._path, self._changed_s)
        yield
        if cycle_s == own_s and self._changed_s.pop(device, None) is not None:
            save_numbers(self._path, self._changed_s)
