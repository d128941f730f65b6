"""The statuses that this agent publishes, and what they tell of the run before this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from agent.account import read_last_run
from agent.engine.rate import Rate
from agent.outbox import Outbox
from agent.outbox.run_drops import DropTotal as Dropped
from agent.ports import Clock
from contract import DropTotal, PreviousRun, Status, VehicleState

STATUS_DROPS: Final = 16
"""Totals in a status: about 2 KB; the others were told by events."""


class Statuses:
    """Made from any thread; ``rate`` and ``last_sequence`` are set by the delivery."""

    def __init__(
        self,
        *,
        clock: Clock,
        outbox: Outbox,
        vehicle_id: str,
        run_id: str,
        software_version: str,
        fixes_rejected: Callable[[], dict[str, int]],
        frames_dropped: Callable[[], dict[str, int]],
    ) -> None:
        self._clock = clock
        self._outbox = outbox
        self._vehicle_id = vehicle_id
        self._run_id = run_id
        self._software_version = software_version
        self._fixes_rejected = fixes_rejected
        self._frames_dropped = frames_dropped
        self.rate: Rate | None = None
        self.last_sequence = 0
        self.previous_run: PreviousRun | None = None

    def find_previous_run(self, state_dir: Path) -> None:
        """What is known of the run before, once the outbox is open."""
        ended = read_last_run(state_dir)  # written last of all, by a run that ends in order
        known = [run for run in (self._outbox.previous_run, ended) if run]
        if not known:
            return
        run_id = known[0][0]  # the outbox notes each start, so it knows of a run that crashed
        orderly = ended is not None and ended[0] == run_id
        self.previous_run = PreviousRun(
            run_id=run_id,
            last_sequence=max(sequence for run, sequence in known if run == run_id),
            unflushed_s=0.0 if orderly else self._outbox.flush_interval_s,
        )

    def make(self, state: VehicleState) -> Status:
        """The status as of now."""
        base, rate, tally = self._clock.base(), self.rate, self._outbox.tally()
        return Status(
            vehicle_id=self._vehicle_id,
            run_id=self._run_id,
            state=state,
            timestamp=base.at(self._clock.monotonic_s()),
            time_quality=base.quality,
            software_version=self._software_version,
            mode=rate.mode if rate else None,
            wanted_mode=rate.wanted if rate else None,
            limited_by=rate.limited_by if rate else None,
            sample_interval_s=rate.interval_s if rate else None,
            last_sequence=self.last_sequence,
            acknowledged_messages=sum(tally.acknowledged.values()) + tally.inherited_acknowledged,
            backlog_messages=tally.waiting,
            dropped_messages=tally.dropped or None,
            drops=told(self._outbox.drop_totals())[-STATUS_DROPS:] or None,
            previous_run=self.previous_run,
            fixes_rejected=self._fixes_rejected() or None,
            frames_dropped=self._frames_dropped() or None,
        )


def told(totals: Iterable[Dropped]) -> tuple[DropTotal, ...]:
    """Totals of drops in the contract's form."""
    return tuple(
        DropTotal(
            run_id=total.run_id or None,
            reason=total.reason,
            total_messages=total.messages,
            first_sequence=total.first or None,
            last_sequence=total.last or None,
        )
        for total in totals
    )
