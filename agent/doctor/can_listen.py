"""Look at the CAN interfaces and listen to the mapped buses.

Listening disturbs nobody: a second socket on the interface, and nothing is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent.config import CanSettings
from agent.config.obd import BusSettings
from agent.doctor.links import Link, links
from agent.doctor.patience import Call
from agent.doctor.programs import read_text
from agent.doctor.subject import Subject
from agent.errors import AgentError
from agent.host import boottime_s
from agent.sources.can.ids import IdFilter, can_id

LISTEN_S: Final = 3.0
GATHER_S: Final = 60.0
"""For a DBC of megabytes on a Pi; the area's own limit is shorter as a rule."""


@dataclass(frozen=True, slots=True)
class BusFacts:
    """One bus; ``known`` are the CAN interfaces of the board."""

    channel: str
    interface: str = "socketcan"
    is_mapped: bool = True
    """Whether a ``[[can]]`` names it; frames are only listened for then."""
    fd: bool = False
    link: Link | None = None
    known: tuple[str, ...] = ()
    ip_found: bool = True
    mapped: frozenset[IdFilter] = frozenset()
    map_error: str = ""
    frames: int = 0
    error_frames: int = 0
    seen: frozenset[IdFilter] = frozenset()
    listen_s: float = 0.0
    listen_error: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All buses, and the board's name as its device tree tells it."""

    buses: tuple[BusFacts, ...]
    model: str = ""
    config_file: str = ""
    asked: tuple[dict[str, Any], ...] = ()
    """The running agent's account of each ``[[obd]]``."""
    spi_chips: tuple[str, ...] = ()
    """CAN controllers that the device tree has on SPI, whether or not they work."""


def gather(subject: Subject) -> Facts:
    """Look at the interfaces and listen to all mapped buses at once."""
    model = read_text("/proc/device-tree/model") or ""
    told = tuple((subject.account or {}).get("obd") or ())
    mapped, asked = subject.parts.can, only_asked(subject)
    if not mapped and not asked:
        return Facts((), model, str(subject.config_file))
    known = links()
    listening = [Call(partial(_gather_bus, bus, known), "doctor-can") for bus in mapped]
    found = [call.result(GATHER_S) for call in listening]
    for bus in asked:
        link = _link_facts(bus.interface, bus.channel, known)
        found.append(BusFacts(**link, is_mapped=False))
    return Facts(tuple(found), model, str(subject.config_file), told, spi_chips())


def spi_chips() -> tuple[str, ...]:
    """E.g. ``mcp2515``."""
    names = (read_text(path) or "" for path in Path("/sys/bus/spi/devices").glob("*/modalias"))
    chips = {name.removeprefix("spi:") for name in names if name.startswith("spi:mcp25")}
    return tuple(sorted(chips))


def _gather_bus(bus: CanSettings, known: dict[str, Link] | None) -> BusFacts:
    facts = _link_facts(bus.interface, bus.channel, known) | {"fd": bus.fd} | _mapped(bus)
    link = facts["link"]
    if bus.interface == "socketcan" and known is not None and (link is None or not link.is_up):
        return BusFacts(**facts)
    return BusFacts(**facts, **_listen(bus, facts["mapped"]))


def _link_facts(interface: str, channel: str, known: dict[str, Link] | None) -> dict[str, Any]:
    return {
        "channel": channel,
        "interface": interface,
        "link": (known or {}).get(channel) if interface == "socketcan" else None,
        "known": tuple(name for name, link in (known or {}).items() if link.is_can),
        "ip_found": known is not None,
    }


def only_asked(subject: Subject) -> list[BusSettings]:
    """The buses of diagnosis that no ``[[can]]`` names; each once."""
    settings = subject.parts.settings
    if settings is None:
        return []
    told = {(bus.interface, bus.channel) for bus in settings.can}
    buses = {(bus.interface, bus.channel): bus for bus in (*settings.obd, *settings.j1939)}
    return [bus for where, bus in buses.items() if where not in told]


def _mapped(bus: CanSettings) -> dict[str, Any]:
    from agent.sources.can.setup import load_signal_map  # noqa: PLC0415  only with CAN

    try:
        signals = load_signal_map(bus)
    except AgentError as error:
        return {"map_error": error.message, "mapped": frozenset()}
    return {"mapped": frozenset(signals.filters())}


def _listen(bus: CanSettings, mapped: frozenset[IdFilter]) -> dict[str, Any]:
    """Listen until every mapped id was seen, or the time is up."""
    import can  # noqa: PLC0415  likewise

    seen: set[IdFilter] = set()
    frames = error_frames = 0
    started_s = boottime_s()
    try:
        with can.Bus(
            interface=bus.interface, channel=bus.channel, fd=bus.fd, **bus.options
        ) as opened:
            while (left_s := started_s + LISTEN_S - boottime_s()) > 0:
                message = opened.recv(left_s)
                if message is None or message.is_remote_frame:
                    continue
                if message.is_error_frame:
                    error_frames += 1
                    continue
                frames += 1
                identifier = can_id(message.arbitration_id, extended=message.is_extended_id)
                seen.update(one for one in mapped if one.passes(identifier))
                if mapped and mapped <= seen:
                    break
    except Exception as error:  # noqa: BLE001  each interface raises its own kinds
        return {"listen_error": str(error) or type(error).__name__}
    return {
        "frames": frames,
        "error_frames": error_frames,
        "seen": frozenset(seen),
        "listen_s": boottime_s() - started_s,
    }
