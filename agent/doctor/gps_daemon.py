"""gpsd: does it answer, has it the receivers, do they speak, and have they a fix."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.gps_poll import Heard, poll
from agent.doctor.gps_port import serial_ports
from agent.doctor.patience import Call
from agent.doctor.subject import Subject

CONNECT_S: Final = 3.0

POLL_S: Final = 12.0
"""gpsd-py3 waits for ever where nothing answers."""

CLOCK_OFF_S: Final = 5.0
FEW_SATELLITES: Final = 5

UNREACHABLE: Final = Kind(
    "gps-gpsd-unreachable",
    Severity.ERROR,
    "gpsd does not answer at {host}:{port}: {reason}",
    "sudo systemctl enable --now gpsd.socket gpsd.service",
    "If it is not installed: sudo apt-get install gpsd.",
)
NOT_GPSD: Final = Kind(
    "gps-not-gpsd",
    Severity.ERROR,
    "what answers at {host}:{port} is not gpsd: {reason}",
    "sudo ss -ltnp 'sport = :{port}'",
    "Correct gps.host and gps.port, or stop what listens there.",
)
NO_RECEIVER: Final = Kind(
    "gps-no-receiver",
    Severity.ERROR,
    "gpsd has no receiver (serial ports here: {ports})",
    "sudo sed -i 's|^DEVICES=.*|DEVICES=\"{device}\"|' /etc/default/gpsd"
    " && sudo systemctl restart gpsd",
    "Name the port that the receiver is on.",
)
OTHER_RECEIVER: Final = Kind(
    "gps-other-receiver",
    Severity.ERROR,
    "gpsd has no receiver {device}, which gps.device names; it has {known}",
    "sudoedit {file}",
    "Correct gps.device, or leave it away to take any.",
)
MISSING: Final = Kind(
    "gps-receiver-missing",
    Severity.WARNING,
    "gpsd has no receiver {device}, which gps.device names too; {in_use} is in use",
    "ls -l {device}; grep DEVICES= /etc/default/gpsd",
    "Plug it in, name it to gpsd, or take it out of gps.device.",
)
SILENT: Final = Kind(
    "gps-receiver-silent",
    Severity.ERROR,
    "gpsd has the receiver {receiver}, which says nothing",
    "sudo systemctl restart gpsd && milepost-agent doctor --config {file} --only gps",
    "Check its wires and power, and that nothing else (a console, ModemManager) has the port.",
)
NO_FIX: Final = Kind(
    "gps-no-fix",
    Severity.WARNING,
    "no fix yet from {receiver}: {used} of {seen} satellites in view are used",
    "watch -n 5 milepost-agent doctor --config {file} --only gps",
    "The antenna needs a view of the sky; a cold start takes up to 15 minutes.",
)
STALE: Final = Kind(
    "gps-stale-fix",
    Severity.WARNING,
    "gpsd repeats a fix of {receiver} that does not change ({time})",
    "sudo systemctl restart gpsd",
    "The receiver stopped reporting; the agent does not send such a fix as new.",
)
CLOCK_DIFFERS: Final = Kind(
    "gps-clock-differs",
    Severity.WARNING,
    "the receiver says {time}, this board's clock is {off_s:.0f} s {direction}",
    "sudo systemctl restart chrony && chronyc sources",
    "A difference of some 1,024 weeks is a receiver that lost count; the agent corrects for it.",
)
TWO_D: Final = Kind(
    "gps-2d", Severity.INFO, "the fix is 2D ({used} satellites): altitude is not known"
)
FEW: Final = Kind(
    "gps-few-satellites", Severity.INFO, "only {used} satellites are used: positions are coarse"
)
GOOD: Final = Kind("gps-good", Severity.OK, "{mode} fix{satellites}, from {receiver}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What gpsd said."""

    host: str
    port: int
    devices: tuple[str, ...] = ()
    """Those of the config; none takes any."""
    config_file: str = ""
    ports: tuple[str, ...] = ()
    unreachable: str = ""
    foreign: str = ""
    receivers: tuple[Heard, ...] = ()
    agent_uses: str | None = None
    """What the running agent says."""


def gather(subject: Subject, host: str, port: int, devices: tuple[str, ...]) -> Facts:
    """Poll gpsd."""
    common: dict[str, Any] = {
        "host": host,
        "port": port,
        "devices": devices,
        "config_file": str(subject.config_file),
        "ports": serial_ports(),
        "agent_uses": ((subject.account or {}).get("gps") or {}).get("device"),
    }
    try:
        with socket.create_connection((host, port), CONNECT_S):
            pass
    except OSError as error:
        return Facts(**common, unreachable=error.strerror or str(error))
    try:
        polled = Call(lambda: poll(host, port, devices), "doctor-gpsd").result(POLL_S)
    except TimeoutError:
        polled = "it takes connections and says nothing"
    if isinstance(polled, str):
        return Facts(**common, foreign=polled)
    return Facts(**common, receivers=polled)


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of gpsd."""
    address = {"host": facts.host, "port": facts.port}
    if facts.unreachable:
        yield UNREACHABLE(reason=facts.unreachable, **address)
    elif facts.foreign:
        yield NOT_GPSD(reason=facts.foreign, **address)
    elif not facts.receivers:
        likely = [*facts.devices, *facts.ports, "/dev/serial0"]
        yield NO_RECEIVER(ports=", ".join(facts.ports) or "none", device=likely[0])
    else:
        yield from _receivers(facts)


def _receivers(facts: Facts) -> Iterator[Finding]:
    """Each one that the config names, in its order; without a name the one in use."""
    known = {one.device: one for one in facts.receivers}
    ours = [known[name] for name in facts.devices or known if name in known]
    if not ours:
        wanted = ", ".join(facts.devices)
        yield OTHER_RECEIVER(device=wanted, known=", ".join(known), file=facts.config_file)
        return
    best = max(ours, key=lambda one: (one.device == facts.agent_uses, one.has_fix, one.speaks))
    in_use = best.device if best.has_fix or best.device == facts.agent_uses else None
    for name in facts.devices or (best.device,):
        role = " (in use)" if name == in_use else " (not in use)"
        receiver = name + role if len(facts.devices) > 1 else name
        if name in known:
            is_best = name == best.device
            yield from _receiver(known[name], receiver, facts.config_file, is_best=is_best)
        else:
            yield MISSING(device=name, in_use=in_use or "none")


def _receiver(one: Heard, receiver: str, file: str, *, is_best: bool) -> Iterator[Finding]:
    if one.mode == 0 and not one.speaks:
        yield SILENT(receiver=receiver, file=file)
    elif not one.has_fix:
        yield NO_FIX(receiver=receiver, used=one.used, seen=one.seen, file=file)
    elif one.repeats:
        yield STALE(receiver=receiver, time=one.last_fix or "without a time")
    else:
        if is_best:
            yield from _quality(one)
        satellites = f" of {one.used} satellites" if one.used else ""
        yield GOOD(mode=f"{one.mode}D", satellites=satellites, receiver=receiver)


def _quality(one: Heard) -> Iterator[Finding]:
    """What is less than good of the fix that is used."""
    if one.off is not None and abs(one.off.total_seconds()) > CLOCK_OFF_S:
        off_s = one.off.total_seconds()
        direction = "ahead" if off_s > 0 else "behind"
        yield CLOCK_DIFFERS(time=one.last_fix, off_s=abs(off_s), direction=direction)
    if one.mode == 2:
        yield TWO_D(used=one.used)
    elif one.used and one.used < FEW_SATELLITES:
        yield FEW(used=one.used)
