"""Kernel modules: what the configured buses need is loaded, or at least there to be loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config import CanSettings
from agent.config.obd import BusSettings
from agent.doctor.can_listen import only_asked, spi_chips
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.programs import read_text
from agent.doctor.subject import Subject

DRIVERS: Final = {
    "mcp2510": "mcp251x",
    "mcp2515": "mcp251x",
    "mcp25625": "mcp251x",
    "mcp2517fd": "mcp251xfd",
    "mcp2518fd": "mcp251xfd",
    "mcp251xfd": "mcp251xfd",
}
"""CAN controller on SPI -> its module (drivers/net/can/spi)."""

NONE_NEEDED: Final = Kind("modules-none-needed", Severity.OK, "no bus of the config needs one")
ABSENT: Final = Kind(
    "modules-absent",
    Severity.ERROR,
    "this kernel ({release}) has no module {module}",
    "sudo apt-get install linux-modules-extra-$(uname -r) || sudo apt-get full-upgrade",
    "After an upgrade without a reboot the running kernel's modules are gone: reboot.",
)
NOT_LOADED: Final = Kind(
    "modules-not-loaded",
    Severity.WARNING,
    "the module {module} is not loaded",
    "sudo modprobe {module} && echo {module} | sudo tee /etc/modules-load.d/{module}.conf",
)
UNKNOWN: Final = Kind(
    "modules-unknown",
    Severity.INFO,
    "which modules this kernel ({release}) has cannot be seen here: {missing} not loaded",
    "ls /lib/modules",
    "In a container the host's kernel counts.",
)
GOOD: Final = Kind("modules-good", Severity.OK, "{modules}: loaded or built in")


@dataclass(frozen=True, slots=True)
class Facts:
    """Module names with underscores; ``available`` is ``None`` where it cannot be seen."""

    needed: tuple[str, ...]
    loaded: frozenset[str] = frozenset()
    available: frozenset[str] | None = None
    builtin: frozenset[str] = frozenset()
    release: str = ""


def gather(subject: Subject) -> Facts:
    """Read the kernel's lists."""
    buses: list[CanSettings | BusSettings] = [*subject.parts.can, *only_asked(subject)]
    channels = [bus.channel for bus in buses if bus.interface == "socketcan"]
    needed = ["can", "can_raw"] if channels else []
    if any(channel.startswith("vcan") for channel in channels):
        needed.append("vcan")
    if channels:
        needed += [DRIVERS[chip] for chip in spi_chips() if chip in DRIVERS]
    if channels and "NVIDIA" in (read_text("/proc/device-tree/model") or ""):
        needed.append("mttcan")
    release = os.uname().release
    folder = Path("/lib/modules") / release
    order = read_text(folder / "modules.dep")
    lines = (read_text("/proc/modules") or "").splitlines()
    builtin = (read_text(folder / "modules.builtin") or "").splitlines()
    return Facts(
        needed=tuple(dict.fromkeys(needed)),
        # what is built in has a folder there if it has parameters; what is loaded always
        loaded=frozenset(line.split()[0] for line in lines)
        | frozenset(name for name in needed if Path("/sys/module", name).exists()),
        available=None
        if order is None
        else frozenset(_name(line.partition(":")[0]) for line in order.splitlines()),
        builtin=frozenset(_name(line) for line in builtin),
        release=release,
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the modules."""
    if not facts.needed:
        yield NONE_NEEDED()
        return
    missing = [name for name in facts.needed if name not in facts.loaded | facts.builtin]
    if facts.available is None and missing:
        yield UNKNOWN(release=facts.release, missing=", ".join(missing))
        return
    for name in missing:
        if name in (facts.available or ()):
            yield NOT_LOADED(module=name)
        else:
            yield ABSENT(module=name, release=facts.release)
    if not missing:
        yield GOOD(modules=", ".join(facts.needed))


def _name(path: str) -> str:
    """``kernel/net/can/can-raw.ko.xz`` -> ``can_raw``."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
