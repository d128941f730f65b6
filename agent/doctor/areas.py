"""The table of areas, and how they are looked at: all at once, each with a time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Final

from agent.doctor import (
    board,
    broker,
    can_bus,
    certificate,
    clock,
    config_file,
    disk,
    gps,
    gps_daemon,
    gps_port,
    identity,
    modules,
    permissions,
    power,
    service,
    updates,
)
from agent.doctor.finding import Finding, Kind, Severity, kinds_of
from agent.doctor.patience import Call
from agent.doctor.subject import Subject
from agent.host import boottime_s


@dataclass(frozen=True, slots=True)
class Area:
    """What is looked at together; ``module`` has its ``gather`` and ``check``.

    ``parts`` are further modules with kinds of its findings.
    """

    name: str
    about: str
    module: ModuleType
    parts: tuple[ModuleType, ...] = ()

    @property
    def kinds(self) -> list[Kind]:
        """Every finding that it can make."""
        return [kind for module in (self.module, *self.parts) for kind in kinds_of(module)]

    def findings(self, subject: Subject) -> list[Finding]:
        """What is found in it."""
        return list(self.module.check(self.module.gather(subject)))


AREAS: Final = {
    area.name: area
    for area in (
        Area("config", "the config file, and the DBC files that it names", config_file),
        Area("service", "systemd's service, and what the running agent says of itself", service),
        Area(
            "gps",
            "gpsd or the serial port, the receiver, its fix",
            gps,
            (gps_daemon, gps_port),
        ),
        Area("can", "the CAN interfaces, their state, the frames on them", can_bus),
        Area("modules", "the kernel modules that the buses need", modules),
        Area("clock", "who sets the system's clock, and what keeps it", clock),
        Area("disk", "the state directory's file system, and the outbox in it", disk),
        Area("board", "what `board apply` set up: still there, and in force", board),
        Area("power", "the board's supply voltage and temperature", power),
        Area("permissions", "what the agent's user may do", permissions),
        Area("certificate", "the vehicle's key and certificate, and the broker's CA", certificate),
        Area("identity", "the identity of provisioning, and its rotation", identity),
        Area("updates", "the updater, its release keys, how the last update ended", updates),
        Area("broker", "the way to the broker: name, TCP, TLS, MQTT", broker),
    )
}
"""In the order in which they are told: what others rest on comes first."""

TIMED_OUT: Final = Kind(
    "area-timed-out",
    Severity.WARNING,
    "not known after {timeout_s:g} s",
    "milepost-agent doctor --config {file} --only {area} --timeout 60",
)
BROKE: Final = Kind(
    "area-broke",
    Severity.WARNING,
    "could not be looked at: {error}",
    "milepost-agent doctor --config {file} --only {area} --json",
    "That is a defect of doctor: please report it with this output.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one area."""

    area: str
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return worst(self.findings)


def worst(findings: Iterable[Finding]) -> Severity:
    """The severity of the worst finding; ``OK`` for none."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def look(
    subject: Subject,
    names: Sequence[str],
    timeout_s: float,
    waits_for: Callable[[str], None] = lambda _: None,
) -> Iterator[Report]:
    """Look at the areas of these names at once; reports come in their order.

    ``waits_for`` is told each name before it is waited for. No area takes longer than
    ``timeout_s``, whatever hangs.
    """
    started_s = boottime_s()
    calls = {name: Call(partial(AREAS[name].findings, subject), f"doctor-{name}") for name in names}
    for name, call in calls.items():
        waits_for(name)
        values = {"area": name, "file": subject.config_file}
        try:
            findings = call.result(started_s + timeout_s - boottime_s())
        except TimeoutError:
            findings = [TIMED_OUT(**values, timeout_s=timeout_s)]
        except Exception as error:  # noqa: BLE001  one area's defect must not hide the others
            findings = [BROKE(**values, error=repr(error))]
        yield Report(name, tuple(findings))
