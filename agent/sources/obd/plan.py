"""What is asked next: each request at its own interval, one at a time. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Entry:
    interval_s: float
    due_s: float
    once: bool


class Plan(Generic[Key]):
    """Requests by key, in the order in which they are due; a tie goes to the one added first.

    The next time is counted from the last one, so intervals do not drift; one that was
    missed is skipped, not made up for.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}

    def add(self, key: Key, interval_s: float, now_s: float, *, once: bool = False) -> None:
        """Ask from now on, every ``interval_s``; ``once``: until ``settled``."""
        self._entries[key] = _Entry(interval_s, now_s, once)

    def drop(self, keys: Iterable[Key]) -> None:
        """Ask no more; unknown keys are no error."""
        for key in keys:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Ask nothing."""
        self._entries.clear()

    def next(self) -> tuple[Key, float] | None:
        """The key that is due first and when (monotonic), which may be past; ``None``: none."""
        if not self._entries:
            return None
        key = min(self._entries, key=lambda one: self._entries[one].due_s)
        return key, self._entries[key].due_s

    def asked(self, key: Key, now_s: float) -> None:
        """It was asked; answered or not, it is due again after its interval."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.due_s += entry.interval_s
        if entry.due_s <= now_s:
            missed = (now_s - entry.due_s) // entry.interval_s + 1
            entry.due_s += missed * entry.interval_s

    def hasten(self, key: Key, due_s: float) -> None:
        """Ask at this time already, if it would be later."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.due_s = min(entry.due_s, due_s)

    def settled(self, key: Key) -> None:
        """It was answered; what is asked once goes."""
        entry = self._entries.get(key)
        if entry is not None and entry.once:
            del self._entries[key]
