"""When the agent may ask: the whole of it is here, as tables. Pure.

A request wakes an ECU, and requests keep it awake: a van that is asked once a second all
night does not start in the morning. So a vehicle that sleeps is only listened to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

MOST_SPACING_S: Final = 30.0
"""Between two requests that get no answer, at most."""


class Asking(Enum):
    """What may be sent now."""

    ASK = "ask"
    """The plan, as it is due."""

    PROBE = "probe"
    """One request for the engine speed every ``obd.probe_s``."""

    LISTEN = "listen"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a vehicle that is awake.

    ``running_ago_s``: since an ECU last said that the engine turns or the wheels do, or
    since this waking began, whichever is later. ``traffic_ago_s``: since a frame that
    neither is ours nor answers us; ``None`` if there was none.
    """

    ignition: bool | None
    in_trip: bool
    running: bool
    running_ago_s: float
    traffic_ago_s: float | None
    quiet_s: float
    engine_off_s: float

    @property
    def traffic(self) -> bool:
        """Whether the bus is awake without us."""
        return self.traffic_ago_s is not None and self.traffic_ago_s < self.quiet_s


Rule = tuple[str, Callable[[Evidence], bool], Asking]

TABLE: Final[tuple[Rule, ...]] = (
    ("ignition_off", lambda seen: seen.ignition is False, Asking.LISTEN),
    ("ignition_on", lambda seen: seen.ignition is True, Asking.ASK),
    ("in_trip", lambda seen: seen.in_trip, Asking.ASK),
    ("engine_runs", lambda seen: seen.running, Asking.ASK),
    ("bus_silent", lambda seen: not seen.traffic, Asking.LISTEN),
    ("engine_off", lambda seen: seen.running_ago_s >= seen.engine_off_s, Asking.PROBE),
    ("bus_awake", lambda _seen: True, Asking.ASK),
)
"""The first row that is true decides.

``engine_off`` comes after ``bus_silent``: while only we are asking, the ECUs go to sleep
as soon as we stop, the bus falls silent, and the probes end with it.
"""


def decide(evidence: Evidence) -> tuple[str, Asking]:
    """The reason and what may be sent."""
    for reason, holds, asking in TABLE:
        if holds(evidence):
            return reason, asking
    raise AssertionError("the last row holds always")  # pragma: no cover


def spacing_s(least_s: float, unanswered: int) -> float:
    """Seconds from one exchange's end to the next request, doubling while nobody answers."""
    return min(least_s * float(1 << min(unanswered, 16)), max(least_s, MOST_SPACING_S))
