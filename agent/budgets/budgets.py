"""The budgets at work: they count, decide on the stages, and tell engine and publisher.

``look`` is called often, by the thread that writes to flash anyway: it may write the
counters' file. What the engine and the account ask is answered from what the last look
found, without a wait. Counted are the process's own totals (bytes on the wire, bytes
written), read at most once a second.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.budgets import record as records
from agent.budgets.day import DayWatch, delay_s
from agent.budgets.table import Budget, Stage, flow_of, stage_of
from agent.config import BudgetSettings
from agent.ports import Allowance, Clock

LOOK_S: Final = 1.0
_MEGABYTE: Final = 1_000_000

_log = logging.getLogger("agent.budgets")


@dataclass(frozen=True, slots=True)
class Change:
    """A budget's stage changed. On a new day ``used_bytes`` and ``day`` are the old one's."""

    budget: Budget
    before: Stage
    stage: Stage
    cap_bytes: int
    used_bytes: int
    day: str | None

    def details(self) -> dict[str, Any]:
        """For the event."""
        details: dict[str, Any] = {
            "budget": self.budget.value,
            "stage": self.stage.name.lower(),
            "cap_mb": self.cap_bytes / _MEGABYTE,
            "used_mb": round(self.used_bytes / _MEGABYTE, 3),
        }
        if self.day is not None:
            details["day"] = self.day
        return details


class Budgets:
    """Every method is safe from any thread.

    ``read_bytes`` gives what a budget counts, in total since the process began; ``None``
    where the system does not say. ``on_allowance`` is told what may still be sent, again
    and again while there is a cap on data.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        vehicle_id: str,
        folder: Path,
        settings: BudgetSettings,
        read_bytes: Mapping[Budget, Callable[[], int | None]],
        on_allowance: Callable[[Allowance], None],
    ) -> None:
        self._clock = clock
        self._vehicle_id = vehicle_id
        self._folder = folder
        self._read_bytes = read_bytes
        self._on_allowance = on_allowance
        self._lock = threading.Lock()
        self._changes: deque[Change] = deque()
        self._counted = _zeros()
        self._untimed = _zeros()
        self._was_trusted = clock.base().trusted
        self._measured = dict.fromkeys(Budget, True)
        self._allowed: Allowance | None = None
        self._looked_s: float | None = None
        self._started = False
        self._settings = settings
        self._cap_bytes = caps_bytes(settings)
        self._record = records.Record()
        self._day = DayWatch(None, 0.0, clock.monotonic_s())
        self._saved = self._record.used_bytes.copy()

    def start(self) -> None:
        """Take up the day's counters; the state directory is ours by now."""
        with self._lock:
            self._record = records.load(self._folder, self._cap_bytes)
            now_s = self._clock.monotonic_s()
            self._day = DayWatch(self._record.day, self._record.elapsed_s, now_s)
            self._started = True
            self._look(now_s)
            self._save()

    def stop(self) -> None:
        """Note what was used; idempotent, safe before ``start``."""
        with self._lock:
            if self._started:
                self._look(self._clock.monotonic_s())
                self._started = False
                self._save()

    def apply(self, settings: BudgetSettings) -> None:
        """New caps, from now on; what was used stays used."""
        with self._lock:
            self._settings = settings
            self._cap_bytes = caps_bytes(settings)
            if self._started:
                self._look(self._clock.monotonic_s())

    def look(self) -> None:
        """Measure and decide; costs next to nothing when a second has not passed."""
        now_s = self._clock.monotonic_s()
        if self._looked_s is None or now_s - self._looked_s < LOOK_S:
            return
        with self._lock:
            if self._started:
                self._look(now_s)

    # --- what others ask -----------------------------------------------------------

    def stages(self) -> Mapping[Budget, Stage]:
        """As of the last look."""
        return self._record.stages

    def take_changes(self) -> list[Change]:
        """Changes of stages that nobody was told of; the caller now tells."""
        taken = []
        while self._changes:
            taken.append(self._changes.popleft())
        return taken

    def account(self) -> dict[str, Any]:
        """Caps, what was used today, and the stages."""
        return {
            "day_begins_s_after_midnight_utc": round(self._delay_s()),
            **describe(self._record, self._cap_bytes, self._measured),
        }

    # --- inside, under the lock ----------------------------------------------------

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        record, day = self._record, self._day
        base = self._clock.base()
        self._measure()
        ended_day, ended_used = record.day, record.used_bytes.copy()
        is_new = day.is_over(base.at(now_s) if base.trusted else None, now_s, self._delay_s())
        if is_new:
            # what was used before the time was known belongs to the day that it turned out to be
            record.used_bytes = (self._untimed if base.trusted else _zeros()).copy()
        if is_new or base.trusted:
            self._untimed = _zeros()
        self._was_trusted = base.trusted
        record.day, record.elapsed_s = day.label, day.elapsed_s
        changed = self._decide(
            ended_used if is_new else record.used_bytes, ended_day if is_new else record.day
        )
        if is_new or changed or self._step_is_used():
            self._save()
        self._allow()

    def _measure(self) -> None:
        for budget in Budget:
            total = self._read_bytes[budget]()
            self._measured[budget] = total is not None
            if total is None:
                continue
            more = max(0, total - self._counted[budget])
            self._counted[budget] = total
            self._record.used_bytes[budget] += more
            if not self._was_trusted:
                self._untimed[budget] += more

    def _decide(self, told_used: Mapping[Budget, int], told_day: Any) -> bool:
        """Set the stages by what is used, and note what changed."""
        record = self._record
        stages = {
            budget: stage_of(
                record.used_bytes[budget], self._cap_bytes[budget], self._settings.near_percent
            )
            for budget in Budget
        }
        changes = [
            Change(
                budget,
                record.stages[budget],
                stage,
                self._cap_bytes[budget],
                told_used[budget],
                told_day.isoformat() if told_day else None,
            )
            for budget, stage in stages.items()
            if stage is not record.stages[budget]
        ]
        # told first, so that the engine reports the budget before the mode that it imposes
        self._changes.extend(changes)
        record.stages = stages
        for change in changes:
            _log.log(
                logging.INFO if change.stage < change.before else logging.WARNING,
                "the day's %s budget: %s, used %.3f of %g MB",
                change.budget.value,
                change.stage.name.lower(),
                change.used_bytes / _MEGABYTE,
                change.cap_bytes / _MEGABYTE,
            )
        return bool(changes)

    def _step_is_used(self) -> bool:
        used, saved = self._record.used_bytes, self._saved
        return any(
            cap and used[budget] - saved[budget] >= cap * records.STEP_SHARE
            for budget, cap in self._cap_bytes.items()
        )

    def _save(self) -> None:
        self._record.running = self._started
        self._saved = self._record.used_bytes.copy()
        if not records.save(self._folder, self._record):
            _log.debug("%s cannot be written", records.FILE_NAME)

    def _allow(self) -> None:
        cap = self._cap_bytes[Budget.DATA]
        allowed = Allowance(
            flow=flow_of(self._record.stages),
            left_bytes=cap - self._record.used_bytes[Budget.DATA] if cap else None,
            trickle_s=self._settings.trickle_s,
        )
        if allowed != self._allowed:
            self._allowed = allowed
            self._on_allowance(allowed)

    def _delay_s(self) -> float:
        return delay_s(self._vehicle_id, self._settings.day_spread_s)


def describe(
    record: records.Record,
    cap_bytes: Mapping[Budget, int],
    measured: Mapping[Budget, bool] | None = None,
) -> dict[str, Any]:
    """Caps, what was used in the day, and the stages; ``None`` where not known or no cap."""
    return {
        "day": record.day.isoformat() if record.day else None,
        **{
            budget.value: {
                "used_bytes": record.used_bytes[budget]
                if measured is None or measured[budget]
                else None,
                "cap_bytes": cap_bytes[budget] or None,
                "stage": record.stages[budget].name.lower(),
            }
            for budget in Budget
        },
    }


def caps_bytes(settings: BudgetSettings) -> dict[Budget, int]:
    """The caps; 0 is none."""
    return {
        Budget.DATA: round(settings.data_mb_per_day * _MEGABYTE),
        Budget.FLASH: round(settings.flash_mb_per_day * _MEGABYTE),
    }


def _zeros() -> dict[Budget, int]:
    return dict.fromkeys(Budget, 0)
