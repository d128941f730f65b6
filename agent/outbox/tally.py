"""The outbox's books: what was created is acknowledged, waiting or dropped, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.outbox.message import DropReason, Kind


def _zeros() -> dict[Kind, int]:
    return dict.fromkeys(Kind, 0)


@dataclass(slots=True)
class Tally:
    """Counts of messages since this process started.

    ``inherited`` are the rows that earlier runs left; ``acknowledged`` are this run's own.
    """

    created: dict[Kind, int] = field(default_factory=_zeros)
    acknowledged: dict[Kind, int] = field(default_factory=_zeros)
    inherited: int = 0
    inherited_acknowledged: int = 0
    waiting: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def imbalance(self) -> int:
        """Messages that are nowhere; anything but 0 is a defect."""
        came = sum(self.created.values()) + self.inherited
        went = (
            sum(self.acknowledged.values())
            + self.inherited_acknowledged
            + sum(self.dropped.values())
        )
        return came - went - self.waiting

    def drop(self, reason: DropReason, messages: int) -> None:
        """So many were given up; they no longer wait, which the caller counts."""
        _add(self.dropped, {reason.value: messages})

    def copy(self) -> Tally:
        """A snapshot."""
        return Tally(
            dict(self.created),
            dict(self.acknowledged),
            self.inherited,
            self.inherited_acknowledged,
            self.waiting,
            dict(self.dropped),
        )


@dataclass(slots=True)
class Drops:
    """Drops by reason on their way to disk and into a ``dropped`` event."""

    _unsaved: dict[str, int] = field(default_factory=dict)
    _unreported: dict[str, int] = field(default_factory=dict)
    _reported: dict[str, int] = field(default_factory=dict)

    def add(self, reason: DropReason, messages: int) -> None:
        """So many were given up."""
        _add(self._unsaved, {reason.value: messages})
        _add(self._unreported, {reason.value: messages})

    def inherit(self, unreported: dict[str, int]) -> None:
        """Earlier runs dropped these and told nobody."""
        _add(self._unreported, unreported)

    def on_new_file(self) -> None:
        """The file that knew of them is gone: the next one is told all that is not told."""
        self._unsaved = dict(self._unreported)
        _add(self._unsaved, self._reported)

    def take_unreported(self) -> dict[str, int]:
        """What no event has told of; from now on it counts as told."""
        taken, self._unreported = self._unreported, {}
        _add(self._reported, taken)
        return taken

    def unsaved(self) -> tuple[dict[str, int], dict[str, int]]:
        """What the disk does not know: drops, and drops reported."""
        return dict(self._unsaved), dict(self._reported)

    def saved(self, drops: dict[str, int], reported: dict[str, int]) -> None:
        """The disk knows these now."""
        for numbers, known in ((self._unsaved, drops), (self._reported, reported)):
            for reason, messages in known.items():
                numbers[reason] -= messages
                if not numbers[reason]:
                    del numbers[reason]


def _add(numbers: dict[str, int], more: dict[str, int]) -> None:
    for reason, messages in more.items():
        numbers[reason] = numbers.get(reason, 0) + messages
