"""GPS: is there a receiver, does it speak, and does it have a fix.

gpsd is polled once with gpsd-py3, an independent client, so that a fault of the agent's own
does not hide. It has no time limit of its own: the area's has to do.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent.config import GpsSource
from agent.doctor.finding import Finding, Kind, Severity
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

_PORTS: Final = ("ttyACM*", "ttyUSB*", "ttyAMA*", "ttyTHS*", "serial0", "gps*")

NO_CONFIG: Final = Kind("gps-not-checked", Severity.INFO, "not checked: [gps] cannot be used")
OFF: Final = Kind("gps-off", Severity.INFO, 'gps.source is "none": positions come from CAN or not')
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
    "sudo systemctl restart gpsd && gpspipe -r -n 20",
    "Check its wires and power, and that nothing else (a console, ModemManager) has the port.",
)
NO_FIX: Final = Kind(
    "gps-no-fix",
    Severity.WARNING,
    "no fix yet: {used} of {seen} satellites in view are used",
    'gpspipe -w | grep -m 3 -E \'"class":"(TPV|SKY)"\'',
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
FAULT: Final = Kind(
    "gps-agent-lost-it",
    Severity.ERROR,
    "the running agent has lost GPS for {lasts_s:.0f} s: {reason}",
    "journalctl -u milepost-agent -n 50 --no-pager",
)
GOOD: Final = Kind("gps-good", Severity.OK, "{mode} fix, {used} satellites used, from {device}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What gpsd, or the port, said. ``mode`` is gpsd's: 0 nothing, 1 no fix, 2 and 3 a fix."""

    source: str | None
    config_file: str = ""
    host: str = ""
    port: int = 0
    device: str = ""
    ports: tuple[str, ...] = ()
    fault: tuple[str, float] | None = None
    """The running agent's: reason, and for how many seconds."""
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


def gather(subject: Subject) -> Facts:
    """Poll gpsd, or listen at the port if no agent does."""
    settings = subject.parts.gps
    if settings is None:
        return Facts(None)
    common: dict[str, Any] = {
        "source": settings.source.value,
        "config_file": str(subject.config_file),
        "host": settings.host,
        "port": settings.port,
        "device": next(iter(settings.device), ""),
        "ports": serial_ports(),
        "fault": _agent_fault(subject.account),
    }
    if settings.source is not GpsSource.GPSD:
        return Facts(**common)
    try:
        with socket.create_connection((settings.host, settings.port), CONNECT_S):
            pass
    except OSError as error:
        return Facts(**common, unreachable=error.strerror or str(error))
    try:
        polled = Call(lambda: _poll(settings.host, settings.port), "doctor-gpsd").result(POLL_S)
    except TimeoutError:
        polled = {"foreign": "it takes connections and says nothing"}
    return Facts(**common, **polled)


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of GPS."""
    if facts.source is None:
        yield NO_CONFIG()
        return
    if facts.source == GpsSource.NONE.value:
        yield OFF()
        return
    if facts.fault is not None:
        yield FAULT(reason=facts.fault[0], lasts_s=facts.fault[1])
    yield from _gpsd(facts)


def _gpsd(facts: Facts) -> Iterator[Finding]:
    address = {"host": facts.host, "port": facts.port}
    if facts.unreachable:
        yield UNREACHABLE(reason=facts.unreachable, **address)
    elif facts.foreign:
        yield NOT_GPSD(reason=facts.foreign, **address)
    elif not facts.receivers:
        device = facts.device or (facts.ports[0] if facts.ports else "/dev/serial0")
        yield NO_RECEIVER(ports=", ".join(facts.ports) or "none", device=device)
    elif facts.device and facts.device not in facts.receivers:
        known = ", ".join(facts.receivers)
        yield OTHER_RECEIVER(device=facts.device, known=known, file=facts.config_file)
    elif facts.mode == 0:
        yield SILENT(device=facts.receivers[0])
    elif facts.mode == 1:
        yield NO_FIX(used=facts.used, seen=facts.seen)
    else:
        yield from _fix(facts)


def _fix(facts: Facts) -> Iterator[Finding]:
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
    device = facts.device or facts.receivers[0]
    yield GOOD(mode=f"{facts.mode}D", used=facts.used, device=device)


def serial_ports() -> tuple[str, ...]:
    """Ports that a receiver may be on."""
    found = (path for pattern in _PORTS for path in Path("/dev").glob(pattern))
    return tuple(sorted(str(path) for path in found))


def _agent_fault(account: dict[str, Any] | None) -> tuple[str, float] | None:
    for fault in (account or {}).get("faults", ()):
        if fault["code"].startswith("source:gps"):
            return fault["reason"], fault["lasts_s"]
    return None


def _poll(host: str, port: int) -> dict[str, Any]:
    """Facts of gpsd: poll until the fix has been seen to move on, or the time is up."""
    import gpsd as client  # noqa: PLC0415  of the running agent nobody needs it

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
