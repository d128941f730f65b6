"""The journal: the one job at hand, kept over power cuts in ``jobs/current.json``.

Invariants:

1. It is written before anything is done: before the cloud hears that a job begins
   (``CLAIMING``), before its operation begins (``RUNNING``), and when it has ended, before
   that is told (``ENDED``). Each write is atomic and synced.
2. It is removed when the cloud has taken the end over, or does not know the job any more.
   So whatever is cut off, the next process knows whether a job was begun and how it ended.
3. What cannot be read is set aside and never guessed at; the cloud then hears that the
   job was lost.

``jobs/last.json`` tells people of the job that ended last; nothing depends on it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agent.errors import StateError
from agent.files import write_atomically
from contract.jobs import JobStatus

FOLDER_NAME: Final = "jobs"
CURRENT: Final = "current.json"
LAST: Final = "last.json"
_FORMAT: Final = 1

_log = logging.getLogger("agent.jobs")


class Step(StrEnum):
    """How far a job is."""

    CLAIMING = "claiming"
    """The cloud is being told that it begins; nothing is done yet."""

    RUNNING = "running"
    """Its operation was begun."""

    ENDED = "ended"
    """It is over; the cloud is being told how."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of the job at hand."""

    job_id: str
    execution_number: int
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    step: Step = Step.CLAIMING
    state: Mapping[str, Any] = field(default_factory=dict)
    """The operation's own."""
    resumes: int = 0
    """How often it was gone on with by a later process."""
    status: JobStatus = JobStatus.IN_PROGRESS
    """How it ended; a terminal one with ``ENDED`` alone."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What the operator is told."""

    def ended(self, status: JobStatus, details: Mapping[str, str]) -> Entry:
        """The same, over."""
        return replace(self, step=Step.ENDED, status=status, details=dict(details))


class Journal:
    """The file; used by one thread at a time."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER_NAME

    def load(self) -> Entry | None:
        """The job at hand, if there is one. A damaged file is set aside."""
        path = self._folder / CURRENT
        try:
            return _parsed(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read: %s", path, error)
        except (ValueError, TypeError, RecursionError) as error:
            _log.warning("%s is damaged and set aside: %s", path, error)
            try:
                path.replace(path.with_name(path.name + ".damaged"))
            except OSError as problem:
                _log.warning("%s cannot be set aside: %s", path, problem)
        return None

    def save(self, entry: Entry) -> None:
        """Keep the entry in place of the one before.

        Raises:
            StateError: it could not be written; the old one stays.
        """
        try:
            data = json.dumps({"format": _FORMAT, **asdict(entry)}, allow_nan=False)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._folder / CURRENT, data.encode())
        except (OSError, ValueError, TypeError) as error:
            raise StateError(
                f"the journal of job {entry.job_id} cannot be written: {error}",
                hint="Is the disk full or read-only? `milepost-agent doctor` looks.",
            ) from error

    def remove(self, entry: Entry) -> None:
        """The cloud has taken the end over; a file that stays only tells the end again."""
        try:
            (self._folder / CURRENT).unlink(missing_ok=True)
            write_atomically(self._folder / LAST, json.dumps(asdict(entry)).encode())
        except (OSError, ValueError) as error:
            _log.warning("the journal of job %s cannot be removed: %s", entry.job_id, error)

    def last(self) -> dict[str, Any] | None:
        """The job that ended last, for people; from any thread."""
        try:
            note = json.loads((self._folder / LAST).read_bytes())
            return {key: note[key] for key in ("job_id", "operation", "status", "details")}
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _parsed(data: bytes) -> Entry:
    document = json.loads(data)
    if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
        raise ValueError(f"is not of format {_FORMAT}")
    step, status = Step(document.pop("step", "")), JobStatus(document.pop("status", ""))
    entry = Entry(**document, step=step, status=status)
    if not isinstance(entry.job_id, str) or type(entry.execution_number) is not int:
        raise ValueError("names no job")
    maps = (entry.parameters, entry.state, entry.details)
    if not all(isinstance(one, dict) for one in maps) or type(entry.resumes) is not int:
        raise ValueError("has values of wrong types")
    if (step is Step.ENDED) != status.is_terminal:
        raise ValueError(f"is {step} with {status}")
    return entry
