"""The outbox's file: SQLite, WAL, one group commit at a time.

Two connections: the writer's (any thread that holds its lock, in practice the
``outbox-writer`` thread) and the reader's (the publisher's), so that a commit that the
flash card takes a second for does not keep the publisher from reading. Both are opened
when first needed and again after a fault, so a file that vanishes is survived.

Durability: ``synchronous=FULL`` in WAL mode syncs the log once per commit; what a
commit returned for is on disk after a power cut (sqlite.org/pragma.html). The log is
bounded by ``wal_autocheckpoint`` while it is used and by ``journal_size_limit`` after.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from agent.outbox.faults import StoreError, StoreFault, store_errors
from agent.outbox.message import Kind, Message, ranges
from agent.outbox.schema import CURRENT_VERSION, migrate

LOG = logging.getLogger("agent.outbox")

T = TypeVar("T")

WAL_LIMIT_BYTES: Final = 1024 * 1024
_PAGE_BYTES: Final = 4096
_REFRESH_COUNT_AFTER_ROWS: Final = 1_000
_KEPT_REFUSED: Final = 200
_KEPT_RUNS: Final = 10


@dataclass(slots=True)
class Batch:
    """What one commit changes."""

    inserts: list[tuple[int, Message]] = field(default_factory=list)
    deletes: dict[Kind, list[int]] = field(default_factory=dict)
    refused: list[tuple[Message, str]] = field(default_factory=list)
    drops: dict[str, int] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(
            self.inserts
            or any(self.deletes.values())
            or self.refused
            or self.drops
            or self.reported
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was opened."""

    messages: dict[Kind, int]
    last_id: int
    previous_run: tuple[str, int] | None
    unreported_drops: dict[str, int]


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
            self._writer = connection = self._connect()
            try:
                return self._look_inside(connection, run_id)
            except BaseException:
                self._close_connections()
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("PRAGMA journal_mode = WAL")
            if version < CURRENT_VERSION:
                migrate(self.path, version)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_LIMIT_BYTES // _PAGE_BYTES}")
            connection.execute("PRAGMA cache_size = -512")
        except BaseException:
            connection.close()
            raise
        return connection

    def _look_inside(self, connection: sqlite3.Connection, run_id: str) -> Contents:
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
        return Contents(dict(self._counts), self._last_id, previous, unreported)

    def commit(self, batch: Batch) -> None:
        """Write all of a batch durably, or nothing; inserts come with their id, ascending."""
        with self._write_lock, store_errors(f"cannot write {self.path}"):
            connection = self._writing()
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

    def _apply(self, connection: sqlite3.Connection, batch: Batch) -> None:
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
            if gone or self._last_id - self._counted_to[kind] >= _REFRESH_COUNT_AFTER_ROWS:
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

    def read(
        self, kind: Kind, after: int, limit: int
    ) -> list[tuple[int, str, int, int | None, bytes]]:
        """Rows ``(id, run_id, sequence, taken_ms, payload)`` behind ``after``, oldest first."""
        with self._read_lock, store_errors(f"cannot read {self.path}"):
            if self._reader is None:
                with self._write_lock:
                    self._writing()
                self._reader = sqlite3.connect(
                    f"file:{self.path}?mode=ro",
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,
                    timeout=5.0,
                )
                self._reader.execute("PRAGMA cache_size = -256")
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

    def used_bytes(self) -> int:
        """Bytes of the file that hold something; freed pages are used again first."""
        with self._write_lock, store_errors(f"cannot read {self.path}"):
            connection = self._writing()
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            return int((pages - free) * size)

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
            target = _free_name(self.path)
            for suffix in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.rename(target.with_name(target.name + suffix))
            return target

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


def _free_name(path: Path) -> Path:
    for number in range(1, 10_000):
        name = path.with_name(f"{path.name}.damaged-{number}")
        if not name.exists():
            return name
    raise StoreError(StoreFault.UNAVAILABLE, f"too many damaged copies beside {path}")
