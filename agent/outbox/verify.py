"""Is an outbox's file sound: structure, counts and every message in it; read-only.

Reads in pages, so a running agent can checkpoint meanwhile. What the agent changes
between two pages is no error: the counts are compared within one read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.outbox.connection import connect_reader
from agent.outbox.message import Kind
from agent.outbox.salvage_jobs import unsalvaged_files

_PAGE_ROWS: Final = 500
_TOLD: Final = 20
"""Errors told by name; the rest is counted."""


@dataclass(slots=True)
class Findings:
    """What was found; ``errors`` is empty for a sound file."""

    file: str
    messages: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    bad_messages: int = 0
    to_salvage: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing is wrong and nothing waits for its salvage."""
        return not self.errors and not self.bad_messages and not self.to_salvage

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "file": self.file,
            "sound": self.sound,
            "messages": self.messages,
            "dropped": self.dropped,
            "bad_messages": self.bad_messages,
            "to_salvage": self.to_salvage,
            "errors": self.errors,
        }


def verify(path: Path) -> Findings:
    """Look at all of a file. Raises nothing for a damaged one."""
    findings = Findings(str(path), to_salvage=[str(file) for file in unsalvaged_files(path)])
    try:
        with closing(connect_reader(path)) as db:
            for (line,) in db.execute(f"PRAGMA integrity_check({_TOLD})"):
                if line != "ok":
                    findings.errors.append(str(line))
            _look_at_counts(db, findings)
            for kind in Kind:
                _look_at_messages(db, kind, findings)
    except sqlite3.Error as error:
        findings.errors.append(str(error))
    return findings


def _look_at_counts(db: sqlite3.Connection, findings: Findings) -> None:
    findings.dropped = dict(db.execute("SELECT reason, messages FROM drops").fetchall())
    for kind in Kind:
        # one statement is one snapshot, whatever the agent commits meanwhile
        counted, found, total = db.execute(
            f"SELECT c.messages, (SELECT count(*) FROM {kind.value} WHERE id <= c.as_of_id),"  # noqa: S608  an enum
            f" (SELECT count(*) FROM {kind.value}) FROM counts c WHERE c.kind = ?",
            (kind.value,),
        ).fetchone() or (0, 0, 0)
        findings.messages[kind.value] = total
        if counted != found:
            findings.errors.append(f"{kind.value}: {counted} are counted, {found} are there")


def _look_at_messages(db: sqlite3.Connection, kind: Kind, findings: Findings) -> None:
    for row, run_id, sequence, payload in _rows(db, kind):
        try:
            said = json.loads(payload)
            good = said["run_id"] == run_id and said["sequence"] == sequence
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            findings.bad_messages += 1
            if findings.bad_messages <= _TOLD:
                findings.errors.append(f"{kind.value}: row {row} is no message {run_id}/{sequence}")


def _rows(db: sqlite3.Connection, kind: Kind) -> Iterator[tuple[int, str, int, bytes]]:
    last = -(2**63)
    while rows := db.execute(
        f"SELECT id, run_id, sequence, payload FROM {kind.value}"  # noqa: S608  an enum
        " WHERE id > ? ORDER BY id LIMIT ?",
        (last, _PAGE_ROWS),
    ).fetchall():
        yield from rows
        last = rows[-1][0]
