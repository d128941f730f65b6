"""The updater's journal: which step of which update is under way. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agent.updater.board import Board, UpdateError

JOURNAL: Final = "journal.json"
_FORMAT: Final = 1


class Step(StrEnum):
    """How far an update is; each step may be repeated from its beginning."""

    INSTALLING = "installing"
    """dpkg installs the new package."""
    CHECKING = "checking"
    """The new version must show that it is healthy."""
    ROLLING_BACK = "rolling back"
    """dpkg installs the package from before."""
    RESTARTING = "restarting"
    """The version from before is started."""
    TELLING = "telling"
    """It is over; the result is being written."""


class Health(StrEnum):
    """What counts as healthy."""

    ACKNOWLEDGED = "acknowledged"
    """The service is up, and the cloud has acknowledged a message of its new run."""
    STARTED = "started"
    """The service is up; for a board at a bench without a network."""


@dataclass(frozen=True, slots=True)
class Update:
    """What is known of the update under way."""

    board: Board
    from_version: str
    to_version: str
    job_id: str = ""
    """Empty for one that was started by hand: nobody waits for its result in the inbox."""
    health: Health = Health.ACKNOWLEDGED
    health_timeout_s: float = 900.0
    step: Step = Step.INSTALLING
    tries: int = 0
    """How often this step was begun."""
    succeeded: bool = False
    reason: str = ""

    def at(self, step: Step, **changes: Any) -> Update:
        """The same, at the beginning of another step."""
        return replace(self, step=step, tries=0, **changes)


def save(update: Update) -> None:
    """Keep it in place of the last; durable on return.

    Raises:
        OSError: it cannot be written; the last one stays.
    """
    values = {"format": _FORMAT, **asdict(update), "board": update.board.as_json()}
    write_durably(update.board.home / JOURNAL, json.dumps(values, indent=1).encode() + b"\n")


def load(home: Path) -> Update | None:
    """The update under way, if there is one.

    Raises:
        UpdateError: the journal cannot be read or is of another version.
    """
    try:
        values = json.loads((home / JOURNAL).read_bytes())
        if values.pop("format") != _FORMAT:
            raise UpdateError(f"{home / JOURNAL} is of another version of the updater")
        return Update(
            **{
                **values,
                "board": Board.from_json(values["board"]),
                "step": Step(values["step"]),
                "health": Health(values["health"]),
            }
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UpdateError(f"{home / JOURNAL} cannot be used: {error}") from error


def remove(home: Path) -> None:
    """The update is over."""
    (home / JOURNAL).unlink(missing_ok=True)
    sync_folder(home)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One updater at a time; waits for the other to end."""
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (home / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file so that a power cut leaves the old or the new one."""
    draft = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
