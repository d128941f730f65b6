"""The agent's directories at a start: made, usable, and this vehicle's."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Final

from agent.child import run_python
from agent.config import StateSettings
from agent.errors import StateError
from agent.files import write_atomically

VEHICLE_FILE: Final = "vehicle-id"
"""Whose state a directory holds."""

_log = logging.getLogger(__name__)


def prepare(state: StateSettings) -> None:
    """Make the directories where they are not there.

    Raises:
        StateError: one cannot be made or used; names the key of the config.
    """
    for key, folder in (("state.dir", state.dir), ("state.runtime_dir", state.runtime_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise StateError(
                f"{key}: cannot use {folder}: {error.strerror}",
                hint="Create it for the user that the agent runs as, or set another.",
            ) from None


def claim(folder: Path, vehicle_id: str) -> None:
    """Refuse another vehicle's state: its messages would go out under this one's name.

    Raises:
        StateError: the directory is another vehicle's; names both.
    """
    mark = folder / VEHICLE_FILE
    try:
        owner = mark.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        try:
            write_atomically(mark, f"{vehicle_id}\n".encode())
        except OSError as error:
            # the outbox says what a full disk means; the mark is made at a later start
            _log.warning("%s cannot be written: %s", mark, error)
        return
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read {mark}: {error}", hint="Restore or remove it.") from None
    if owner != vehicle_id:
        raise StateError(
            f"state.dir: {folder} holds what {owner} has not delivered yet, "
            f"and this is {vehicle_id}",
            hint=f"Give {vehicle_id} a state.dir of its own; or let {owner} deliver, see that "
            f"`milepost-agent outbox status` says nothing waits, and remove {mark}.",
        )


def make_first_outbox(path: Path) -> threading.Thread:
    """Make a new outbox's tables in a process of its own, beside whatever else starts.

    Only a new file needs sqlite-utils, and it brings up to 20 MB that would stay. If this
    fails for any reason, the outbox makes its tables itself and says what is wrong.
    """
    program = (
        "import sys, pathlib; from agent.outbox.schema import migrate; "
        "migrate(pathlib.Path(sys.argv[1]), 0)"
    )

    def make() -> None:
        if not path.exists():
            with contextlib.suppress(OSError, TimeoutError):
                run_python("-c", program, str(path), timeout_s=30)

    thread = threading.Thread(target=make, name="first-outbox", daemon=True)
    thread.start()
    return thread
