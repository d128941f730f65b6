"""The sampling modes: one table, its guards, and nothing else. Pure.

``docs/modes.md`` and its diagram are written from here (:mod:`agent.engine.modes_page`).

=========  =======  ============  ======================
from       to       when          held for
=========  =======  ============  ======================
any other  in_trip  in use        at once
any other  in_trip  driving       ``trip_enter_dwell_s``
in_trip    normal   standing      ``trip_leave_dwell_s``
in_trip    normal   blind         ``trip_blind_dwell_s``
normal     saver    parked empty  ``parked_dwell_s``
normal     idle     parked full   ``parked_dwell_s``
idle       saver    parked empty  ``battery_dwell_s``
idle       normal   moving        ``trip_enter_dwell_s``
idle       normal   not full      ``battery_dwell_s``
saver      normal   moving        ``trip_enter_dwell_s``
saver      normal   not empty     ``battery_dwell_s``
=========  =======  ============  ======================

A row fires when its guard has held without a break for the dwell, counted from when it
began to hold or from when its ``from`` mode was entered, whichever is later. So a mode is
left only after a dwell of its own, and a reading at a threshold cannot make modes flap;
the enter and leave thresholds differ besides. ``in use`` alone acts at once: whoever
switches a vehicle on wants to see it, and the way back takes ``trip_leave_dwell_s``.

What is unknown is not assumed. No known speed neither begins a trip nor parks the vehicle
(a tunnel is no parking place), and ends a trip only after the longer "blind" dwell. A
vehicle that says nothing of its battery is not taken for full: it stays ``normal`` unless
``idle_when_battery_unknown`` says otherwise. A battery of unknown charging state counts
as not charging, which protects it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.config import ThresholdSettings, UnknownBattery
from contract import Mode


@dataclass(frozen=True, slots=True)
class Situation:
    """What the guards may look at; ``None`` is unknown."""

    speed_kmh: float | None = None
    in_use: bool | None = None
    battery_percent: float | None = None
    charging: bool | None = None


Guard = Callable[[Situation, ThresholdSettings], bool]


def _in_use(now: Situation, _: ThresholdSettings) -> bool:
    """CAN says so (`vehicle_status.in_use`)."""
    return now.in_use is True


def _driving(now: Situation, limit: ThresholdSettings) -> bool:
    """Faster than `trip_enter_speed_kmh`."""
    return now.speed_kmh is not None and now.speed_kmh > limit.trip_enter_speed_kmh


def _moving(now: Situation, limit: ThresholdSettings) -> bool:
    """Faster than `trip_leave_speed_kmh`."""
    return now.speed_kmh is not None and now.speed_kmh > limit.trip_leave_speed_kmh


def _standing(now: Situation, limit: ThresholdSettings) -> bool:
    """Slower than `trip_leave_speed_kmh`, and not in use."""
    if now.in_use is True or now.speed_kmh is None:
        return False
    return now.speed_kmh < limit.trip_leave_speed_kmh


def _blind(now: Situation, limit: ThresholdSettings) -> bool:
    """Of unknown speed, or standing; and not in use."""
    return now.in_use is not True and (now.speed_kmh is None or _standing(now, limit))


def _parked_full(now: Situation, limit: ThresholdSettings) -> bool:
    """Standing, the battery above `idle_enter_battery_percent`, or unknown and taken for full."""
    if not _standing(now, limit):
        return False
    if now.battery_percent is None:
        return limit.idle_when_battery_unknown is UnknownBattery.IDLE
    return now.battery_percent > limit.idle_enter_battery_percent


def _parked_empty(now: Situation, limit: ThresholdSettings) -> bool:
    """Standing, the battery below `saver_enter_battery_percent` and not charging."""
    if not _standing(now, limit) or now.charging is True or now.battery_percent is None:
        return False
    return now.battery_percent < limit.saver_enter_battery_percent


def _not_full(now: Situation, limit: ThresholdSettings) -> bool:
    """The battery below `idle_leave_battery_percent`, or unknown and not taken for full."""
    if now.battery_percent is None:
        return limit.idle_when_battery_unknown is not UnknownBattery.IDLE
    return now.battery_percent < limit.idle_leave_battery_percent


def _not_empty(now: Situation, limit: ThresholdSettings) -> bool:
    """The battery charging, or above `saver_leave_battery_percent`."""
    if now.charging is True:
        return True
    return now.battery_percent is not None and (
        now.battery_percent > limit.saver_leave_battery_percent
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; ``dwell`` names the threshold that holds the seconds."""

    source: Mode
    target: Mode
    guard: Guard
    reason: str
    dwell: str | None


FIRST: Final = Mode.NORMAL
"""At the start, unless a trip goes on."""

QUIET: Final = (Mode.NORMAL, Mode.IDLE, Mode.SAVER)

TABLE: Final[tuple[Row, ...]] = (
    *(Row(mode, Mode.IN_TRIP, _in_use, "in_use", None) for mode in QUIET),
    *(Row(mode, Mode.IN_TRIP, _driving, "driving", "trip_enter_dwell_s") for mode in QUIET),
    Row(Mode.IN_TRIP, Mode.NORMAL, _standing, "standing", "trip_leave_dwell_s"),
    Row(Mode.IN_TRIP, Mode.NORMAL, _blind, "speed_unknown", "trip_blind_dwell_s"),
    Row(Mode.NORMAL, Mode.SAVER, _parked_empty, "parked_battery_low", "parked_dwell_s"),
    Row(Mode.NORMAL, Mode.IDLE, _parked_full, "parked", "parked_dwell_s"),
    Row(Mode.IDLE, Mode.SAVER, _parked_empty, "parked_battery_low", "battery_dwell_s"),
    Row(Mode.IDLE, Mode.NORMAL, _moving, "moving", "trip_enter_dwell_s"),
    Row(Mode.IDLE, Mode.NORMAL, _not_full, "battery_not_full", "battery_dwell_s"),
    Row(Mode.SAVER, Mode.NORMAL, _moving, "moving", "trip_enter_dwell_s"),
    Row(Mode.SAVER, Mode.NORMAL, _not_empty, "battery_recovered", "battery_dwell_s"),
)
"""Within one mode the first row that is due fires."""


@dataclass(frozen=True, slots=True)
class Transition:
    """The mode changed."""

    source: Mode
    target: Mode
    reason: str


class ModeMachine:
    """The mode, and since when each of its rows' guards has held."""

    def __init__(self, thresholds: ThresholdSettings, mode: Mode = FIRST) -> None:
        self._thresholds = thresholds
        self._enter(mode)

    @property
    def mode(self) -> Mode:
        """The mode as of the last observation."""
        return self._mode

    def apply(self, thresholds: ThresholdSettings) -> None:
        """Other thresholds from now on; the mode stays, and so does what has held so long."""
        self._thresholds = thresholds

    def observe(self, now: Situation, now_s: float) -> Transition | None:
        """Take the situation at a monotonic time; at most one transition an observation."""
        for index, row in enumerate(self._rows):
            if not row.guard(now, self._thresholds):
                self._held_since_s[index] = None
                continue
            since_s = self._held_since_s[index]
            if since_s is None:
                since_s = self._held_since_s[index] = now_s
            dwell_s = getattr(self._thresholds, row.dwell) if row.dwell else 0.0
            if now_s - since_s >= dwell_s:
                self._enter(row.target)
                return Transition(row.source, row.target, row.reason)
        return None

    def _enter(self, mode: Mode) -> None:
        self._mode = mode
        self._rows = [row for row in TABLE if row.source is mode]
        self._held_since_s: list[float | None] = [None] * len(self._rows)
