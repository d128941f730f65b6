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

from agent.outbox.batch import Batch, Contents, Row
from agent.outbox.commit import RowCounts, apply
from agent.outbox.connection import PAGE_BYTES, connect_reader, connect_writer
from agent.outbox.faults import StoreError, StoreFault, store_errors
from agent.outbox.message import Kind
from agent.outbox.opening import look_inside
from agent.outbox.salvage_jobs import set_aside

LOG = logging.getLogger("agent.outbox")

T = TypeVar("T")

_RESERVE_BYTES: Final = 4_000_000
"""Of the file system: below it the file grows no more, so that its log can always be
folded in; what the log holds for pages that the file cannot get would block it for good."""

_UNLIMITED_PAGES: Final = 2**31 - 2
_COMPACT_PAGES: Final = 64
"""A step of giving pages back: 256 KB moved at most, some 50 ms on a slow card."""

_COMPACT_ABOVE_PAGES: Final = 256
_COMPACT_BELOW_SHARE: Final = 8
"""Of the file: what is still used is moved, and each move writes a page; sooner, a backlog
that is drained would be written anew again and again on its way out."""


class Store:
    """The file. Every method may raise :class:`StoreError` and then has changed nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._counts = RowCounts()

    def open(self, run_id: str) -> Contents:
        """Open or make the file, note that ``run_id`` runs, and say what is in it."""
        with self._read_lock, self._write_lock, store_errors(f"cannot open {self.path}"):
            self._close_connections()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = connection = connect_writer(self.path)
            try:
                contents, self._counts = look_inside(connection, self.path, run_id)
            except BaseException:
                self._close_connections()
                raise
            return contents

    def commit(self, batch: Batch) -> None:
        """Write all of a batch durably, or nothing; inserts come with their id, ascending."""
        with self._write_lock, store_errors(f"cannot write {self.path}"):
            connection = self._writing()
            self._stop_growth_before_the_disk_is_full(connection)
            counts = self._counts.copy()
            connection.execute("BEGIN IMMEDIATE")
            try:
                apply(connection, batch, counts)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._counts = counts

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

    def forget_vanished(self, kind: Kind, rows: int) -> None:
        """So many rows were counted and are not there; the file says so from the next commit on."""
        with self._write_lock:
            self._counts.messages[kind] -= rows

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

    def oldest(self, kind: Kind, limit: int) -> list[tuple[int, int | None, str, int]]:
        """``(id, taken_ms, run_id, sequence)`` of the oldest rows."""
        with self._write_lock, store_errors(f"cannot read {self.path}"):
            return (
                self._writing()
                .execute(
                    f"SELECT id, taken_ms, run_id, sequence FROM {kind.value} ORDER BY id LIMIT ?",  # noqa: S608  an enum
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
        """The file is nearly empty."""
        used, allocated = self.space()
        return (
            allocated - used > _COMPACT_ABOVE_PAGES * PAGE_BYTES
            and used < allocated // _COMPACT_BELOW_SHARE
        )

    def compact(self) -> bool:
        """Give a few free pages back, once the file is nearly empty; whether there is more to do.

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
