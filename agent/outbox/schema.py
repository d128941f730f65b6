"""The outbox's tables and how an older file becomes a current one.

::

    samples, events   id, run_id, sequence, taken_ms, payload   one waiting message a row
    refused           id, kind, run_id, sequence, reason, payload   set aside, newest 200
    drops             reason, messages, reported    given up since the file was made
    run_drops         run_id, reason, messages, first, last     the same by run, newest last
    counts            kind, as_of_id, messages      rows with id <= as_of_id
    runs              number, run_id, last_sequence     the newest few runs of the agent
    sweeps            name, position, level         how far each thinning has come
    salvages          file, expected, skip, next_page, saved, bad_pages, done
    time_bases        run_id, boot_id, zero_ms, first_id    see agent.outbox.untimed

``id`` ascends over both message tables and is never given twice. ``counts`` is exact
for the rows up to ``as_of_id`` and changes in the same transaction as any DELETE, so a
restart counts only the rows behind it, never the whole backlog. Salvaged rows have ids
below all others, so they are the oldest.
``PRAGMA user_version`` is the number of migrations applied.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlite_utils import Database


def _m0001_messages(db: Database) -> None:
    for kind in ("samples", "events"):
        db.create_table(
            kind,
            {"id": int, "run_id": str, "sequence": int, "taken_ms": int, "payload": bytes},
            pk="id",
            not_null={"run_id", "sequence", "payload"},
        )
    db.create_table(
        "refused",
        {
            "id": int,
            "kind": str,
            "run_id": str,
            "sequence": int,
            "reason": str,
            "payload": bytes,
        },
        pk="id",
    )


def _m0002_accounts(db: Database) -> None:
    db.create_table(
        "drops",
        {"reason": str, "messages": int, "reported": int},
        pk="reason",
        defaults={"messages": 0, "reported": 0},
        not_null={"messages", "reported"},
    )
    db.create_table("counts", {"kind": str, "as_of_id": int, "messages": int}, pk="kind")
    db.table("counts").insert_all(
        {"kind": kind, "as_of_id": 0, "messages": 0} for kind in ("samples", "events")
    )
    db.create_table(
        "runs",
        {"number": int, "run_id": str, "last_sequence": int},
        pk="number",
        not_null={"run_id", "last_sequence"},
    )


def _m0003_time_bases(db: Database) -> None:
    db.create_table(
        "time_bases",
        {"run_id": str, "boot_id": str, "zero_ms": int, "first_id": int},
        pk="run_id",
        not_null={"boot_id", "zero_ms", "first_id"},
    )


def _m0004_thinning_and_salvage(db: Database) -> None:
    db.create_table(
        "sweeps",
        {"name": str, "position": int, "level": int},
        pk="name",
        not_null={"position", "level"},
    )
    db.create_table(
        "salvages",
        {
            "file": str,
            "expected": int,
            "skip": str,
            "next_page": int,
            "saved": int,
            "bad_pages": int,
            "done": int,
        },
        pk="file",
        not_null={"skip", "next_page", "saved", "bad_pages", "done"},
    )


def _m0005_run_drops(db: Database) -> None:
    db.create_table(
        "run_drops",
        {"run_id": str, "reason": str, "messages": int, "first": int, "last": int},
        pk=("run_id", "reason"),
        not_null={"messages", "first", "last"},
    )
    # of which runs these were was not noted
    db.execute("INSERT INTO run_drops SELECT '', reason, messages, 0, 0 FROM drops")


MIGRATIONS: Final[tuple[Callable[[Any], None], ...]] = (
    _m0001_messages,
    _m0002_accounts,
    _m0003_time_bases,
    _m0004_thinning_and_salvage,
    _m0005_run_drops,
)
"""Append only: the position in this tuple is the version."""

CURRENT_VERSION: Final = len(MIGRATIONS)


def migrate(path: Path, version: int) -> None:
    """Bring the file from ``version`` to the current one, each step and its record at once.

    Raises:
        sqlite3.Error: as SQLite gives it; the step that failed changed nothing.
    """
    # 0.1 s of import and 9 MB of memory, which a board with a current file never pays
    from sqlite_utils import Database  # noqa: PLC0415

    db = Database(path)
    try:
        if version == 0:
            # must come before the first table and before WAL (sqlite.org/pragma.html)
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
            with db.atomic():
                step(db)
                db.execute(f"PRAGMA user_version = {number}")
    finally:
        db.close()
