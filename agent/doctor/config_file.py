"""The config: what ``check-config`` finds, and whether the rest of the areas could use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Subject
from agent.errors import AgentError

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
