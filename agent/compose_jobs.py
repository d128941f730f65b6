"""The composition's part for jobs: the table of operations, and what each one is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.config import AgentSettings, JobsSettings
from agent.delivery import Delivery
from agent.errors import AgentError
from agent.identity import IdentityStore
from agent.identity.rotation import Rotation
from agent.jobs.apply_config import ApplyConfigOperation
from agent.jobs.diagnostics import DiagnosticsOperation
from agent.jobs.link import JobsLink
from agent.jobs.operation import Operation
from agent.jobs.restart import RestartOperation
from agent.jobs.rotate import RotateOperation
from agent.jobs.table import Table
from agent.jobs.update import UpdateOperation
from agent.layer import ConfigLayer
from agent.logs import RECENT
from agent.ports import Clock
from agent.transfer import FileClient
from contract.jobs import OperationName
from contract.provisioning import ROTATION


def make_jobs(
    *,
    settings: JobsSettings,
    layer: ConfigLayer | None,
    check: Callable[[AgentSettings], None],
    delivery: Delivery,
    clock: Clock,
    vehicle_id: str,
    run_id: str,
    state_dir: Path,
    restart: Callable[[], None],
    files: FileClient,
    rotation: Rotation,
) -> JobsLink:
    """The jobs of the vehicle, not yet started; without a config file there is no layer over it."""
    operations: dict[str, Operation] = {
        OperationName.RESTART: RestartOperation(run_id),
        OperationName.ROTATE: RotateOperation(
            rotation,
            kept=lambda: _certificate_id(IdentityStore(state_dir)),
            goes_on=lambda: _is_rotating(IdentityStore(state_dir)),
        ),
        OperationName.UPDATE: UpdateOperation(state_dir, files, _architecture),
    }
    if layer is not None:
        operations[OperationName.COLLECT_DIAGNOSTICS] = DiagnosticsOperation(
            layer.path, state_dir, files, RECENT.text
        )
        operations[OperationName.APPLY_CONFIG] = ApplyConfigOperation(
            layer,
            check=check,
            has_reached_broker=lambda: delivery.has_reached_broker,
            monotonic_s=clock.monotonic_s,
        )
    return JobsLink(
        clock=clock,
        vehicle_id=vehicle_id,
        exchange=delivery.exchange,
        state_dir=state_dir,
        table=Table(operations, settings.allow),
        restart=restart,
    )


def _certificate_id(store: IdentityStore) -> str:
    identity = store.current()
    return identity.certificate_id if identity else ""


def _is_rotating(store: IdentityStore) -> bool:
    """Whether a rotation was cut off and goes on by itself."""
    try:
        pending = store.pending()
    except AgentError:
        return False  # it cannot go on; the request says why
    return pending is not None and pending.template == ROTATION


def _architecture() -> str:
    """As dpkg calls it; empty where there is no dpkg."""
    from agent.doctor.programs import ask  # noqa: PLC0415  only when an update comes

    answer = ask("dpkg", "--print-architecture")
    return answer.output.strip() if answer is not None and answer.code == 0 else ""
