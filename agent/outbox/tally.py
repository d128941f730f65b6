"""The outbox's books: what was created is acknowledged, waiting or dropped, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.outbox.message import Kind


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
