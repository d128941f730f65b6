"""Which baud rate a receiver speaks at: the order of trying, and what was found before.

At a wrong rate a line gives noise, never a sentence with a sound checksum (one in 256 of
what looks like a sentence has one by chance; nothing that looks like one comes up).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.sources.gps.device_file import load_numbers, save_numbers

LISTEN_S: Final = 2.5
"""Some receivers speak once in two seconds only."""

ENOUGH_NOISE_BYTES: Final = 600
"""More than one sentence begins in so many bytes at the right rate."""

LIKELY: Final = (9_600, 115_200, 38_400, 4_800, 57_600, 230_400, 460_800, 921_600, 19_200)
"""Factory settings of receivers first."""

BAUD_FILE: Final = "serial-gps.json"

_MOST_BAUD: Final = 10_000_000


def bauds_to_try(configured: int, remembered: int | None) -> list[int]:
    """The configured one alone, or the remembered one and then the likely ones."""
    if configured:
        return [configured]
    first = [] if remembered is None else [remembered]
    return first + [baud for baud in LIKELY if baud != remembered]


class BaudMemory:
    """The baud rate of each device, in a small file of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / BAUD_FILE

    def recall(self, device: str) -> int | None:
        """What was found last time, or ``None``."""
        return self._load().get(device)

    def keep(self, device: str, baud: int) -> None:
        """Remember it, if it is something new."""
        known = self._load()
        if known.get(device) != baud:
            save_numbers(self._path, known | {device: baud})

    def _load(self) -> dict[str, int]:
        found = load_numbers(self._path, 1, _MOST_BAUD)
        return {device: int(baud) for device, baud in found.items()}
