"""What is in the outbox's file when it is opened; a little of each table is read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from agent.outbox.batch import Contents, Sweep
from agent.outbox.commit import RowCounts
from agent.outbox.connection import make_compactable
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.message import Kind
from agent.outbox.run_drops import DropTotal
from agent.outbox.salvage_jobs import read_job

_KEPT_RUNS: Final = 10
_SMALL_TABLES: Final = (
    "refused",
    "drops",
    "run_drops",
    "counts",
    "runs",
    "sweeps",
    "salvages",
    "time_bases",
)


def look_inside(
    connection: sqlite3.Connection, path: Path, run_id: str
) -> tuple[Contents, RowCounts]:
    """Note that ``run_id`` runs, and say what is there.

    Raises:
        StoreError: a small table is damaged.
        sqlite3.Error: as SQLite gives it.
    """
    _check_small_tables(connection, path)
    previous = _note_run(connection, run_id)
    counts = RowCounts()
    for kind in Kind:
        last = _count(connection, kind, counts)
        if last is not None and (previous is None or last[0] == previous[0]):
            previous = (last[0], max(last[1], previous[1] if previous else 0))
    if previous is not None and previous[0] == run_id:
        previous = None
    unreported = dict(
        connection.execute(
            "SELECT reason, messages - reported FROM drops WHERE messages > reported"
        ).fetchall()
    )
    if not any(counts.messages.values()):
        make_compactable(connection)
    contents = Contents(
        dict(counts.messages),
        counts.last_id,
        previous,
        unreported,
        read_totals(connection),
        {row[0]: Sweep(*row) for row in connection.execute("SELECT * FROM sweeps")},
        [read_job(row) for row in connection.execute("SELECT * FROM salvages")],
    )
    return contents, counts


def read_totals(connection: sqlite3.Connection) -> list[DropTotal]:
    """What was given up of each run, as far as the file knows.

    Raises:
        sqlite3.Error: as SQLite gives it.
    """
    return [
        DropTotal(*row)
        for row in connection.execute(
            "SELECT run_id, reason, messages, first, last FROM run_drops ORDER BY rowid"
        )
    ]


def _check_small_tables(connection: sqlite3.Connection, path: Path) -> None:
    for table in _SMALL_TABLES:
        # found now, while all messages can be had, not when it is first needed
        verdict = connection.execute(f"PRAGMA integrity_check({table})").fetchone()[0]
        if verdict != "ok":
            raise StoreError(StoreFault.DAMAGED, f"{path}: {table}: {verdict}")


def _note_run(connection: sqlite3.Connection, run_id: str) -> tuple[str, int] | None:
    """Note this run; the one before it and its last sequence, as far as it was noted."""
    runs = connection.execute(
        "SELECT run_id, last_sequence FROM runs ORDER BY number DESC LIMIT 2"
    ).fetchall()
    # after a fault the file is opened again in the same run
    earlier = [run for run in runs if run[0] != run_id]
    if not runs or runs[0][0] != run_id:
        connection.execute("INSERT INTO runs (run_id, last_sequence) VALUES (?, 0)", (run_id,))
        connection.execute(
            "DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", (_KEPT_RUNS,)
        )
    return (str(earlier[0][0]), int(earlier[0][1])) if earlier else None


def _count(connection: sqlite3.Connection, kind: Kind, counts: RowCounts) -> tuple[str, int] | None:
    """Count the rows of a kind; ``run_id`` and sequence of the newest."""
    as_of, messages = connection.execute(
        "SELECT as_of_id, messages FROM counts WHERE kind = ?", (kind.value,)
    ).fetchone()
    behind, newest = connection.execute(
        f"SELECT count(*), max(id) FROM {kind.value} WHERE id > ?",  # noqa: S608  an enum
        (as_of,),
    ).fetchone()
    counts.messages[kind] = messages + behind
    counts.as_of_id[kind] = as_of
    counts.last_id = max(counts.last_id, as_of, newest or 0)
    # both ends of the table are read: damage there is found now
    connection.execute(
        f"SELECT id, payload FROM {kind.value} ORDER BY id LIMIT 1"  # noqa: S608  as above
    ).fetchone()
    last = connection.execute(
        f"SELECT run_id, sequence, payload FROM {kind.value} ORDER BY id DESC LIMIT 1"  # noqa: S608  as above
    ).fetchone()
    return (str(last[0]), int(last[1])) if last is not None else None
