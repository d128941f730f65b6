"""CAN: does each interface exist and run, do frames come, and are the mapped ones among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent.doctor.can_listen import BusFacts, Facts, gather
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.links import Link
from agent.sources.can.ids import IdFilter

__all__ = ["check", "gather"]

TOLD_IDS: Final = 6
USUAL_BITRATE: Final = 500_000
ENOUGH_REQUESTS: Final = 3

NONE: Final = Kind("can-none", Severity.INFO, "the config names no CAN bus")
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
    "sudo milepost-agent board apply --hat mcp2515 && sudo reboot",
    "`milepost-agent board list` names HATs; for another one oscillator and interrupt are printed "
    "on it: --oscillator 8M --interrupt-gpio 25.",
)
NO_INTERFACE_JETSON: Final = Kind(
    "can-no-interface-jetson",
    Severity.ERROR,
    "there is no interface {channel} (CAN interfaces here: {known})",
    "sudo milepost-agent board apply --bitrate 500k && sudo reboot",
    "On an Orin Nano CAN is on J17 of the carrier board; on an AGX Orin the pins of the header "
    "must be set to CAN first: sudo /opt/nvidia/jetson-io/jetson-io.py.",
)
CHIP_SILENT: Final = Kind(
    "can-chip-silent",
    Severity.ERROR,
    "there is no interface {channel}: the board is told of a {chips} on SPI, but its driver does "
    "not find or start it",
    "sudo dmesg | grep -i -E 'mcp25|spi'",
    "The HAT does not sit well, or oscillator and interrupt in the dtoverlay are not its own.",
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
    "To keep it over a reboot: sudo milepost-agent board apply --restart-ms 100; or where else "
    "the interface is set up (systemd-networkd: [CAN] RestartSec=100ms).",
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
NO_ECU: Final = Kind(
    "can-obd-silent",
    Severity.WARNING,
    "no ECU on {channel} has answered the running agent's {requests} requests (OBD-II, UDS)",
    "timeout 3 candump -tz {channel} & cansend {channel} 7DF#0201000000000000; wait",
    "Ignition on? CAN is on the pins 6 and 14 of the socket; some vehicles answer ids of 29 bits "
    "only (obd.ids), and electric ones answer little.",
)
LINK_GOOD: Final = Kind(
    "can-link-good", Severity.OK, "{channel} is up{bitrate}; nothing is mapped on it, it is asked"
)


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of all buses."""
    if not facts.buses:
        yield NONE()
    for told in facts.asked:
        if told["requests"] >= ENOUGH_REQUESTS and not told["answered"]:
            yield NO_ECU(channel=told["channel"], requests=told["requests"])
    for bus in facts.buses:
        if bus.map_error:
            yield NO_DBC(channel=bus.channel, reason=bus.map_error, file=facts.config_file)
        if bus.interface == "socketcan" and not bus.ip_found:
            yield NO_IP(channel=bus.channel)
        if bus.interface == "socketcan" and bus.ip_found:
            broken = list(_broken_link(bus, facts))
            yield from broken
            if broken:
                continue
        yield from _degraded_link(bus)
        if bus.is_mapped:
            yield from _traffic(bus)
        else:
            yield LINK_GOOD(channel=bus.channel, bitrate=_rate(bus.link))


def _broken_link(bus: BusFacts, facts: Facts) -> Iterator[Finding]:
    """What keeps every frame away; the rest need not be looked at then."""
    link, channel = bus.link, bus.channel
    if link is None:
        known = ", ".join(bus.known) or "none"
        if channel.startswith("vcan"):
            yield NO_VCAN(channel=channel)
        elif facts.spi_chips:
            yield CHIP_SILENT(channel=channel, chips=", ".join(facts.spi_chips))
        elif "Raspberry Pi" in facts.model:
            yield NO_INTERFACE_PI(channel=channel, known=known)
        elif any(name in facts.model for name in ("NVIDIA", "Jetson")):
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
        yield GOOD(**values, frames=bus.frames, bitrate=_rate(bus.link))


def _told(link: Link | None) -> str:
    return f"{link.bitrate} bit/s" if link and link.bitrate else "not known here"


def _rate(link: Link | None) -> str:
    return f", {link.bitrate} bit/s" if link and link.bitrate else ""


def _ids(ids: frozenset[IdFilter]) -> str:
    told = [one.told() for one in sorted(ids)]
    more = f" and {len(told) - TOLD_IDS} more" if len(told) > TOLD_IDS else ""
    return ", ".join(told[:TOLD_IDS]) + more
