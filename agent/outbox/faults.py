"""SQLite's errors, told apart by what can be done about them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from agent.errors import AgentError


class StoreFault(Enum):
    """What is wrong with the outbox's file."""

    FULL = "full"
    """The file system is full, e.g. by somebody else's logs: free some, go on."""

    DAMAGED = "damaged"
    """The file is no sound database, e.g. a worn SD card: set it aside, go on."""

    UNAVAILABLE = "unavailable"
    """It cannot be read or written now, e.g. mounted read-only: keep in memory, try again."""


class StoreError(AgentError):
    """The outbox's file failed, e.g. the disk is full; ``fault`` says what to do."""

    def __init__(self, fault: StoreFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


_FULL: Final = frozenset({sqlite3.SQLITE_FULL})
_NO_ROOM: Final = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""A quota or a limit on file sizes (EDQUOT, EFBIG) is not ENOSPC to SQLite."""

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE: Final = 0xFF
"""The low byte of an extended result code is the primary one (sqlite.org/rescode.html)."""


def classify(error: sqlite3.Error) -> StoreFault:
    """What to do about an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # raised by the sqlite3 module itself, e.g. for a row whose text is not UTF-8
        return StoreFault.UNAVAILABLE
    primary = code & _PRIMARY_CODE
    if primary in _FULL or code in _NO_ROOM:
        return StoreFault.FULL
    # an SQL error means that a table or column is not as the version says it is
    if primary in _DAMAGED or primary == sqlite3.SQLITE_ERROR:
        return StoreFault.DAMAGED
    return StoreFault.UNAVAILABLE


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn what SQLite and the file system raise into :class:`StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(classify(error), f"{doing}: {error}") from error
    except OSError as error:
        fault = StoreFault.FULL if error.errno == 28 else StoreFault.UNAVAILABLE  # ENOSPC
        raise StoreError(fault, f"{doing}: {error}") from error
