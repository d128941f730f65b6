"""What a budget's stage imposes: one table, its guard, and nothing else. Pure.

======  =======  ================  ==============  =====================================
budget  stage    from              rate at most    what is sent
======  =======  ================  ==============  =====================================
any     within   0                 as the mode     everything
data    near     ``near_percent``  as the mode     samples in batches of at least 60 s
data    reached  the cap           ``saver``       events, and a sample and a status every
                                                   ``trickle_s``; the rest waits on disk
flash   near     ``near_percent``  ``normal``      everything
flash   reached  the cap           ``saver``       everything
======  =======  ================  ==============  =====================================

A ceiling applies only where it is slower than the mode it stands above, so a budget never
raises a rate, whatever rates are configured. What was used only grows in a day, so within
one a stage only rises and nothing can flap; it falls when a new day begins or when a cap is
raised. A cap of 0 is none.

The modes' own table (:mod:`agent.engine.modes`) knows nothing of this: it goes on to say
which mode is wanted, and so when trips begin and end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from agent.ports import Flow
from contract import Mode


class Budget(StrEnum):
    """What is counted."""

    DATA = "data"
    """Bytes sent and received on the broker's connections."""

    FLASH = "flash"
    """Bytes that the agent caused to be written to storage."""


class Stage(IntEnum):
    """How much of a budget is used."""

    WITHIN = 0
    NEAR = 1
    REACHED = 2


@dataclass(frozen=True, slots=True)
class Measures:
    """What is done in a stage; ``ceiling`` names the mode whose rate is the highest allowed."""

    ceiling: Mode | None = None
    flow: Flow = Flow.FREE


TABLE: Final[Mapping[tuple[Budget, Stage], Measures]] = {
    (Budget.DATA, Stage.WITHIN): Measures(),
    (Budget.DATA, Stage.NEAR): Measures(flow=Flow.GATHER),
    (Budget.DATA, Stage.REACHED): Measures(ceiling=Mode.SAVER, flow=Flow.TRICKLE),
    (Budget.FLASH, Stage.WITHIN): Measures(),
    (Budget.FLASH, Stage.NEAR): Measures(ceiling=Mode.NORMAL),
    (Budget.FLASH, Stage.REACHED): Measures(ceiling=Mode.SAVER),
}

Stages = Mapping[Budget, Stage]


def stage_of(used_bytes: int, cap_bytes: int, near_percent: float) -> Stage:
    """The stage of one budget."""
    if cap_bytes <= 0 or used_bytes < cap_bytes * near_percent / 100:
        return Stage.WITHIN
    return Stage.NEAR if used_bytes < cap_bytes else Stage.REACHED


def flow_of(stages: Stages) -> Flow:
    """How samples are sent."""
    return max((TABLE[entry].flow for entry in stages.items()), default=Flow.FREE)


def mode_in_force(
    wanted: Mode, stages: Stages, interval_s: Callable[[Mode], float]
) -> tuple[Mode, Budget | None]:
    """The mode whose rate applies, and the budget that imposes it; ``None``: it is wanted."""
    mode, by = wanted, None
    for budget, stage in stages.items():
        ceiling = TABLE[budget, stage].ceiling
        if ceiling is not None and interval_s(ceiling) > interval_s(mode):
            mode, by = ceiling, budget
    return mode, by
