"""The demo's folder.

::

    DIR/demo.json             says that this is a demo's folder
    DIR/report.json           the last run's report
    DIR/cloud/                what milepost-cloud serve --data has
    DIR/vehicles/ID/          agent.toml, ca.pem, certificate.pem, key.pem, state/
    DIR/logs/                 one file a process

Each run begins with an empty folder, so that figures never mix: what the last demo left
is removed. A folder with anything else in it is refused, never emptied.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from simulator.demo.errors import DemoError

MARKER: Final = "demo.json"
LOCK: Final = ".lock"
OURS: Final = frozenset({MARKER, LOCK, "report.json", "cloud", "vehicles", "logs", "fleet.toml"})


class Workspace:
    """The folder, held by this process alone until ``close``."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.cloud = self.path / "cloud"
        self.logs = self.path / "logs"
        self.report = self.path / "report.json"
        self.fleet = self.path / "fleet.toml"
        self.runtime = Path()
        """A short path for sockets, whose names may have 107 bytes; removed at the end."""
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Take the folder and empty it of the last demo.

        Raises:
            DemoError: it holds something else, another demo has it, or it is not writable.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_foreign()
            self._take()
            self._clear()
            self.logs.mkdir()
            (self.path / "vehicles").mkdir()
            self.runtime = Path(tempfile.mkdtemp(prefix="milepost-"))
        except OSError as error:
            raise DemoError(
                f"cannot use the folder {self.path}: {error.strerror or error}",
                hint="choose a folder that you may write to with --data",
            ) from error

    def vehicle(self, vehicle_id: str) -> Path:
        """The folder of one vehicle."""
        return self.path / "vehicles" / vehicle_id

    def close(self) -> None:
        """Let go of the folder; what is in it stays. Idempotent."""
        if self.runtime != Path():
            shutil.rmtree(self.runtime, ignore_errors=True)
            self.runtime = Path()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _refuse_foreign(self) -> None:
        names = {entry.name for entry in self.path.iterdir()}
        if not names:
            return
        foreign = sorted(names - OURS)
        if foreign or (MARKER not in names and names != {LOCK}):
            shown = ", ".join((foreign or sorted(names))[:3])
            raise DemoError(
                f"{self.path} is not a demo's folder: it holds {shown}",
                hint="choose an empty or a new folder with --data",
            )

    def _take(self) -> None:
        self._lock = (self.path / LOCK).open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise DemoError(
                f"another demo is running in {self.path}",
                hint="stop it with Ctrl-C, or choose another folder with --data",
            ) from None

    def _clear(self) -> None:
        for name in OURS - {LOCK, MARKER}:
            target = self.path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                with suppress(FileNotFoundError):
                    target.unlink()
        text = json.dumps({"what": "the folder of milepost-sim demo; the next demo empties it"})
        (self.path / MARKER).write_text(text + "\n", encoding="utf-8")
