"""Messages that were created before a trusted time was known: kept back, then re-stamped.

Their timestamps are on the provisional scale of their run (:class:`agent.ports.TimeBase`),
so one shift per run puts them right: the true UTC time of the boot's monotonic zero less
the provisional one. ``time_bases`` keeps that scale for each run that began without a
time, with the kernel's id of the boot and the first row that the run may have written:

::

    time_bases    run_id, boot_id, zero_ms, first_id

Rules
-----
1. While the time is unknown all that is live waits, and so do the rows from ``first_id``
   on. Rows of earlier boots do not wait: nothing can ever tell their time, so they go as
   they are, called ``unsynced``.
2. When the time is known, what is in memory is re-stamped at once and what is on disk in
   steps of ``CHUNK_ROWS``, each step in one transaction; a step lets its rows go.
3. A payload says itself whether it was re-stamped (its ``time_quality``), so that a step
   done twice, or cut off by a power cut, shifts nothing twice.
4. Only the timestamp, the fix's time and the quality change; ``(run_id, sequence)`` never.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agent.outbox.batch import Row
from agent.outbox.message import Kind, Message
from agent.outbox.store import Store
from agent.ports import TimeBase
from contract import TimeQuality
from contract.fields import format_timestamp

CHUNK_ROWS: Final = 500
"""Rows that one transaction re-stamps: about 20 ms, less than a slow card's sync."""

_ALL_ROWS: Final = -(2**62)
"""Before every row, those of a salvage included."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Untimed:
    """What waits for the time. Not thread-safe; the outbox holds its lock around it.

    ``base`` is what the clock says at the start; ``None`` or a trusted one: this run
    needs no re-stamping. Without a ``boot_id`` only this run's own messages can be put
    right, not those of an earlier run of the same boot.
    """

    def __init__(self, run_id: str, boot_id: str = "", base: TimeBase | None = None) -> None:
        self._run_id = run_id
        self._boot_id = boot_id or run_id
        self._zeros_ms: dict[str, int] = {}
        if base is not None and not base.trusted:
            self._zeros_ms[run_id] = base.zero_ms()
        self._scales_ms = dict(self._zeros_ms)
        self._opened = False
        self._known: TimeBase | None = None
        self._first_id = 0
        self._rows_from: dict[Kind, int] = {}
        self.live_waits = bool(self._zeros_ms)
        """Whether all that is live must wait."""

    # --- what may be sent ----------------------------------------------------------

    def may_go(self, kind: Kind, rows: Sequence[Row]) -> Sequence[Row]:
        """Of rows in ascending order those that need not wait."""
        limit = self._rows_from.get(kind)
        if limit is None or not rows or rows[-1][0] < limit:
            return rows
        return [row for row in rows if row[0] < limit]

    def nothing_behind(self, kind: Kind, cursor: int) -> bool:
        """Whether every row behind the cursor waits."""
        return cursor >= self._rows_from.get(kind, cursor + 2) - 1

    def skip_to(self, kind: Kind, cursor: int) -> int:
        """Where the cursor may stand once all rows before the waiting ones were read."""
        return max(cursor, self._rows_from[kind] - 1)

    # --- opening -------------------------------------------------------------------

    def opened(self, store: Store, last_id: int) -> None:
        """A file was opened: note this run's scale in it, take up those of this boot.

        Raises:
            StoreError: nothing was noted.
        """
        found = store.transact(lambda connection: self._take_up(connection, last_id + 1))
        self._opened = True
        self._zeros_ms.update({run_id: zero_ms for run_id, zero_ms, _ in found})
        self._scales_ms.update(self._zeros_ms)
        if found:
            self._first_id = min(first_id for _, _, first_id in found)
            if self.live_waits or self._known is not None:
                self._rows_from = dict.fromkeys(Kind, self._first_id)

    def _take_up(self, connection: sqlite3.Connection, next_id: int) -> list[tuple[str, int, int]]:
        connection.execute("DELETE FROM time_bases WHERE boot_id <> ?", (self._boot_id,))
        connection.executemany(
            "INSERT OR IGNORE INTO time_bases VALUES (?, ?, ?, ?)",
            # after a fault the file may be another one, in which earlier ids mean nothing
            [
                (run_id, self._boot_id, zero_ms, _ALL_ROWS if self._opened else next_id)
                for run_id, zero_ms in self._zeros_ms.items()
            ],
        )
        return connection.execute("SELECT run_id, zero_ms, first_id FROM time_bases").fetchall()

    # --- the time becomes known ----------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there may be messages of this boot without a trusted time."""
        return bool(self._zeros_ms) and self._known is None

    def time_is_known(self, base: TimeBase, in_memory: Iterable[Message]) -> int:
        """Put right what is in memory; how many messages that were."""
        if not self.waiting:
            return 0
        self._known = base
        self.live_waits = False
        self._rows_from = dict.fromkeys(Kind, self._first_id)
        return self.put_right(in_memory)

    def stop_waiting(self) -> None:
        """The time may never come: let all go as it is, until it does come."""
        self.live_waits = False
        self._rows_from = {}

    def put_right(self, messages: Iterable[Message]) -> int:
        """Re-stamp those that need it, once the time is known; how many these were.

        Rows are put right on disk, so this finds only what a salvage brought back since.
        """
        count = 0
        for message in messages:
            zero_ms = self._scales_ms.get(message.run_id)
            if self._known is None or zero_ms is None or message.taken_ms is not None:
                continue
            shift_ms = self._known.zero_ms() - zero_ms
            done = restamped(message.payload, shift_ms, self._known.quality)
            if done is not None:
                message.taken_ms, message.payload = done
                count += 1
        return count

    def next_step(self) -> Step | None:
        """What to re-stamp next on disk; ``None`` when nothing is pending."""
        if self._known is None or not self._zeros_ms:
            return None
        kind = next((kind for kind in Kind if kind in self._rows_from), None)
        first = self._rows_from[kind] if kind is not None else 0
        return Step(kind, first, self._known, dict(self._zeros_ms))

    def step_done(self, step: Step, last_row: int | None) -> None:
        """Let the rows up to ``last_row`` go; ``None``: all of the kind."""
        if step.kind is None:
            self._zeros_ms.clear()
        elif last_row is None:
            self._rows_from.pop(step.kind, None)
        else:
            self._rows_from[step.kind] = last_row + 1


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction's re-stamping; without a kind the last one, which forgets the scales."""

    kind: Kind | None
    first: int
    known: TimeBase
    zeros_ms: dict[str, int]

    def run(self, connection: sqlite3.Connection) -> int | None:
        """Do it; the last row that was looked at, ``None`` if there was none. No lock needed."""
        if self.kind is None:
            connection.execute("DELETE FROM time_bases")
            return None
        rows = connection.execute(
            f"SELECT id, run_id, payload FROM {self.kind.value}"  # noqa: S608  an enum
            " WHERE id >= ? AND taken_ms IS NULL ORDER BY id LIMIT ?",
            (self.first, CHUNK_ROWS),
        ).fetchall()
        changes = []
        for row, run_id, payload in rows:
            zero_ms = self.zeros_ms.get(run_id)
            if zero_ms is not None:
                shift_ms = self.known.zero_ms() - zero_ms
                done = restamped(payload, shift_ms, self.known.quality)
                if done is not None:
                    changes.append((*done, row))
        connection.executemany(
            f"UPDATE {self.kind.value} SET taken_ms = ?, payload = ? WHERE id = ?",  # noqa: S608  as above
            changes,
        )
        return int(rows[-1][0]) if rows else None


def restamped(payload: bytes, shift_ms: int, quality: TimeQuality) -> tuple[int, bytes] | None:
    """``(taken_ms, payload)`` with its times moved by ``shift_ms``; ``None`` for a damaged one.

    One that is trusted already keeps its payload.
    """
    try:
        fields: dict[str, Any] = json.loads(payload)
        taken = _parse(fields["timestamp"])
        if fields["time_quality"] != TimeQuality.UNSYNCED.value:
            return _milliseconds(taken), payload
        taken += timedelta(milliseconds=shift_ms)
        fields["timestamp"] = format_timestamp(taken)
        fields["time_quality"] = quality.value
        location = fields.get("location")
        if location is not None and "fix_time" in location:
            fix_time = _parse(location["fix_time"]) + timedelta(milliseconds=shift_ms)
            location["fix_time"] = format_timestamp(fix_time)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return _milliseconds(taken), text.encode()


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
