"""The trusted time of this boot, kept for the next process of the same boot.

``time.json`` lies in the runtime directory, a tmpfs, so it costs no flash and is gone
after a power cut; the boot's id in it says so where the directory is no tmpfs.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agent.files import write_atomically
from agent.ports import TimeBase
from contract import TimeQuality

FILE_NAME: Final = "time.json"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)


class TimeAnchor:
    """The file. Neither method raises: without it the time is found anew."""

    def __init__(self, folder: Path, boot_id: str) -> None:
        self._path = folder / FILE_NAME
        self._boot_id = boot_id

    def load(self) -> TimeBase | None:
        """The base that an earlier process of this boot trusted."""
        if not self._boot_id:
            return None
        try:
            kept = json.loads(self._path.read_bytes())
            if kept["boot_id"] != self._boot_id:
                return None
            zero = _EPOCH + timedelta(microseconds=int(kept["zero_us"]))
            return TimeBase(zero, TimeQuality(kept["quality"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            _log.warning("%s cannot be used (%s); the time is found anew", self._path, error)
            return None

    def save(self, base: TimeBase) -> None:
        """Keep a trusted base."""
        if not self._boot_id or not base.trusted:
            return
        kept = {
            "boot_id": self._boot_id,
            "zero_us": (base.zero - _EPOCH) // timedelta(microseconds=1),
            "quality": base.quality.value,
        }
        try:
            write_atomically(self._path, json.dumps(kept).encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)
