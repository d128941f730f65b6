"""Brings the messages of damaged files into the new one, beside the outbox's work.

One step reads a few pages and commits what it found with how far it came, so it never
holds the writer up for long and goes on after a crash where it was. How many rows a
file should hold is known when this process used it, or from the file's own counts; what
does not turn up is counted as dropped (``damaged``).
"""

from __future__ import annotations

import logging
import sqlite3
from bisect import bisect_right
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.outbox.batch import Batch, Ranges, Row, SalvageJob
from agent.outbox.connection import connect_reader
from agent.outbox.disk_ledger import DiskLedger
from agent.outbox.faults import StoreError, store_errors
from agent.outbox.message import Kind, ranges
from agent.outbox.opening import read_totals
from agent.outbox.pages import Pages
from agent.outbox.rescue import messages_in
from agent.outbox.run_drops import DropTotal
from agent.outbox.salvage_jobs import forget_job, mark_salvaged, unsalvaged_files
from agent.outbox.store import Store

LOG = logging.getLogger("agent.outbox")

STEP_PAGES: Final = 64
"""256 KB read and some 450 rows written: 20 ms on a PC, some 0.2 s on a slow board."""

STEP_EVERY_S: Final = 0.1


class Salvage:
    """Not thread-safe; the writer's thread alone calls it."""

    def __init__(self, ledger: DiskLedger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._jobs: dict[str, SalvageJob] = {}
        self._pages: Pages | None = None
        self._free: set[int] = set()
        self._counted: set[str] = set()
        """Files whose loss is in the books; a commit that fails after it is repeated."""

    def waits(self) -> bool:
        """There is a file to go on with."""
        return bool(self._jobs)

    def note_set_aside(self, file: Path, expected: int, skip: dict[Kind, set[int]]) -> None:
        """A file of this process was set aside: what it holds is known."""
        self.close()
        self._jobs[file.name] = SalvageJob(
            file.name, expected, {kind: ranges(sorted(ids)) for kind, ids in skip.items() if ids}
        )

    def find(self, recorded: list[SalvageJob]) -> None:
        """Files that wait, with the progress that the outbox's file has recorded of them."""
        progress = {job.file: job for job in recorded}
        for file in unsalvaged_files(self._store.path):
            if file.name in progress:
                self._jobs[file.name] = progress[file.name]
            elif file.name not in self._jobs:
                job = SalvageJob(file.name)
                job.expected, unreported, totals = _what_it_says(file)
                self._ledger.inherit_unsaved_drops(unreported, totals)
                self._jobs[file.name] = job

    def step(self) -> None:
        """A few pages of the oldest file; after the last ones the file gets its other name.

        Raises:
            StoreError: the new file could not be written, or the old one not renamed; the
                step is repeated later.
        """
        job = next(iter(self._jobs.values()))
        file = self._store.path.with_name(job.file)
        if not job.done and self._read_on(job, file):
            self._end(job, file)
        if job.done:
            self.close()
            with store_errors(f"cannot rename {file}"):
                mark_salvaged(file)
            self._store.transact(lambda connection: forget_job(connection, job.file))
            del self._jobs[job.file]

    def _read_on(self, job: SalvageJob, file: Path) -> bool:
        """Bring the next few pages; whether these were the last."""
        with store_errors(f"cannot read {file}"):
            if self._pages is None:
                self._pages = Pages(file)
                self._free = self._pages.free_pages()
            found, bad = self._read(self._pages, job)
        before = (job.next_page, job.saved, job.bad_pages)
        job.next_page += STEP_PAGES
        job.saved += sum(len(rows) for rows in found.values())
        job.bad_pages += bad
        try:
            self._store.commit(Batch(salvaged=found, jobs=[job]))
        except StoreError:
            job.next_page, job.saved, job.bad_pages = before
            raise
        self._ledger.salvaged(job.file, {kind: len(rows) for kind, rows in found.items()})
        return job.next_page > self._pages.count

    def _end(self, job: SalvageJob, file: Path) -> None:
        """What is lost and that it is known go to disk in one commit: neither without the other."""
        if job.file not in self._counted:
            self._counted.add(job.file)
            self._count(job, file)
        batch = self._ledger.drops_to_commit()
        batch.jobs = [replace(job, done=True)]
        self._store.commit(batch)
        self._ledger.committed(batch, 0.0)
        job.done = True

    def _read(self, pages: Pages, job: SalvageJob) -> tuple[dict[Kind, list[Row]], int]:
        found: dict[Kind, list[Row]] = {}
        bad = 0
        for number in range(job.next_page, min(job.next_page + STEP_PAGES, pages.count + 1)):
            if number in self._free:
                continue
            messages, unreadable = messages_in(pages, number)
            bad += unreadable
            for kind, row in messages:
                if not _within(job.skip.get(kind, []), row[0]):
                    found.setdefault(kind, []).append(row)
        return found, bad

    def _count(self, job: SalvageJob, file: Path) -> None:
        lost = max(0, (job.expected or 0) - job.saved)
        self._ledger.salvage_ended(job.file, lost)
        LOG.warning(
            "salvage of %s ended: %d messages saved, %s lost, %d pages unreadable",
            file,
            job.saved,
            lost if job.expected is not None else "an unknown number",
            job.bad_pages,
        )

    def close(self) -> None:
        """Let go of the file; idempotent."""
        if self._pages is not None:
            self._pages.close()
        self._pages = None


def _within(found: Ranges, row: int) -> bool:
    index = bisect_right(found, row, key=lambda pair: pair[0]) - 1
    return index >= 0 and row <= found[index][1]


def _what_it_says(file: Path) -> tuple[int | None, dict[str, int], list[DropTotal]]:
    """How many messages a damaged file counted, which drops nobody was told of, and all drops."""
    expected: int | None = None
    unreported: dict[str, int] = {}
    totals: list[DropTotal] = []
    try:
        if not file.exists() or not file.stat().st_size:
            return None, {}, []  # SQLite deletes the log of an empty file, even when it only reads
        with closing(connect_reader(file)) as db:
            unreported = dict(
                db.execute(
                    "SELECT reason, messages - reported FROM drops WHERE messages > reported"
                ).fetchall()
            )
            expected = sum(
                messages
                + db.execute(f"SELECT count(*) FROM {kind} WHERE id > ?", (as_of,)).fetchone()[0]  # noqa: S608  an enum
                for kind, as_of, messages in db.execute(
                    "SELECT kind, as_of_id, messages FROM counts"
                ).fetchall()
                if kind in set(Kind)
            )
            totals = read_totals(db)
    except (sqlite3.Error, OSError, TypeError, ValueError):
        LOG.warning("how much %s held is not known for sure", file)
    return expected, unreported, totals
