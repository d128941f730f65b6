"""gpsd: does it answer, has it a receiver, does that speak, and has it a fix.

It is polled with gpsd-py3, an independent client, so that a fault of the agent's own does
not hide. That has no time limit: the poll runs in a thread that may be left behind.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.gps_port import serial_ports
from agent.doctor.patience import Call
from agent.doctor.subject import Subject
from agent.host import boottime_s, system_utc

CONNECT_S: Final = 3.0
LISTEN_S: Final = 6.0
"""A cold receiver reports once a second; gpsd opens it only when somebody watches."""

POLL_S: Final = 12.0
"""gpsd-py3 waits for ever where nothing answers."""

ADVANCE_S: Final = 2.5
"""A fix that stays the same for so long is stale."""

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
SILENT: Final = Kind(
    "gps-receiver-silent",
    Severity.ERROR,
    "gpsd has the receiver {device}, which says nothing",
    "sudo systemctl restart gpsd && milepost-agent doctor --config {file} --only gps",
    "Check its wires and power, and that nothing else (a console, ModemManager) has the port.",
)
NO_FIX: Final = Kind(
    "gps-no-fix",
    Severity.WARNING,
    "no fix yet: {used} of {seen} satellites in view are used",
    "watch -n 5 milepost-agent doctor --config {file} --only gps",
    "The antenna needs a view of the sky; a cold start takes up to 15 minutes.",
)
STALE: Final = Kind(
    "gps-stale-fix",
    Severity.WARNING,
    "gpsd repeats a fix that does not change ({time})",
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
GOOD: Final = Kind("gps-good", Severity.OK, "{mode} fix{satellites}, from {device}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What gpsd said. ``mode`` is gpsd's: 0 nothing, 1 no fix, 2 and 3 a fix."""

    host: str
    port: int
    devices: tuple[str, ...] = ()
    """Those of the config, which may be patterns; none takes any."""
    config_file: str = ""
    ports: tuple[str, ...] = ()
    unreachable: str = ""
    foreign: str = ""
    receivers: tuple[str, ...] = ()
    mode: int = 0
    seen: int = 0
    used: int = 0
    first_fix: str = ""
    last_fix: str = ""
    watched_s: float = 0.0
    off: timedelta | None = None
    """How far the board's clock is ahead of the receiver's time."""


def gather(subject: Subject, host: str, port: int, devices: tuple[str, ...]) -> Facts:
    """Poll gpsd."""
    common: dict[str, Any] = {
        "host": host,
        "port": port,
        "devices": devices,
        "config_file": str(subject.config_file),
        "ports": serial_ports(),
    }
    try:
        with socket.create_connection((host, port), CONNECT_S):
            pass
    except OSError as error:
        return Facts(**common, unreachable=error.strerror or str(error))
    try:
        polled = Call(lambda: _poll(host, port), "doctor-gpsd").result(POLL_S)
    except TimeoutError:
        polled = {"foreign": "it takes connections and says nothing"}
    return Facts(**common, **polled)


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
    elif not (chosen := _chosen(facts)):
        wanted, known = ", ".join(facts.devices), ", ".join(facts.receivers)
        yield OTHER_RECEIVER(device=wanted, known=known, file=facts.config_file)
    elif facts.mode == 0:
        yield SILENT(device=chosen, file=facts.config_file)
    elif facts.mode == 1:
        yield NO_FIX(used=facts.used, seen=facts.seen, file=facts.config_file)
    else:
        yield from _fix(facts, chosen)


def _fix(facts: Facts, device: str) -> Iterator[Finding]:
    if facts.watched_s >= ADVANCE_S and facts.first_fix == facts.last_fix:
        yield STALE(time=facts.last_fix or "without a time")
        return
    if facts.off is not None and abs(facts.off.total_seconds()) > CLOCK_OFF_S:
        off_s = facts.off.total_seconds()
        direction = "ahead" if off_s > 0 else "behind"
        yield CLOCK_DIFFERS(time=facts.last_fix, off_s=abs(off_s), direction=direction)
    if facts.mode == 2:
        yield TWO_D(used=facts.used)
    elif facts.used and facts.used < FEW_SATELLITES:
        yield FEW(used=facts.used)
    satellites = f" of {facts.used} satellites" if facts.used else ""
    yield GOOD(mode=f"{facts.mode}D", satellites=satellites, device=device)


def _chosen(facts: Facts) -> str:
    """The first receiver that the config allows; empty where it allows none of them."""
    patterns = facts.devices or ("*",)
    return next(
        (one for wanted in patterns for one in facts.receivers if fnmatchcase(one, wanted)), ""
    )


def _poll(host: str, port: int) -> dict[str, Any]:
    """Facts of gpsd: poll until the fix has been seen to move on, or the time is up."""
    import gpsd as client  # noqa: PLC0415  of the running agent nobody needs it

    logging.getLogger(client.__name__).setLevel(logging.CRITICAL)  # what it says is a finding here
    facts: dict[str, Any] = {}
    try:
        client.connect(host, port)
        devices = client.state.get("devices", {}).get("devices", [])
        facts["receivers"] = tuple(device.get("path", "?") for device in devices)
        if devices:
            facts |= _watch(client)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        facts["foreign"] = f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  its own errors are bare Exceptions
        facts["foreign"] = str(error)
    finally:
        with contextlib.suppress(OSError, AttributeError):
            client.gpsd_stream.close()
            client.gpsd_socket.close()
    return facts


def _watch(client: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    pause = threading.Event()
    started_s = boottime_s()
    first_fix_s: float | None = None
    while (now_s := boottime_s()) - started_s < LISTEN_S:
        try:
            fix = client.get_current()
        except (UserWarning, LookupError):
            fix = None  # no receiver is active, or nothing came from it yet
        if fix is not None:
            facts |= {"mode": fix.mode, "seen": fix.sats, "used": fix.sats_valid}
        if fix is not None and fix.mode >= 2:
            if first_fix_s is None:
                first_fix_s = now_s
                facts["first_fix"] = fix.time
            facts |= {"last_fix": fix.time, "watched_s": now_s - first_fix_s}
            facts["off"] = _ahead(fix.time)
            if fix.time != facts["first_fix"]:
                break
            if now_s - first_fix_s >= ADVANCE_S:
                break
        pause.wait(0.3)
    return facts


def _ahead(fix_time: str) -> timedelta | None:
    try:
        moment = datetime.fromisoformat(fix_time)
    except ValueError:
        return None
    return system_utc() - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
