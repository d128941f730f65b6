"""``[jobs]``: what an operator may have this vehicle do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agent.config.sections import Section
from contract.jobs import OperationName


class JobsMode(StrEnum):
    """Whether jobs are taken."""

    ON = "on"
    """The cloud is asked for jobs."""

    OFF = "off"
    """It is not, and settings that a job has laid over this file do not count."""


Allowed = Annotated[OperationName, Field(strict=False)]


class JobsSettings(Section):
    """``[jobs]``: what an operator may have this vehicle do; see docs/jobs.md."""

    mode: Annotated[JobsMode, Field(strict=False)] = Field(
        default=JobsMode.ON,
        description="on: jobs of the fleet's operator are taken, one at a time. off: none is, and "
        "settings that a job has laid over this file do not count. Default on.",
    )
    allow: Annotated[tuple[Allowed, ...], Field(strict=False)] = Field(
        default=tuple(OperationName),
        description="What a job may ask for; any other is refused with the reason. No job can "
        'change this key. Default ["restart", "rotate", "apply-config", "update", '
        '"collect-diagnostics"].',
    )
