"""What was done and what stood there before: one file, ``/var/lib/milepost-board/board.json``.

Invariants:

1. It is written, and durable, before the first file is touched: whatever stood there before is
   in it (``original``), and so is everything that may stand there now (``accepted``).
2. A file whose digest is neither its original's nor accepted was changed by somebody else.
3. It is removed only when every original is back.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.board.render import How
from agent.board.standing import Standing
from agent.errors import StateError
from agent.files import write_atomically

FOLDER: Final = "var/lib/milepost-board"
"""Below the root. Not the agent's state directory: it is root's, and outlives the agent."""

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One place that was written to; ``how`` and ``content`` as last rendered."""

    path: str
    how: How
    content: str
    original: Standing
    accepted: frozenset[str]

    def knows(self, now: Standing) -> bool:
        """Whether ``now`` is something that we, or whoever was there before us, put there."""
        return now.digest == self.original.digest or now.digest in self.accepted


@dataclass(frozen=True, slots=True)
class Record:
    """``is_whole`` is false while an apply or undo is under way, and after it was cut off."""

    wanted: dict[str, Any]
    entries: tuple[Entry, ...] = ()
    folders: tuple[str, ...] = ()
    """Made by us, the outer before the inner."""
    is_whole: bool = True
    reboot_from: str = ""
    """The id of the boot that must end before all of it is in force."""

    def entry(self, path: str) -> Entry | None:
        """Of a target's path."""
        return next((entry for entry in self.entries if entry.path == path), None)


@dataclass(frozen=True, slots=True)
class Book:
    """Where the record is, for one root."""

    root: Path
    file: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", self.root / FOLDER / "board.json")

    def read(self) -> Record | None:
        """The record; ``None`` where nothing is applied.

        Raises:
            StateError: it cannot be read or understood.
        """
        try:
            return _record(json.loads(self.file.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StateError(f"{self.file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{self.file} is damaged: {error!r}",
                hint="It holds what stood in the changed files before. Put it right by hand, or "
                "move it away and apply again: then undo comes back to what is there now.",
            ) from error

    def write(self, record: Record) -> None:
        """Raises ``OSError``."""
        self.file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps(_told(record), indent=1).encode(), mode=0o644)

    def remove(self) -> None:
        """Everything is as it was before."""
        self.file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.file.parent.rmdir()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else applies or undoes meanwhile.

        Raises:
            StateError: somebody does, or this user may not.
        """
        try:
            self.file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StateError(
                f"{self.file.parent} cannot be made: {error.strerror}", hint="Run it with sudo."
            ) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise StateError(
                "another `board apply` or `undo` is running", hint="Wait for its end."
            ) from None
        finally:
            os.close(folder)


def _told(record: Record) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "is_whole": record.is_whole,
        "wanted": record.wanted,
        "folders": record.folders,
        "reboot_from": record.reboot_from,
        "entries": [
            {
                "path": entry.path,
                "how": entry.how.value,
                "content": entry.content,
                "original": _standing_told(entry.original),
                "accepted": sorted(entry.accepted),
            }
            for entry in record.entries
        ],
    }


def _standing_told(standing: Standing) -> dict[str, Any]:
    data = standing.data
    return {
        "data": None if data is None else base64.b64encode(data).decode("ascii"),
        "link": standing.link,
        "mode": standing.mode,
        "uid": standing.uid,
        "gid": standing.gid,
    }


def _record(told: dict[str, Any]) -> Record:
    if told["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version {told['schema_version']}, known is {SCHEMA_VERSION}")
    return Record(
        wanted=told["wanted"],
        is_whole=told["is_whole"],
        folders=tuple(told["folders"]),
        reboot_from=told["reboot_from"],
        entries=tuple(
            Entry(
                path=entry["path"],
                how=How(entry["how"]),
                content=entry["content"],
                original=_standing(entry["original"]),
                accepted=frozenset(entry["accepted"]),
            )
            for entry in told["entries"]
        ),
    )


def _standing(told: dict[str, Any]) -> Standing:
    data = told["data"]
    return Standing(
        data=None if data is None else base64.b64decode(data, validate=True),
        link=told["link"],
        mode=told["mode"],
        uid=told["uid"],
        gid=told["gid"],
    )
