"""The config: what ``check-config`` finds, and whether the rest of the areas could use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.config import JobsMode
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Subject
from agent.errors import AgentError
from agent.layer import record as records
from agent.layer.merge import flat
from agent.layer.record import Record

ABSENT: Final = Kind(
    "config-absent",
    Severity.ERROR,
    "there is no config file {file}",
    "milepost-agent preset list && sudo milepost-agent init --preset gps-only",
    "Or name the file that the agent runs with: --config FILE.",
)
DENIED: Final = Kind(
    "config-denied",
    Severity.WARNING,
    "this user may not read {file}: the other areas go by the defaults",
    "sudo milepost-agent doctor --config {file}",
)
BROKEN: Final = Kind(
    "config-broken",
    Severity.ERROR,
    "the agent does not start with this config: {fault}",
    "sudoedit {file} && milepost-agent check-config --config {file}",
    "{hint} The other areas go by what can be read of it.",
)
SOURCE: Final = Kind(
    "config-source",
    Severity.ERROR,
    "a CAN bus cannot be read as the config asks: {fault}",
    "sudoedit {file} && milepost-agent check-config --config {file}",
    "{hint}",
)
LAYERED: Final = Kind(
    "config-layered",
    Severity.INFO,
    "job {job_id} has laid settings over {file}: {keys}",
    "milepost-agent config show --config {file}",
    "milepost-agent config reset drops them.",
)
ROLLED_BACK: Final = Kind(
    "config-rolled-back",
    Severity.INFO,
    "settings of job {job_id} were tried and rolled back: {reason}",
    "milepost-agent config show --config {file}",
)
GOOD: Final = Kind("config-good", Severity.OK, "{file}: vehicle {vehicle_id}, every key known")


@dataclass(frozen=True, slots=True)
class Facts:
    """``fault`` is of the keys and values, ``source_fault`` of the files that they name."""

    file: Path
    is_there: bool = True
    is_denied: bool = False
    vehicle_id: str | None = None
    fault: AgentError | None = None
    source_fault: AgentError | None = None
    layer: Record = field(default_factory=Record)
    layer_counts: bool = True


def gather(subject: Subject) -> Facts:
    """Read the DBC files that the config names."""
    parts = subject.parts
    source_fault = None
    if parts.settings is not None:
        from agent.compose_sources import check_sources  # noqa: PLC0415  brings in python-can

        try:
            check_sources(parts.settings)
        except AgentError as error:
            source_fault = error
    return Facts(
        subject.config_file,
        parts.is_there,
        parts.is_denied,
        parts.vehicle_id,
        parts.fault,
        source_fault,
        layer=records.load(parts.state.dir),
        layer_counts=parts.settings is None or parts.settings.jobs.mode is JobsMode.ON,
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the config."""
    if not facts.is_there:
        yield ABSENT(file=facts.file)
    elif facts.is_denied:
        yield DENIED(file=facts.file)
    elif facts.fault is not None:
        yield BROKEN(file=facts.file, fault=facts.fault.message, hint=facts.fault.hint)
    elif facts.source_fault is not None:
        fault = facts.source_fault
        yield SOURCE(file=facts.file, fault=fault.message, hint=fault.hint)
    else:
        yield GOOD(file=facts.file, vehicle_id=facts.vehicle_id)
    yield from _check_layer(facts)


def _check_layer(facts: Facts) -> Iterator[Finding]:
    record = facts.layer
    above = record.layer if record.trial is None else record.trial
    if above.settings and facts.layer_counts:
        keys = ", ".join(key for key, _ in flat(above.settings))
        yield LAYERED(file=facts.file, job_id=above.job_id, keys=keys)
    if record.failed_job:
        yield ROLLED_BACK(file=facts.file, job_id=record.failed_job, reason=record.failure)
