"""Damaged files by name, and the record of their salvage in the file that replaced them.

``outbox.db.damaged-1`` waits for its salvage and is ``outbox.db.salvaged-1`` after it;
it is never deleted. Progress is committed together with the rows that it brought, so a
salvage that a power cut ends goes on where it was.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Final

from agent.outbox.batch import Row, SalvageJob
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.message import Kind

SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_DAMAGED: Final = "damaged"
_SALVAGED: Final = "salvaged"
_SHIFT: Final = 2**48
"""Salvaged ids go this far down: below every new one, in their old order."""


def kept_files(path: Path) -> list[Path]:
    """Damaged files, salvaged or not, in the order in which they were set aside."""
    found = []
    for word in (_DAMAGED, _SALVAGED):
        for file in path.parent.glob(f"{path.name}.{word}-*"):
            # the log may be all that there is: SQLite may not have made the file yet
            name, _, rest = file.name.rpartition(f".{word}-")
            number = rest.partition("-")[0]
            if name == path.name and number.isdigit():
                found.append(file.with_name(f"{name}.{word}-{number}"))
    return sorted(set(found), key=_number)


def unsalvaged_files(path: Path) -> list[Path]:
    """Damaged files that wait for their salvage."""
    return [file for file in kept_files(path) if file.name.startswith(f"{path.name}.{_DAMAGED}-")]


def _number(file: Path) -> int:
    return int(file.name.rpartition("-")[2])


def set_aside(path: Path) -> Path:
    """Rename a closed file with its log; nothing is deleted. Returns the new name.

    Raises:
        OSError: the folder cannot be written.
        StoreError: there are absurdly many already.
    """
    number = max((_number(file) for file in kept_files(path)), default=0) + 1
    if number > 10_000:
        raise StoreError(StoreFault.UNAVAILABLE, f"too many damaged copies beside {path}")
    target = path.with_name(f"{path.name}.{_DAMAGED}-{number}")
    # the log first: a file without its log, found after a power cut here, is only poorer
    for suffix in reversed(SUFFIXES):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    return target


def mark_salvaged(file: Path) -> None:
    """Rename a file whose salvage is done.

    Raises:
        OSError: the folder cannot be written.
    """
    name = file.name.replace(f".{_DAMAGED}-", f".{_SALVAGED}-")
    for suffix in reversed(SUFFIXES):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(file.with_name(name + suffix))


def read_job(row: tuple[str, int | None, str, int, int, int, int]) -> SalvageJob:
    """A row of ``salvages``."""
    file, expected, skip, next_page, saved, bad_pages, done = row
    ranges = {
        Kind(kind): [(first, last) for first, last in pairs]
        for kind, pairs in json.loads(skip).items()
    }
    return SalvageJob(file, expected, ranges, next_page, saved, bad_pages, bool(done))


def write_job(connection: sqlite3.Connection, job: SalvageJob) -> None:
    """Into ``salvages``, within the caller's transaction."""
    connection.execute(
        "INSERT OR REPLACE INTO salvages VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            job.file,
            job.expected,
            json.dumps({kind.value: ranges for kind, ranges in job.skip.items()}),
            job.next_page,
            job.saved,
            job.bad_pages,
            int(job.done),
        ),
    )


def forget_job(connection: sqlite3.Connection, file: str) -> None:
    """Its file is renamed: another one of that name would be another one."""
    connection.execute("DELETE FROM salvages WHERE file = ?", (file,))


def insert_salvaged(connection: sqlite3.Connection, kind: Kind, rows: list[Row]) -> int:
    """Rows of a damaged file, before all others; how many."""
    for row, run_id, sequence, taken_ms, payload in rows:
        values = (run_id, sequence, taken_ms, payload)
        query = f"INSERT OR IGNORE INTO {kind.value} VALUES (?, ?, ?, ?, ?)"  # noqa: S608  an enum
        if not connection.execute(query, (row - _SHIFT, *values)).rowcount:
            # the file held rows of an earlier salvage, which is being salvaged too
            lowest = connection.execute(f"SELECT min(id) FROM {kind.value}").fetchone()[0]  # noqa: S608  an enum
            connection.execute(query, (lowest - 1, *values))
    return len(rows)
