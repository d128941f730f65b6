"""One agent per state directory: two would send the same rows and tell two accounts."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Final

from agent.errors import StateError

LOCK_FILE: Final = "agent.lock"


class StateLock:
    """Held from ``take`` to ``release``, or to the end of the process, however it ends."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Make the directory if it is not there.

        Raises:
            StateError: it cannot be used, or another agent uses it.
        """
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            file = (self._state_dir / LOCK_FILE).open("ab")
        except OSError as error:
            raise StateError(
                f"state.dir: cannot use {self._state_dir}: {error.strerror}",
                hint="Create it and give it to the user that the agent runs as.",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StateError(
                f"state.dir: another agent uses {self._state_dir}",
                hint="Stop it first, or give this one a state.dir of its own.",
            ) from None
        self._file = file

    def release(self) -> None:
        """Let another agent have it; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
