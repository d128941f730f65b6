"""The ledger in SQLite: ``run_heads`` and ``run_blocks``, changed in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from cloud.accounting.ledger import Arrival, Change, RunHead, apply
from cloud.accounting.ranges import Range, Ranges
from cloud.stores.database import Database

_TABLES: Final = (
    """
    CREATE TABLE run_heads (
        vehicle_id TEXT NOT NULL,
        run_id     TEXT NOT NULL,
        head       TEXT NOT NULL,
        PRIMARY KEY (vehicle_id, run_id)
    ) STRICT
    """,
    """
    CREATE TABLE run_blocks (
        vehicle_id TEXT    NOT NULL,
        run_id     TEXT    NOT NULL,
        block      INTEGER NOT NULL,
        ranges     BLOB    NOT NULL,
        PRIMARY KEY (vehicle_id, run_id, block)
    ) STRICT, WITHOUT ROWID
    """,
)
_STORED: Final = """
    SELECT sequence, received_ms, timestamp_ms, kind = 'event', deliveries,
           json_extract(payload, '$.time_quality') = 'unsynced'
    FROM history WHERE vehicle_id = ? AND run_id = ? ORDER BY sequence
"""
_BACKFILL_ROWS: Final = 10_000


class SqliteLedgerStore:
    """``LedgerStore`` on the ledger's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, changes: Sequence[Change]) -> None:
        """All or none, in one transaction."""
        if changes:
            with self._database.write() as connection:
                for change in changes:
                    _change(connection, change)

    def heads(self, vehicle_id: str) -> list[RunHead]:
        """Every run of a vehicle."""
        rows = self._database.read("SELECT head FROM run_heads WHERE vehicle_id = ?", (vehicle_id,))
        return [RunHead.from_json(head) for (head,) in rows]

    def ranges(self, vehicle_id: str, run_id: str) -> Iterator[Range]:
        """What is there of a run."""
        rows = self._database.read(
            "SELECT ranges FROM run_blocks WHERE vehicle_id = ? AND run_id = ? ORDER BY block",
            (vehicle_id, run_id),
        )
        for (content,) in rows:
            yield from Ranges.from_bytes(content)


def _change(connection: sqlite3.Connection, change: Change) -> None:
    run = (change.vehicle_id, change.run_id)
    row = connection.execute(
        "SELECT head FROM run_heads WHERE vehicle_id = ? AND run_id = ?", run
    ).fetchone()
    head = RunHead(change.run_id) if row is None else RunHead.from_json(row[0])
    blocks = {}
    for block in change.blocks():
        row = connection.execute(
            "SELECT ranges FROM run_blocks WHERE vehicle_id = ? AND run_id = ? AND block = ?",
            (*run, block),
        ).fetchone()
        blocks[block] = Ranges() if row is None else Ranges.from_bytes(row[0])
    apply(head, blocks, change)
    connection.execute("INSERT OR REPLACE INTO run_heads VALUES (?, ?, ?)", (*run, head.to_json()))
    connection.executemany(
        "INSERT OR REPLACE INTO run_blocks VALUES (?, ?, ?, ?)",
        [(*run, block, ranges.to_bytes()) for block, ranges in blocks.items()],
    )


def add_ledger(connection: sqlite3.Connection) -> None:
    """Version 3: the tables, filled from what the history holds already."""
    for statement in _TABLES:
        connection.execute(statement)
    runs = connection.execute("SELECT DISTINCT vehicle_id, run_id FROM history").fetchall()
    for vehicle_id, run_id in runs:
        duplicates = 0
        rows = connection.execute(_STORED, (vehicle_id, run_id))
        while page := rows.fetchmany(_BACKFILL_ROWS):
            arrivals = [
                Arrival(sequence, 0 if untimed else at_ms, received_ms, bool(is_event))
                for sequence, received_ms, at_ms, is_event, _, untimed in page
            ]
            duplicates += sum(deliveries - 1 for _, _, _, _, deliveries, _ in page)
            heard_ms = min(one.received_ms for one in arrivals)
            _change(connection, Change(vehicle_id, run_id, heard_ms, arrivals))
        connection.execute(
            "UPDATE run_heads SET head = json_set(head, '$.duplicates', ?)"
            " WHERE vehicle_id = ? AND run_id = ?",
            (duplicates, vehicle_id, run_id),
        )
