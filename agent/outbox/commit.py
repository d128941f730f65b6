"""How a batch becomes rows, within a transaction that the store holds."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from agent.outbox.batch import Batch, Rewrite
from agent.outbox.message import Kind, ranges
from agent.outbox.run_drops import KEPT_TOTALS
from agent.outbox.salvage_jobs import insert_salvaged, write_job

_REFRESH_COUNT_AFTER_ROWS: Final = 1_000
_KEPT_REFUSED: Final = 200


def _zeros() -> dict[Kind, int]:
    return dict.fromkeys(Kind, 0)


@dataclass(slots=True)
class RowCounts:
    """Rows in the file, and up to which id the file itself knows of them."""

    messages: dict[Kind, int] = field(default_factory=_zeros)
    as_of_id: dict[Kind, int] = field(default_factory=_zeros)
    last_id: int = 0

    def copy(self) -> RowCounts:
        """A snapshot."""
        return RowCounts(dict(self.messages), dict(self.as_of_id), self.last_id)


def apply(connection: sqlite3.Connection, batch: Batch, counts: RowCounts) -> None:
    """Write all of it; ``counts`` are brought up to date, in memory and in the file."""
    # before the deletes: a row that was read for it may have been settled since
    _rewrite(connection, batch.rewrites, counts)
    for kind in Kind:
        _apply_kind(connection, batch, kind, counts)
    _refuse(connection, batch)
    for column, numbers in (("messages", batch.drops), ("reported", batch.reported)):
        connection.executemany(
            f"INSERT INTO drops (reason, {column}) VALUES (?, ?)"  # noqa: S608  two literals
            f" ON CONFLICT (reason) DO UPDATE SET {column} = {column} + excluded.{column}",
            list(numbers.items()),
        )
    if batch.run_drops:
        # a new rowid each: what grew last stands last
        connection.executemany(
            "INSERT OR REPLACE INTO run_drops (run_id, reason, messages, first, last)"
            " VALUES (?, ?, ?, ?, ?)",
            batch.run_drops,
        )
        connection.execute(
            "DELETE FROM run_drops WHERE rowid NOT IN"
            " (SELECT rowid FROM run_drops ORDER BY rowid DESC LIMIT ?)",
            (KEPT_TOTALS,),
        )
    connection.executemany(
        "INSERT OR REPLACE INTO sweeps VALUES (?, ?, ?)",
        [(sweep.name, sweep.position, sweep.level) for sweep in batch.sweeps],
    )
    for job in batch.jobs:
        write_job(connection, job)


def _apply_kind(
    connection: sqlite3.Connection, batch: Batch, kind: Kind, counts: RowCounts
) -> None:
    rows = [
        (row, m.run_id, m.sequence, m.taken_ms, m.payload)
        for row, m in batch.inserts
        if m.kind is kind
    ]
    if rows:
        connection.executemany(
            f"INSERT INTO {kind.value} VALUES (?, ?, ?, ?, ?)",  # noqa: S608  an enum
            rows,
        )
        counts.messages[kind] += len(rows)
        counts.last_id = max(counts.last_id, rows[-1][0])
    gone = batch.deletes.get(kind, [])
    if gone:
        counts.messages[kind] -= connection.executemany(
            f"DELETE FROM {kind.value} WHERE id BETWEEN ? AND ?",  # noqa: S608  an enum
            ranges(sorted(gone)),
        ).rowcount
    salvaged = batch.salvaged.get(kind, [])
    if salvaged:
        counts.messages[kind] += insert_salvaged(connection, kind, salvaged)
    changed = gone or salvaged or (kind is Kind.SAMPLE and batch.rewrites)
    if changed or counts.last_id - counts.as_of_id[kind] >= _REFRESH_COUNT_AFTER_ROWS:
        counts.as_of_id[kind] = counts.last_id
        connection.execute(
            "UPDATE counts SET as_of_id = ?, messages = ? WHERE kind = ?",
            (counts.last_id, counts.messages[kind], kind.value),
        )


def _rewrite(connection: sqlite3.Connection, rewrites: list[Rewrite], counts: RowCounts) -> None:
    for rewrite in rewrites:
        counts.messages[Kind.SAMPLE] -= connection.execute(
            "DELETE FROM samples WHERE id BETWEEN ? AND ?", (rewrite.first, rewrite.last)
        ).rowcount
        connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", rewrite.rows)
        counts.messages[Kind.SAMPLE] += len(rewrite.rows)


def _refuse(connection: sqlite3.Connection, batch: Batch) -> None:
    if not batch.refused:
        return
    connection.executemany(
        "INSERT INTO refused (kind, run_id, sequence, reason, payload) VALUES (?, ?, ?, ?, ?)",
        [(m.kind.value, m.run_id, m.sequence, why, m.payload) for m, why in batch.refused],
    )
    connection.execute(
        "DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (_KEPT_REFUSED,)
    )
