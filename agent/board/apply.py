"""Carry a plan out, and undo it; a cut at any moment leaves what the next run can finish."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.board.plan import Change, Places
from agent.board.record import Book, Entry, Record
from agent.board.render import REBOOT
from agent.board.standing import clear, make_folders, place
from agent.errors import StateError


def apply(
    changes: Sequence[Change],
    places: Places,
    book: Book,
    record: Record | None,
    wanted: dict[str, Any],
    *,
    this_boot: str = "",
) -> None:
    """Write every change, the record first. ``this_boot`` is the board's, if it runs here.

    Raises:
        StateError: something cannot be written; run it again, or undo.
    """
    folders = dict.fromkeys(() if record is None else record.folders)
    folders |= dict.fromkeys(_missing_folders(changes, places))
    needs_reboot = any(change.is_one and change.needs == REBOOT for change in changes)
    earlier = "" if record is None else record.reboot_from
    reboot_from = this_boot if needs_reboot else earlier
    with _told_as_state_error(book):
        book.write(_under_way(wanted, changes, folders, reboot_from))
        for change in changes:
            _carry_out(change, places)
        kept = tuple(_entry(change) for change in changes if change.is_wanted)
        folders = _still_there(folders, places)
        book.write(Record(wanted, kept, tuple(folders), reboot_from=reboot_from))


def undo(changes: Sequence[Change], places: Places, book: Book, record: Record) -> None:
    """Put every original back, remove the folders that were made, and the record last.

    Raises:
        StateError: something cannot be written; run it again.
    """
    with _told_as_state_error(book):
        book.write(_under_way(record.wanted, changes, record.folders, record.reboot_from))
        for change in changes:
            _carry_out(change, places)
        _still_there(dict.fromkeys(record.folders), places)
        book.remove()


def _carry_out(change: Change, places: Places) -> None:
    path = places.of(change.path)
    if not change.is_one:
        clear(path)
        return
    if not change.after.is_absent:
        make_folders(path.parent)
    if change.after.is_absent and not path.parent.is_dir():
        return
    place(path, change.after)


def _under_way(
    wanted: dict[str, Any], changes: Sequence[Change], folders: Iterable[str], reboot_from: str
) -> Record:
    entries = tuple(_entry(change, is_under_way=True) for change in changes)
    return Record(wanted, entries, tuple(folders), is_whole=False, reboot_from=reboot_from)


def _entry(change: Change, *, is_under_way: bool = False) -> Entry:
    """While it is under way, what stands there now is ours as well as what will."""
    accepted = {change.after.digest} | ({change.now.digest} if is_under_way else set())
    return Entry(change.path, change.how, change.content, change.original, frozenset(accepted))


def _missing_folders(changes: Sequence[Change], places: Places) -> list[str]:
    found: list[str] = []
    for change in changes:
        if change.after.is_absent:
            continue
        folder = places.of(change.path).parent
        missing = []
        while not folder.is_dir() and folder != places.root:
            missing.append(str(folder.relative_to(places.root)))
            folder = folder.parent
        found += reversed(missing)
    return found


def _still_there(folders: dict[str, None], places: Places) -> dict[str, None]:
    """Remove what is empty again, the inner first."""
    for name in sorted(folders, key=len, reverse=True):
        with contextlib.suppress(OSError):
            (places.root / name).rmdir()
    return {name: None for name in folders if (places.root / name).is_dir()}


@contextlib.contextmanager
def _told_as_state_error(book: Book) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = Path(error.filename or book.file)
        raise StateError(
            f"{where} cannot be written: {error.strerror}",
            hint="With sudo? What was begun can be finished by the same command, or undone by "
            "`milepost-agent board undo`.",
        ) from error
