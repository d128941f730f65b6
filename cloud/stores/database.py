"""One SQLite file, used by several threads and processes at once.

Invariants:

1. Every thread has a connection of its own; a write is one ``BEGIN IMMEDIATE``
   transaction, so writers queue for ``BUSY_TIMEOUT_S`` instead of failing half way.
2. WAL, so that readers never wait; ``synchronous=FULL``, so that what a handler reported
   as done survives a power cut (the stream's checkpoint must never be ahead of the store).
3. The schema's version stands in ``user_version``; a migration and its number are stored
   in one transaction. A newer file is refused, never guessed at.
4. No ``sqlite3`` error leaves this module: ``StoreError`` at work, ``ConfigError`` at opening.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cloud.errors import ConfigError, StoreError

BUSY_TIMEOUT_S: Final = 30.0
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024

Migration = Callable[[sqlite3.Connection], None]


class Database:
    """Connections to one file; safe from any thread."""

    def __init__(self, path: Path, migrations: Sequence[Migration], *, create: bool) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._create = create
        try:
            self._migrate(self._connection(), migrations)
        except sqlite3.Error as error:
            self.close()
            raise ConfigError(
                f"cannot open {path}: {error}",
                hint="Is it a data directory of milepost-cloud, may this user write to it, "
                "and is there room on the disk?",
            ) from error
        except ConfigError:
            self.close()
            raise

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one query; all rows.

        Raises:
            StoreError: the file cannot be read.
        """
        with _wrapped(self.path):
            rows: list[tuple[Any, ...]] = self._connection().execute(sql, parameters).fetchall()
            return rows

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back by an exception.

        Raises:
            StoreError: the file is locked for long, full or damaged.
        """
        with _wrapped(self.path):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment. Keep it short: an open reader lets the WAL grow.

        Raises:
            StoreError: the file cannot be read.
        """
        with _wrapped(self.path):
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close every thread's connection; idempotent. Nobody may be at work."""
        with self._lock:
            self._closed = True
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        existing: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        mode = "rwc" if self._create else "rw"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,  # close() is called from another thread
            cached_statements=256,
        )
        with self._lock:
            if self._closed:
                connection.close()
                raise StoreError(f"{self.path} is closed")
            self._connections.append(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        connection.execute("PRAGMA cache_size = -16384")
        self._local.connection = connection
        return connection

    def _migrate(self, connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
        if self._version(connection) == len(migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again: another process may have been first.
            version = self._version(connection)
            self._refuse_newer(version, len(migrations))
            for number, migration in enumerate(migrations[version:], start=version + 1):
                migration(connection)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _refuse_newer(self, version: int, known: int) -> None:
        if version > known:
            raise ConfigError(
                f"{self.path} was written by a newer version (schema {version}, known is {known})",
                hint="Install that version again, or give another data directory.",
            )

    @staticmethod
    def _version(connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


@contextmanager
def _wrapped(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: {error}", hint="Is the disk full, or the file used by a stuck process?"
        ) from error
