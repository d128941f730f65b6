"""The durable stream between broker and functions: Kinesis on one machine, in SQLite.

Invariants:

1. When ``append`` returns, its records survive a crash and a power cut (WAL,
   ``synchronous=FULL``), all of the call or none. The broker acknowledges only then.
2. Sequence numbers grow in the order of appending and are never used twice.
3. A consumer reads after its own checkpoint; the checkpoint moves when the consumer says
   so. A crash in between delivers again: at least once.
4. A record is deleted when every registered consumer of its stream has passed it and it
   is older than the retention; nothing else deletes.
5. One process at a time: the writing connections are guarded by a lock of this process.
6. Checkpoints are not synced one by one: a power cut may set a consumer back to an older
   one, which delivers again; the next append makes them durable with its own records.

Schema: ``record`` holds all streams, told apart by name; ``checkpoint`` one row a consumer.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud.errors import StoreError

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS record (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    partition_key TEXT NOT NULL,
    data BLOB NOT NULL,
    arrived_at_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS record_of_stream ON record (stream, sequence);
CREATE TABLE IF NOT EXISTS checkpoint (
    consumer TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    sequence INTEGER NOT NULL
);
"""
TRIM_ROWS: Final = 2_000
"""Deleted per transaction, so that an append never waits for long."""
JOURNAL_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to append."""

    stream: str
    partition_key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record as a consumer reads it."""

    sequence: int
    partition_key: str
    data: bytes
    arrived_at_ms: int


class Stream:
    """Append from one thread, read from many."""

    def __init__(self, path: Path) -> None:
        """Open or create.

        Raises:
            StoreError: the file cannot be opened or is no database.
        """
        self._path = path
        self._lock = threading.Lock()
        self._appended = threading.Condition()
        self._newest: dict[str, int] = {}
        self._closed = False
        with _wrapped("open"):
            self._writer = _connect(path, synchronous="FULL")
            self._checkpoints = _connect(path, synchronous="NORMAL")
            self._writer.executescript(SCHEMA)
            rows = self._writer.execute("SELECT stream, MAX(sequence) FROM record GROUP BY stream")
            self._newest.update(rows.fetchall())

    def append(self, entries: Sequence[Entry], arrived_at_ms: int) -> None:
        """Append all or nothing; durable on return.

        Raises:
            StoreError: nothing was appended, e.g. the disk is full.
        """
        if not entries:
            return
        newest: dict[str, int] = {}
        with self._lock, _wrapped("append"), self._transaction():
            for entry in entries:
                cursor = self._writer.execute(
                    "INSERT INTO record (stream, partition_key, data, arrived_at_ms)"
                    " VALUES (?, ?, ?, ?)",
                    (entry.stream, entry.partition_key, entry.data, arrived_at_ms),
                )
                newest[entry.stream] = cursor.lastrowid or 0
        with self._appended:
            self._newest.update(newest)
            self._appended.notify_all()

    def reader(self, stream: str, consumer: str) -> StreamReader:
        """Register a consumer, or take up where it left off; new ones start at the oldest.

        Raises:
            StoreError: the database failed.
        """
        with self._lock, _wrapped("register"), self._transaction():
            self._writer.execute(
                "INSERT INTO checkpoint (consumer, stream, sequence) VALUES (?, ?, 0)"
                " ON CONFLICT (consumer) DO UPDATE SET stream = excluded.stream",
                (consumer, stream),
            )
            row = self._writer.execute(
                "SELECT sequence FROM checkpoint WHERE consumer = ?", (consumer,)
            ).fetchone()
        with _wrapped("open"):
            connection = _connect(self._path, synchronous="NORMAL")
        return StreamReader(self, stream, consumer, row[0], connection)

    def wait_beyond(
        self, stream: str, sequence: int, timeout_s: float, stop: Callable[[], bool]
    ) -> None:
        """Return when ``stream`` may hold something after ``sequence``, on timeout or wake."""
        with self._appended:
            self._appended.wait_for(
                lambda: self._newest.get(stream, 0) > sequence or stop(), timeout_s
            )

    def wake(self) -> None:
        """Let every waiting consumer look at its stop condition."""
        with self._appended:
            self._appended.notify_all()

    def newest(self, stream: str) -> int:
        """The last sequence number of a stream, 0 when it never had a record."""
        with self._appended:
            return self._newest.get(stream, 0)

    def save_checkpoint(self, consumer: str, sequence: int) -> None:
        """Remember how far a consumer is; it never moves back.

        Raises:
            StoreError: not saved; the records will be delivered again after a restart.
        """
        with self._lock, _wrapped("checkpoint"):
            self._checkpoints.execute(
                "UPDATE checkpoint SET sequence = MAX(sequence, ?) WHERE consumer = ?",
                (sequence, consumer),
            )

    def trim(self, older_than_ms: int) -> int:
        """Delete what every consumer passed and that arrived earlier; how many rows.

        A stream without a consumer keeps everything.

        Raises:
            StoreError: the database failed; what was deleted so far stays deleted.
        """
        with self._lock, _wrapped("trim"):
            passed = self._writer.execute(
                "SELECT stream, MIN(sequence) FROM checkpoint GROUP BY stream"
            ).fetchall()
        return sum(self._trim(name, sequence, older_than_ms) for name, sequence in passed)

    def _trim(self, name: str, passed: int, older_than_ms: int) -> int:
        deleted = 0
        while True:
            with self._lock, _wrapped("trim"), self._transaction():
                count = self._writer.execute(
                    "DELETE FROM record WHERE sequence IN ("
                    " SELECT sequence FROM ("
                    "  SELECT sequence, arrived_at_ms FROM record"
                    "  WHERE stream = ? AND sequence <= ? ORDER BY sequence LIMIT ?)"
                    " WHERE arrived_at_ms < ?)",
                    (name, passed, TRIM_ROWS, older_than_ms),
                ).rowcount
            deleted += count
            if count < TRIM_ROWS:
                return deleted

    def close(self) -> None:
        """Close the writer; idempotent. Readers close themselves."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._checkpoints.close()
                self._writer.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise


class StreamReader:
    """One consumer's view; belongs to one thread at a time."""

    def __init__(
        self,
        stream: Stream,
        name: str,
        consumer: str,
        position: int,
        connection: sqlite3.Connection,
    ) -> None:
        self._stream = stream
        self._name = name
        self._connection = connection
        self.consumer = consumer
        self.position = position
        """Everything up to this sequence number is done."""

    def read(self, limit: int) -> list[StreamRecord]:
        """The next records after the position; does not move it.

        Raises:
            StoreError: the database failed.
        """
        with _wrapped("read"):
            rows = self._connection.execute(
                "SELECT sequence, partition_key, data, arrived_at_ms FROM record"
                " WHERE stream = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                (self._name, self.position, limit),
            ).fetchall()
        return [StreamRecord(*row) for row in rows]

    def wait(self, beyond: int, timeout_s: float, stop: Callable[[], bool]) -> None:
        """Wait until there may be something after ``beyond``."""
        self._stream.wait_beyond(self._name, beyond, timeout_s, stop)

    def may_hold(self, records: int) -> bool:
        """Whether so many may stand after the position; streams share their numbers."""
        return self._stream.newest(self._name) - self.position >= records

    def done_up_to(self, sequence: int) -> None:
        """Move the position, durably.

        Raises:
            StoreError: not saved; the position moved in memory only.
        """
        if sequence > self.position:
            self.position = sequence
            self._stream.save_checkpoint(self.consumer, sequence)

    def close(self) -> None:
        """Close the connection; the checkpoint stays."""
        self._connection.close()


def _connect(path: Path, *, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
    return connection


@contextmanager
def _wrapped(action: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"stream: {action} failed: {error}",
            hint="check the disk's free space and the data folder's permissions",
        ) from error
