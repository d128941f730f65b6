"""CAN: does each interface exist and run, do frames come, and are the mapped ones among them.

Listening disturbs nobody: a second socket on the interface, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.config import CanSettings
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.links import Link, links
from agent.doctor.programs import read_text
from agent.doctor.subject import Subject
from agent.errors import AgentError
from agent.host import boottime_s
from agent.sources.can_id import IdFilter, can_id

LISTEN_S: Final = 3.0
TOLD_IDS: Final = 6
USUAL_BITRATE: Final = 500_000

NONE: Final = Kind("can-none", Severity.INFO, "the config has no [[can]]")
NO_IP: Final = Kind(
    "can-no-ip",
    Severity.INFO,
    "the program ip is not installed: state and bit rate of {channel} are not known",
    "sudo apt-get install iproute2",
)
NO_VCAN: Final = Kind(
    "can-no-vcan",
    Severity.ERROR,
    "there is no interface {channel}",
    "sudo modprobe vcan && sudo ip link add dev {channel} type vcan && "
    "sudo ip link set {channel} up",
)
NO_INTERFACE: Final = Kind(
    "can-no-interface",
    Severity.ERROR,
    "there is no interface {channel} (CAN interfaces here: {known})",
    "dmesg | grep -i -E 'can[0-9]|mcp251|mttcan|gs_usb' | tail -n 20",
    "See that the adapter is plugged in and its driver loaded; or correct can.channel.",
)
NO_INTERFACE_PI: Final = Kind(
    "can-no-interface-pi",
    Severity.ERROR,
    "there is no interface {channel} (CAN interfaces here: {known})",
    "echo 'dtoverlay=mcp2515-can0,oscillator=16000000,interrupt=25' | sudo tee -a "
    "/boot/firmware/config.txt && sudo reboot",
    "For a HAT with an MCP2515; oscillator and interrupt are printed on it. An MCP2518FD takes "
    "dtoverlay=mcp251xfd,spi0-0,oscillator=40000000,interrupt=25.",
)
NO_INTERFACE_JETSON: Final = Kind(
    "can-no-interface-jetson",
    Severity.ERROR,
    "there is no interface {channel} (CAN interfaces here: {known})",
    "sudo modprobe can_raw && sudo modprobe mttcan && sudo ip link set {channel} up type can "
    "bitrate 500000 restart-ms 100",
    "The pins of the header must be set to CAN: sudo /opt/nvidia/jetson-io/jetson-io.py.",
)
NOT_CAN: Final = Kind(
    "can-not-can",
    Severity.ERROR,
    "{channel} is no CAN interface",
    "ip -brief link show type can",
    "Correct can.channel.",
)
DOWN: Final = Kind(
    "can-down",
    Severity.ERROR,
    "{channel} is down",
    "sudo ip link set {channel} up type can bitrate {bitrate} restart-ms 100",
    "The bit rate must be the bus's; 500000 is the most common on vehicles, 250000 on trucks.",
)
DOWN_VIRTUAL: Final = Kind(
    "can-down-virtual",
    Severity.ERROR,
    "{channel} is down",
    "sudo ip link set {channel} up",
)
BUS_OFF: Final = Kind(
    "can-bus-off",
    Severity.ERROR,
    "{channel} is bus-off: its controller gave up after too many errors",
    "sudo ip link set {channel} down && sudo ip link set {channel} up type can restart-ms 100",
    "Two wires swapped, a short or a wrong bit rate ({bitrate}) bring it back.",
)
ERRORS: Final = Kind(
    "can-errors",
    Severity.WARNING,
    "{channel} is {state}: {rx} receive and {tx} transmit errors are counted",
    "ip -details -statistics link show {channel}",
    "The bit rate ({bitrate}) does not fit, the bus lacks a 120 ohm terminator, or no other node "
    "acknowledges.",
)
NO_RESTART: Final = Kind(
    "can-no-restart",
    Severity.WARNING,
    "{channel} does not come back after bus-off: restart-ms is 0",
    "sudo ip link set {channel} down && sudo ip link set {channel} up type can restart-ms 100",
    "To keep it over a reboot put it where the interface is set up (systemd-networkd: "
    "[CAN] RestartSec=100ms).",
)
FD_OFF: Final = Kind(
    "can-fd-off",
    Severity.ERROR,
    "can.fd is set, but {channel} takes classic frames only",
    "sudo ip link set {channel} down && sudo ip link set {channel} up type can bitrate {bitrate} "
    "dbitrate 2000000 fd on",
    "A controller without CAN FD refuses that: set can.fd = false.",
)
DROPS: Final = Kind(
    "can-drops",
    Severity.WARNING,
    "{channel}: the kernel has dropped {dropped} frames since it came up",
    "ip -details -statistics link show {channel}",
    "A slow SPI controller overruns on a busy bus; raise spimaxfrequency in its dtoverlay.",
)
CANNOT_LISTEN: Final = Kind(
    "can-cannot-listen",
    Severity.ERROR,
    "{channel} cannot be opened: {reason}",
    "sudo modprobe can_raw && ip -brief link show {channel}",
)
NO_DBC: Final = Kind(
    "can-no-dbc",
    Severity.ERROR,
    "{channel}: {reason}",
    "milepost-agent check-config --config {file}",
)
WRONG_BITRATE: Final = Kind(
    "can-wrong-bitrate",
    Severity.ERROR,
    "{errors} error frames and no good one came on {channel} in {listen_s:.1f} s: {bitrate} is "
    "hardly the bus's bit rate",
    "sudo ip link set {channel} down && sudo ip link set {channel} up type can bitrate 250000",
    "Try 500000, 250000, 125000 and 1000000 in turn, until frames come.",
)
SILENT: Final = Kind(
    "can-silent",
    Severity.WARNING,
    "no frame came on {channel} in {listen_s:.1f} s",
    "timeout 10 candump -tz -e {channel},0:0,#FFFFFFFF",
    "A parked vehicle's bus sleeps: switch the ignition on. Else check the wires and the bit rate "
    "({bitrate}).",
)
NO_MAPPED: Final = Kind(
    "can-no-mapped-frame",
    Severity.WARNING,
    "{frames} frames came on {channel} in {listen_s:.1f} s, and none of those that the config maps "
    "({missing})",
    "timeout 5 candump -tz {channel}",
    "Another bus of the vehicle, or the DBC of another model.",
)
SOME_MISSING: Final = Kind(
    "can-some-missing",
    Severity.INFO,
    "{channel}: these mapped frames did not come in {listen_s:.1f} s: {missing}",
)
GOOD: Final = Kind(
    "can-good",
    Severity.OK,
    "{channel}{bitrate}: {frames} frames in {listen_s:.1f} s, mapped ones too",
)


@dataclass(frozen=True, slots=True)
class BusFacts:
    """One bus; ``known`` are the CAN interfaces of the board."""

    channel: str
    interface: str = "socketcan"
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


def gather(subject: Subject) -> Facts:
    """Look at the interfaces and listen to all buses at once."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  only here

    model = read_text("/proc/device-tree/model") or ""
    buses = subject.parts.can
    if not buses:
        return Facts((), model, str(subject.config_file))
    known = links()
    with ThreadPoolExecutor(len(buses), "doctor-can") as pool:
        found = tuple(pool.map(lambda bus: _gather_bus(bus, known), buses))
    return Facts(found, model, str(subject.config_file))


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of all buses."""
    if not facts.buses:
        yield NONE()
    for bus in facts.buses:
        if bus.map_error:
            yield NO_DBC(channel=bus.channel, reason=bus.map_error, file=facts.config_file)
        if bus.interface == "socketcan" and not bus.ip_found:
            yield NO_IP(channel=bus.channel)
        if bus.interface == "socketcan" and bus.ip_found:
            broken = list(_broken_link(bus, facts.model))
            yield from broken
            if broken:
                continue
        yield from _degraded_link(bus)
        yield from _traffic(bus)


def _broken_link(bus: BusFacts, model: str) -> Iterator[Finding]:
    """What keeps every frame away; the rest need not be looked at then."""
    link, channel = bus.link, bus.channel
    if link is None:
        known = ", ".join(bus.known) or "none"
        if channel.startswith("vcan"):
            yield NO_VCAN(channel=channel)
        elif "Raspberry Pi" in model:
            yield NO_INTERFACE_PI(channel=channel, known=known)
        elif any(name in model for name in ("NVIDIA", "Jetson")):
            yield NO_INTERFACE_JETSON(channel=channel, known=known)
        else:
            yield NO_INTERFACE(channel=channel, known=known)
    elif not link.is_can:
        yield NOT_CAN(channel=channel)
    elif not link.is_up:
        if link.kind == "vcan":
            yield DOWN_VIRTUAL(channel=channel)
        else:
            yield DOWN(channel=channel, bitrate=link.bitrate or USUAL_BITRATE)
    elif link.state == "BUS-OFF":
        yield BUS_OFF(channel=channel, bitrate=_told(link))
    elif bus.fd and not link.takes_fd:
        yield FD_OFF(channel=channel, bitrate=link.bitrate or USUAL_BITRATE)


def _degraded_link(bus: BusFacts) -> Iterator[Finding]:
    link = bus.link
    if link is None:
        return
    if link.state in {"ERROR-WARNING", "ERROR-PASSIVE"}:
        yield ERRORS(
            channel=link.name,
            state=link.state.lower(),
            rx=link.rx_errors,
            tx=link.tx_errors,
            bitrate=_told(link),
        )
    if link.restart_ms == 0:
        yield NO_RESTART(channel=link.name)
    if link.rx_dropped:
        yield DROPS(channel=link.name, dropped=link.rx_dropped)


def _traffic(bus: BusFacts) -> Iterator[Finding]:
    values: dict[str, Any] = {"channel": bus.channel, "listen_s": bus.listen_s}
    missing = bus.mapped - bus.seen
    if bus.listen_error:
        yield CANNOT_LISTEN(channel=bus.channel, reason=bus.listen_error)
    elif bus.error_frames and not bus.frames:
        yield WRONG_BITRATE(**values, errors=bus.error_frames, bitrate=_told(bus.link))
    elif not bus.frames:
        yield SILENT(**values, bitrate=_told(bus.link))
    elif bus.mapped and missing == bus.mapped:
        yield NO_MAPPED(**values, frames=bus.frames, missing=_ids(missing))
    else:
        if missing:
            yield SOME_MISSING(**values, missing=_ids(missing))
        rate = f", {bus.link.bitrate} bit/s" if bus.link and bus.link.bitrate else ""
        yield GOOD(**values, frames=bus.frames, bitrate=rate)


def _told(link: Link | None) -> str:
    return f"{link.bitrate} bit/s" if link and link.bitrate else "not known here"


def _ids(ids: frozenset[IdFilter]) -> str:
    told = [one.told() for one in sorted(ids)]
    more = f" and {len(told) - TOLD_IDS} more" if len(told) > TOLD_IDS else ""
    return ", ".join(told[:TOLD_IDS]) + more


def _gather_bus(bus: CanSettings, known: dict[str, Link] | None) -> BusFacts:
    facts: dict[str, Any] = {
        "channel": bus.channel,
        "interface": bus.interface,
        "fd": bus.fd,
        "link": (known or {}).get(bus.channel) if bus.interface == "socketcan" else None,
        "known": tuple(name for name, link in (known or {}).items() if link.is_can),
        "ip_found": known is not None,
    }
    facts |= _mapped(bus)
    link = facts["link"]
    if bus.interface == "socketcan" and known is not None and (link is None or not link.is_up):
        return BusFacts(**facts)
    return BusFacts(**facts, **_listen(bus, facts["mapped"]))


def _mapped(bus: CanSettings) -> dict[str, Any]:
    from agent.sources.can_setup import load_signal_map  # noqa: PLC0415  only with CAN

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
