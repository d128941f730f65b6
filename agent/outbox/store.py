"""The outbox's file: SQLite, WAL, one group commit at a time.

Two connections: the writer's (any thread that holds its lock, in practice the
``outbox-writer`` thread) and the reader's (the publisher's), so that a commit that the
flash card takes a second for does not keep the publisher from reading. Both are opened
when first needed and again after a fault, so a file that vanishes is survived.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from agent.outbox.batch import Batch, Contents, Rewrite, Row, Sweep
from agent.outbox.connection import PAGE_BYTES, connect_reader, connect_writer, make_compactable
from agent.outbox.faults import StoreError, StoreFault, store_errors
from agent.outbox.message import Kind, ranges
from agent.outbox.salvage_jobs import insert_salvaged, read_job, set_aside, write_job

LOG = logging.getLogger("agent.outbox")

T = TypeVar("T")

_REFRESH_COUNT_AFTER_ROWS: Final = 1_000
_KEPT_REFUSED: Final = 200
_KEPT_RUNS: Final = 10
_SMALL_TABLES: Final = ("refused", "drops", "counts", "runs", "sweeps", "salvages", "time_bases")
_RESERVE_BYTES: Final = 4_000_000
"""Of the file system: below it the file grows no more, so that its log can always be
folded in; what the log holds for pages that the file cannot get would block it for good."""

_UNLIMITED_PAGES: Final = 2**31 - 2
_COMPACT_PAGES: Final = 64
"""A step of giving pages back: 256 KB moved at most, some 50 ms on a slow card."""

_COMPACT_ABOVE_PAGES: Final = 256


class Store:
    """The file. Every method may raise :class:`StoreError` and then has changed nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._counts: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._counted_to: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._last_id = 0

    def open(self, run_id: str) -> Contents:
        """Open or make the file, note that ``run_id`` runs, and say what is in it."""
        with self._read_lock, self._write_lock, store_errors(f"cannot open {self.path}"):
            self._close_connections()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = connection = connect_writer(self.path)
            try:
                return self._look_inside(connection, run_id)
            except BaseException:
                self._close_connections()
                raise

    def _look_inside(self, connection: sqlite3.Connection, run_id: str) -> Contents:
        for table in _SMALL_TABLES:
            # found now, while all messages can be had, not when it is first needed
            verdict = connection.execute(f"PRAGMA integrity_check({table})").fetchone()[0]
            if verdict != "ok":
                raise StoreError(StoreFault.DAMAGED, f"{self.path}: {table}: {verdict}")
        runs = connection.execute(
            "SELECT run_id, last_sequence FROM runs ORDER BY number DESC LIMIT 2"
        ).fetchall()
        # after a fault the file is opened again in the same run
        earlier = [run for run in runs if run[0] != run_id]
        previous = (str(earlier[0][0]), int(earlier[0][1])) if earlier else None
        if not runs or runs[0][0] != run_id:
            connection.execute("INSERT INTO runs (run_id, last_sequence) VALUES (?, 0)", (run_id,))
            connection.execute(
                "DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", (_KEPT_RUNS,)
            )
        self._last_id = 0
        for kind in Kind:
            as_of, messages = connection.execute(
                "SELECT as_of_id, messages FROM counts WHERE kind = ?", (kind.value,)
            ).fetchone()
            behind, newest = connection.execute(
                f"SELECT count(*), max(id) FROM {kind.value} WHERE id > ?",  # noqa: S608  an enum
                (as_of,),
            ).fetchone()
            self._counts[kind] = messages + behind
            self._counted_to[kind] = as_of
            self._last_id = max(self._last_id, as_of, newest or 0)
            last = connection.execute(
                f"SELECT run_id, sequence, payload FROM {kind.value} ORDER BY id DESC LIMIT 1"  # noqa: S608  as above
            ).fetchone()
            connection.execute(
                f"SELECT id, payload FROM {kind.value} ORDER BY id LIMIT 1"  # noqa: S608  as above
            ).fetchone()
            if last is not None and (previous is None or last[0] == previous[0]):
                previous = (last[0], max(last[1], previous[1] if previous else 0))
        if previous is not None and previous[0] == run_id:
            previous = None
        unreported = dict(
            connection.execute(
                "SELECT reason, messages - reported FROM drops WHERE messages > reported"
            ).fetchall()
        )
        if not any(self._counts.values()):
            make_compactable(connection)
        return Contents(
            dict(self._counts),
            self._last_id,
            previous,
            unreported,
            {row[0]: Sweep(*row) for row in connection.execute("SELECT * FROM sweeps")},
            [read_job(row) for row in connection.execute("SELECT * FROM salvages WHERE NOT done")],
        )

    def commit(self, batch: Batch) -> None:
        """Write all of a batch durably, or nothing; inserts come with their id, ascending."""
        with self._write_lock, store_errors(f"cannot write {self.path}"):
            connection = self._writing()
            self._stop_growth_before_the_disk_is_full(connection)
            counts, counted_to = dict(self._counts), dict(self._counted_to)
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._apply(connection, batch)
                connection.execute("COMMIT")
            except BaseException:
                self._counts, self._counted_to = counts, counted_to
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in one durable transaction; it adds and deletes no message."""
        with self._write_lock, store_errors(f"cannot write {self.path}"):
            connection = self._writing()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    def _stop_growth_before_the_disk_is_full(self, connection: sqlite3.Connection) -> None:
        # SQLite raises a limit that is lower than the file to the file's own size
        limit = 1 if self._disk_is_low() else _UNLIMITED_PAGES
        connection.execute(f"PRAGMA max_page_count = {limit}").fetchone()

    def _disk_is_low(self) -> bool:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize < _RESERVE_BYTES

    def _apply(self, connection: sqlite3.Connection, batch: Batch) -> None:
        # before the deletes: a row that was read for it may have been settled since
        self._rewrite(connection, batch.rewrites)
        for kind in Kind:
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
                self._counts[kind] += len(rows)
                self._last_id = max(self._last_id, rows[-1][0])
            gone = batch.deletes.get(kind, [])
            if gone:
                self._counts[kind] -= connection.executemany(
                    f"DELETE FROM {kind.value} WHERE id BETWEEN ? AND ?",  # noqa: S608  an enum
                    ranges(sorted(gone)),
                ).rowcount
            salvaged = batch.salvaged.get(kind, [])
            if salvaged:
                self._counts[kind] += insert_salvaged(connection, kind, salvaged)
            changed = gone or salvaged or (kind is Kind.SAMPLE and batch.rewrites)
            if changed or self._last_id - self._counted_to[kind] >= _REFRESH_COUNT_AFTER_ROWS:
                self._counted_to[kind] = self._last_id
                connection.execute(
                    "UPDATE counts SET as_of_id = ?, messages = ? WHERE kind = ?",
                    (self._last_id, self._counts[kind], kind.value),
                )
        if batch.refused:
            connection.executemany(
                "INSERT INTO refused (kind, run_id, sequence, reason, payload)"
                " VALUES (?, ?, ?, ?, ?)",
                [(m.kind.value, m.run_id, m.sequence, why, m.payload) for m, why in batch.refused],
            )
            connection.execute(
                "DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?",
                (_KEPT_REFUSED,),
            )
        for column, numbers in (("messages", batch.drops), ("reported", batch.reported)):
            connection.executemany(
                f"INSERT INTO drops (reason, {column}) VALUES (?, ?)"  # noqa: S608  two literals
                f" ON CONFLICT (reason) DO UPDATE SET {column} = {column} + excluded.{column}",
                list(numbers.items()),
            )
        connection.executemany(
            "INSERT OR REPLACE INTO sweeps VALUES (?, ?, ?)",
            [(sweep.name, sweep.position, sweep.level) for sweep in batch.sweeps],
        )
        for job in batch.jobs:
            write_job(connection, job)

    def _rewrite(self, connection: sqlite3.Connection, rewrites: list[Rewrite]) -> None:
        for rewrite in rewrites:
            self._counts[Kind.SAMPLE] -= connection.execute(
                "DELETE FROM samples WHERE id BETWEEN ? AND ?", (rewrite.first, rewrite.last)
            ).rowcount
            connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", rewrite.rows)
            self._counts[Kind.SAMPLE] += len(rewrite.rows)

    def read(self, kind: Kind, after: int, limit: int) -> list[Row]:
        """Rows behind ``after``, oldest first."""
        with self._read_lock, store_errors(f"cannot read {self.path}"):
            if self._reader is None:
                with self._write_lock:
                    self._writing()
                self._reader = connect_reader(self.path)
            return self._reader.execute(
                f"SELECT id, run_id, sequence, taken_ms, payload FROM {kind.value}"  # noqa: S608  an enum
                " WHERE id > ? ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()

    def oldest(self, kind: Kind, limit: int) -> list[tuple[int, int | None]]:
        """``(id, taken_ms)`` of the oldest rows."""
        with self._write_lock, store_errors(f"cannot read {self.path}"):
            return (
                self._writing()
                .execute(
                    f"SELECT id, taken_ms FROM {kind.value} ORDER BY id LIMIT ?",  # noqa: S608  an enum
                    (limit,),
                )
                .fetchall()
            )

    def window(self, after: int, limit: int) -> list[Row]:
        """Samples behind ``after``, oldest first, for the writer's own thread."""
        with self._write_lock, store_errors(f"cannot read {self.path}"):
            return (
                self._writing()
                .execute(
                    "SELECT id, run_id, sequence, taken_ms, payload FROM samples"
                    " WHERE id > ? ORDER BY id LIMIT ?",
                    (after, limit),
                )
                .fetchall()
            )

    def space(self) -> tuple[int, int]:
        """Bytes of the file that hold something, and all its bytes; free pages are used first."""
        with self._write_lock, store_errors(f"cannot read {self.path}"):
            connection = self._writing()
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            return int((pages - free) * size), int(pages * size)

    def wants_compaction(self) -> bool:
        """Most of the file is free pages."""
        used, allocated = self.space()
        free = allocated - used
        return free > max(_COMPACT_ABOVE_PAGES * PAGE_BYTES, allocated // 2)

    def compact(self) -> bool:
        """Give a few free pages back, once most are free; whether there is more to do.

        A file at its bound keeps its free pages: they are wanted again at once.
        """
        if not self.wants_compaction():
            return False
        with self._write_lock, store_errors(f"cannot compact {self.path}"):
            connection = self._writing()
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            # execute() would take one step, that is one page, as the statement has no columns
            connection.executescript(f"PRAGMA incremental_vacuum({_COMPACT_PAGES})")
            now_free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            return bool(now_free < free)

    def checkpoint(self) -> None:
        """Move the log into the file and cut it to nothing."""
        with self._write_lock, store_errors(f"cannot checkpoint {self.path}"):
            self._writing().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def note_end(self, run_id: str, last_sequence: int) -> None:
        """Remember where an orderly run ended."""
        with self._write_lock, store_errors(f"cannot write {self.path}"):
            self._writing().execute(
                "UPDATE runs SET last_sequence = ? WHERE run_id = ?", (last_sequence, run_id)
            )

    def set_aside(self) -> Path:
        """Close the file and rename it with its log; nothing is deleted. Returns the new name."""
        with self._read_lock, self._write_lock, store_errors(f"cannot rename {self.path}"):
            self._close_connections()
            return set_aside(self.path)

    def close(self) -> None:
        """Checkpoint and close; safe before ``open`` and twice."""
        with self._read_lock, self._write_lock:
            if self._writer is not None:
                try:
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                except sqlite3.Error as error:
                    # the log stays and is replayed when the file is next opened
                    LOG.warning("the outbox's log could not be folded in at the end: %s", error)
            self._close_connections()

    def _writing(self) -> sqlite3.Connection:
        if self._writer is None:
            raise StoreError(StoreFault.UNAVAILABLE, f"{self.path} is not open")
        return self._writer

    def _close_connections(self) -> None:
        connections: Iterable[sqlite3.Connection | None] = (self._reader, self._writer)
        self._reader = self._writer = None
        for connection in connections:
            if connection is not None:
                connection.close()
