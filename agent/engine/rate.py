"""How often samples are taken: the mode that is wanted, under what the budgets allow. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.budgets import Budget, Stage, mode_in_force
from agent.config import SamplingSettings
from contract import Mode

NO_LIMIT: Final[Mapping[Budget, Stage]] = dict.fromkeys(Budget, Stage.WITHIN)


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate, and why: ``mode`` is the mode in force.

    ``wanted`` is the mode that the table of modes says; the trips go by it. A budget,
    ``limited_by``, may keep it from its rate.
    """

    mode: Mode
    interval_s: float
    wanted: Mode
    limited_by: Budget | None = None


def rate_of(wanted: Mode, stages: Mapping[Budget, Stage], sampling: SamplingSettings) -> Rate:
    """The rate that is in force while ``wanted`` is the mode."""
    mode, by = mode_in_force(wanted, stages, sampling.interval_s)
    return Rate(mode, sampling.interval_s(mode), wanted, by)
