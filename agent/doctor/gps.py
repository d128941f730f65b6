"""GPS: through gpsd or straight from a serial port, as the config has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.config import GpsSource
from agent.doctor import gps_daemon, gps_port
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Subject

NO_CONFIG: Final = Kind("gps-not-checked", Severity.INFO, "not checked: [gps] cannot be used")
OFF: Final = Kind("gps-off", Severity.INFO, 'gps.source is "none": positions come from CAN or not')
FAULT: Final = Kind(
    "gps-agent-fault",
    Severity.WARNING,
    "the running agent reports {name} for {lasts_s:.0f} s: {reason}",
    "journalctl -u milepost-agent -n 50 --no-pager",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """``source`` is ``None`` where the config's cannot be used."""

    source: GpsSource | None
    faults: tuple[dict[str, Any], ...] = ()
    """Those of GPS that stand in the running agent."""
    daemon: gps_daemon.Facts | None = None
    port: gps_port.Facts | None = None


def gather(subject: Subject) -> Facts:
    """Poll gpsd, or listen at the port."""
    settings = subject.parts.gps
    if settings is None:
        return Facts(None)
    faults = tuple(
        fault
        for fault in (subject.account or {}).get("faults", ())
        if fault["code"].startswith("source:gps")
    )
    match settings.source:
        case GpsSource.GPSD:
            daemon = gps_daemon.gather(subject, settings.host, settings.port, settings.device)
            return Facts(settings.source, faults, daemon=daemon)
        case GpsSource.SERIAL:
            return Facts(settings.source, faults, port=gps_port.gather(subject, settings.serial))
        case GpsSource.NONE:
            return Facts(settings.source, faults)


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of GPS."""
    if facts.source is None:
        yield NO_CONFIG()
    elif facts.source is GpsSource.NONE:
        yield OFF()
    for fault in facts.faults:
        name = fault["code"].removeprefix("source:")
        yield FAULT(name=name, reason=fault["reason"], lasts_s=fault["lasts_s"])
    if facts.daemon is not None:
        yield from gps_daemon.check(facts.daemon)
    if facts.port is not None:
        yield from gps_port.check(facts.port)
