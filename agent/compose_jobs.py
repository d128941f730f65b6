"""The composition's part for jobs: the table of operations, and what each one is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.config import JobsSettings
from agent.jobs.link import JobsLink
from agent.jobs.operation import Operation
from agent.jobs.restart import RestartOperation
from agent.jobs.table import Table
from agent.ports import Clock, Exchange
from contract.jobs import OperationName


def make_jobs(
    *,
    settings: JobsSettings,
    clock: Clock,
    vehicle_id: str,
    run_id: str,
    state_dir: Path,
    exchange: Exchange,
    restart: Callable[[], None],
) -> JobsLink:
    """The jobs of the vehicle, not yet started."""
    operations: dict[str, Operation] = {
        OperationName.RESTART: RestartOperation(run_id),
    }
    return JobsLink(
        clock=clock,
        vehicle_id=vehicle_id,
        exchange=exchange,
        state_dir=state_dir,
        table=Table(operations, settings.allow),
        restart=restart,
    )
