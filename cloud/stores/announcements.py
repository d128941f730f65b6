"""What the broker has still to tell of changes that another process has made.

A change by an operator's command and its announcements are stored in one transaction; the
broker takes them within a second. What nobody is there to hear is forgotten, as on AWS:
vehicles ask when they connect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from cloud.stores.database import Database


class Announcement(NamedTuple):
    """A message of the cloud's own, for whoever has subscribed."""

    topic: str
    payload: bytes


def announce(connection: sqlite3.Connection, told: Iterable[Announcement]) -> None:
    """Leave these for the broker; part of the caller's transaction."""
    connection.executemany("INSERT INTO announcements (topic, payload) VALUES (?, ?)", told)


def take_announcements(database: Database) -> list[Announcement]:
    """What was left since the last time, in its order.

    Raises:
        StoreError: the file cannot be read or written; nothing was taken.
    """
    if not database.read("SELECT 1 FROM announcements LIMIT 1"):
        return []
    with database.write() as connection:
        rows = connection.execute(
            "DELETE FROM announcements RETURNING id, topic, payload"
        ).fetchall()
    return [Announcement(topic, payload) for _, topic, payload in sorted(rows)]
