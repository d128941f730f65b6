"""One message on its way: what the outbox keeps and the publisher sends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Kind(StrEnum):
    """What a message is; the value is also the name of its table."""

    SAMPLE = "samples"
    EVENT = "events"


class Place(Enum):
    """Where a message that is held in memory stands."""

    LIVE = "live"
    """Waits to be sent singly, or in a live batch."""

    CLAIMED = "claimed"
    """With the publisher: in flight, or about to be."""

    SETTLED = "settled"
    """Acknowledged or dropped; it counts no more."""


class DropReason(StrEnum):
    """Why a message was given up; the text is the key in counters and in the status."""

    THINNED = "thinned"
    """Resolution given up for room or age; the route stays (:mod:`agent.outbox.thinning`)."""

    OUTBOX_FULL = "outbox_full"
    """``outbox.max_mb`` was reached and thinning could give no more: the oldest samples went,
    events only when none was left."""

    EXPIRED = "expired"
    """``outbox.max_age_days`` passed without a connection."""

    DISK_FULL = "disk_full"
    """The file system was full or failing, and thinning the reserve in memory could give no more:
    the oldest went."""

    DAMAGED = "damaged"
    """The outbox's file was damaged; they were in it and could not be salvaged."""

    REFUSED = "refused"
    """The broker refused this one message again and again; kept in ``refused`` for inspection."""


@dataclass(slots=True, eq=False)
class Message:
    """A sample or an event, encoded as it is sent singly.

    ``taken_ms`` is its UTC time in milliseconds since 1970, None when no trusted time was
    known. ``created_s`` is monotonic. ``ticket`` is its order in this process and ``row``
    its id on disk; each is None where it does not apply.
    """

    kind: Kind
    run_id: str
    sequence: int
    payload: bytes
    taken_ms: int | None
    created_s: float
    ticket: int | None = None
    row: int | None = None
    place: Place = Place.LIVE


def ranges(ids: list[int]) -> list[tuple[int, int]]:
    """Ascending ids as inclusive ranges: one DELETE for a whole drained batch."""
    found: list[tuple[int, int]] = []
    for number in ids:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
