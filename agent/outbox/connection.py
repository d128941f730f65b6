"""How the outbox's file is opened: its pragmas, its log's bounds, its migrations.

Durability: ``synchronous=FULL`` in WAL mode syncs the log once per commit; what a
commit returned for is on disk after a power cut (sqlite.org/pragma.html). The log is
bounded by ``wal_autocheckpoint`` while it is used and by ``journal_size_limit`` after.
Freed pages are given back in small steps (``auto_vacuum=INCREMENTAL``).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.pages import is_short, log_has_hole
from agent.outbox.schema import CURRENT_VERSION, migrate

WAL_LIMIT_BYTES: Final = 1024 * 1024
PAGE_BYTES: Final = 4096
_INCREMENTAL: Final = 2


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes; makes or migrates the file.

    Raises:
        StoreError: SQLite would open it, and drop what is in its log without a word.
        sqlite3.Error: as SQLite gives it.
    """
    _undo_cut_short_migration(path)
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size and (not path.exists() or not path.stat().st_size):
        raise StoreError(StoreFault.DAMAGED, f"{path} is empty but its log is not")
    if log_has_hole(log):
        raise StoreError(StoreFault.DAMAGED, f"{log} has a hole: what follows it would be lost")
    if is_short(path):
        raise StoreError(StoreFault.DAMAGED, f"{path} lacks pages at its end")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < CURRENT_VERSION:
            migrate(path, version)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_LIMIT_BYTES // PAGE_BYTES}")
        connection.execute("PRAGMA cache_size = -512")
    except BaseException:
        connection.close()
        raise
    return connection


def _undo_cut_short_migration(path: Path) -> None:
    """SQLite puts the file back from its journal, which only a migration has.

    Before that the file may lack pages without being damaged.
    """
    journal = path.with_name(path.name + "-journal")
    if journal.exists() and journal.stat().st_size:
        with closing(sqlite3.connect(path, timeout=5.0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def connect_reader(path: Path) -> sqlite3.Connection:
    """One that reads beside the writer."""
    connection = sqlite3.connect(
        f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
    )
    connection.execute("PRAGMA cache_size = -256")
    return connection


def make_compactable(connection: sqlite3.Connection) -> None:
    """Turn a file of an older version, while it is empty, into one that can shrink."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
