"""From targets, places and the record to changes; what a human changed since is refused."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.board.merge import put, take_out
from agent.board.record import Entry, Record
from agent.board.render import BOOT, REBOOT, How, Target
from agent.board.standing import ABSENT, Standing, look
from agent.errors import StateError


@dataclass(frozen=True, slots=True)
class Places:
    """Where a target's path is on this machine. ``boot`` is ``None`` on boards without one."""

    root: Path
    boot: Path | None = None

    def of(self, path: str) -> Path:
        """The place of a target's path."""
        if path.startswith(BOOT):
            return self._boot() / path.removeprefix(BOOT)
        return self.root / path

    def name(self, path: str) -> str:
        """For people: as it is called on the board."""
        if self.root != Path("/") and not path.startswith(BOOT):
            return f"/{path}"
        return str(self.of(path))

    def _boot(self) -> Path:
        if self.boot is None:
            raise StateError(
                f"there is no boot/firmware/config.txt or boot/config.txt below {self.root}",
                hint="On the Pi itself is /boot mounted? With a card in a reader, mount its boot "
                "partition too and name it: --boot FOLDER.",
            )
        return self.boot


def find_boot(root: Path) -> Path | None:
    """Where the Pi's firmware reads from: Bookworm's place first, where /boot has a stub."""
    for folder in (root / "boot/firmware", root / "boot"):
        if (folder / "config.txt").is_file():
            return folder
    return None


@dataclass(frozen=True, slots=True)
class Change:
    """One place. What is not wanted any more goes back to its original."""

    path: str
    how: How
    content: str
    now: Standing
    after: Standing
    original: Standing
    needs: str = ""
    is_wanted: bool = True

    @property
    def is_one(self) -> bool:
        """Whether anything is different afterwards."""
        return self.now.digest != self.after.digest


def plan(
    targets: Sequence[Target], places: Places, record: Record | None, *, force: bool = False
) -> list[Change]:
    """What has to be done so that every target stands as wanted, and nothing else of ours.

    Raises:
        StateError: somebody changed one of the files since, and ``force`` is not given.
    """
    entries = {} if record is None else {entry.path: entry for entry in record.entries}
    _refuse_touched(entries.values(), places, force=force)
    changes = [_towards(target, entries.pop(target.path, None), places) for target in targets]
    changes += [_back(entry, places) for entry in entries.values()]
    return [change for change in changes if change is not None]


def plan_undo(record: Record, places: Places, *, force: bool = False) -> list[Change]:
    """What has to be done so that everything stands as before the first apply.

    Raises:
        StateError: as ``plan``.
    """
    _refuse_touched(record.entries, places, force=force)
    return [_back(entry, places) for entry in record.entries]


def touched(entries: Iterable[Entry], places: Places) -> list[str]:
    """The paths of those that somebody else changed, or removed, since."""
    return [entry.path for entry in entries if not entry.knows(look(places.of(entry.path)))]


def diff(changes: Sequence[Change], places: Places) -> Iterator[str]:
    """The changes as a unified diff, line by line."""
    for change in changes:
        if not change.is_one:
            continue
        name = places.name(change.path)
        yield from difflib.unified_diff(
            change.now.text.splitlines(keepends=True),
            change.after.text.splitlines(keepends=True),
            "/dev/null" if change.now.is_absent else name,
            "/dev/null" if change.after.is_absent else name,
        )


def _towards(target: Target, entry: Entry | None, places: Places) -> Change | None:
    """``None``: it asks for nothing there."""
    now = look(places.of(target.path))
    original = now if entry is None else _come_back_to(entry, now)
    after = _with(target, original)
    if after is None:
        return None
    return Change(target.path, target.how, target.content, now, after, original, needs=target.needs)


def _back(entry: Entry, places: Places) -> Change:
    now = look(places.of(entry.path))
    original = _come_back_to(entry, now)
    return Change(
        entry.path, entry.how, entry.content, now, original, original, REBOOT, is_wanted=False
    )


def _with(target: Target, original: Standing) -> Standing | None:
    if target.how is How.LINK:
        link = original.link
        is_same = link is not None and Path(link).name == Path(target.content).name
        return original if is_same else Standing(link=target.content)
    if target.how is How.WORDS and original.data is None:
        return None
    data = put(target.how, target.content, original.data)
    if original.data is None:
        return Standing(data=data)
    return dataclasses.replace(original, data=data)


def _come_back_to(entry: Entry, now: Standing) -> Standing:
    """The original; of what somebody changed since, theirs, less what is ours in it."""
    if entry.knows(now):
        return entry.original
    if now.data is None or entry.how in {How.WHOLE, How.LINK}:
        return now
    data = take_out(entry.how, entry.content, now.data, entry.original.data)
    return ABSENT if data is None else dataclasses.replace(now, data=data)


def _refuse_touched(entries: Iterable[Entry], places: Places, *, force: bool) -> None:
    names = [] if force else [places.name(path) for path in touched(entries, places)]
    if names:
        raise StateError(
            f"changed by somebody else since `board apply` wrote it: {', '.join(names)}",
            hint="`milepost-agent board diff --force` shows what would be done. --force takes what "
            "stands there now, less Milepost's own lines, as what to come back to.",
        )
