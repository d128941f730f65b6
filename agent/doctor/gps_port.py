"""A receiver on a serial port without gpsd: is the port there, does it open, do sentences come.

Where the agent runs it has the port, and is asked. Two readers would get a part each.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.config.serial import SerialSettings
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Running, Subject
from agent.host import boottime_s

if TYPE_CHECKING:
    from agent.sources.nmea.port import SerialSession

LISTEN_S: Final = 12.0
"""For all baud rates together."""

FIX_S: Final = 3.0
"""For a fix, after the first sentence; slow receivers speak every other second."""

_PORTS: Final = ("ttyACM*", "ttyUSB*", "ttyAMA*", "ttyTHS*", "serial0", "gps*")

ABSENT: Final = Kind(
    "gps-port-absent",
    Severity.ERROR,
    "there is no serial port {device} (there are: {ports})",
    "sudo dmesg | grep -i -E 'tty|usb' | tail -n 20",
    "Plug the receiver in, or correct gps.serial.device. On a Pi, raspi-config switches the port "
    "on and the login console on it off.",
)
REFUSED: Final = Kind(
    "gps-port-refused",
    Severity.ERROR,
    "the serial port {device} cannot be opened: {reason}",
    "ls -l {device} && sudo fuser -v {device}",
    "If gpsd has it: sudo systemctl disable --now gpsd.socket gpsd.service.",
)
SILENT: Final = Kind(
    "gps-port-silent",
    Severity.ERROR,
    "no NMEA sentence came from {device}: {reason}",
    "sudo stty -F {device} raw && sudo timeout 5 cat {device}",
    "Nothing at all: its wires or power. Gibberish: another baud rate; leave gps.serial.baud away "
    "to have it found out.",
)
NO_FIX: Final = Kind(
    "gps-port-no-fix",
    Severity.WARNING,
    "the receiver on {device} speaks and has no fix: {seen} satellites in view",
    "sudo timeout 5 cat {device} | grep -a -E 'GGA|GSV'",
    "The antenna needs a view of the sky; a cold start takes up to 15 minutes.",
)
NOT_ASKED: Final = Kind(
    "gps-port-busy",
    Severity.INFO,
    "not listened to: an agent of another user may have the port",
    "sudo milepost-agent doctor --only gps",
)
GOOD: Final = Kind("gps-port-good", Severity.OK, "{device} at {baud} baud: {sentences}, {fixes}")


@dataclass(frozen=True, slots=True)
class Facts:
    """``heard`` is the session's account, as that of ``agent.sources.nmea.port``."""

    device: str
    ports: tuple[str, ...] = ()
    is_there: bool = True
    refused: str = ""
    silence: str = ""
    heard: dict[str, Any] | None = None


def gather(subject: Subject, settings: SerialSettings) -> Facts:
    """Listen at the first port of the config that there is."""
    ports = serial_ports()
    wanted = ", ".join(settings.device)
    if subject.running is Running.YES:
        heard = (subject.account or {}).get("gps") or None
        return Facts((heard or {}).get("device") or wanted, ports, heard=heard)
    if subject.running is Running.UNKNOWN:
        return Facts(wanted, ports)
    found = [path for pattern in settings.device for path in _matching(pattern)]
    if not found:
        return Facts(wanted, ports, is_there=False)
    return _listen(found[0], ports, settings, subject.parts.state.dir)


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the port."""
    device, heard = facts.device, facts.heard
    if not facts.is_there:
        yield ABSENT(device=device, ports=", ".join(facts.ports) or "none")
    elif facts.refused:
        yield REFUSED(device=device, reason=facts.refused)
    elif facts.silence:
        yield SILENT(device=device, reason=facts.silence)
    elif heard is None:
        yield NOT_ASKED()
    elif not heard["fixes"]:
        yield NO_FIX(device=device, seen=heard["satellites_in_view"])
    else:
        yield GOOD(
            device=device,
            baud=heard["baud"],
            sentences=_counted(heard["sentences"], "sentence"),
            fixes=_counted(heard["fixes"], "fix", "es"),
        )


def _counted(count: int, word: str, ending: str = "s") -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}{ending}"


def serial_ports() -> tuple[str, ...]:
    """Ports that a receiver may be on."""
    found = (path for pattern in _PORTS for path in Path("/dev").glob(pattern))
    return tuple(sorted(str(path) for path in found))


def _matching(pattern: str) -> list[str]:
    return sorted(str(path) for path in Path("/").glob(pattern.lstrip("/")))


def _listen(
    device: str, ports: tuple[str, ...], settings: SerialSettings, state_dir: Path
) -> Facts:
    """Try the likely rates for as long as the time allows; nothing is written to the receiver."""
    # pyserial is loaded only where there is a port to read
    from agent.sources.nmea.baud import LISTEN_S as RATE_S  # noqa: PLC0415
    from agent.sources.nmea.baud import BaudMemory, bauds_to_try  # noqa: PLC0415
    from agent.sources.nmea.port import PORT_ERRORS, SerialSession, reason_of  # noqa: PLC0415

    bauds = bauds_to_try(settings.baud, BaudMemory(state_dir).recall(device))
    ends_s = boottime_s() + LISTEN_S
    try:
        session = SerialSession(device, bauds[0])
    except PORT_ERRORS as error:
        return Facts(device, ports, refused=reason_of(error))
    try:
        for baud in bauds:
            session.change_baud(baud)
            until_s = min(boottime_s() + RATE_S, ends_s)
            while not session.stream.sentences and _hear(session, until_s):
                pass
            if session.stream.sentences:
                until_s = boottime_s() + FIX_S
                while not session.stream.fixes and _hear(session, until_s):
                    pass
            if session.stream.sentences or not session.stream.bytes_read:
                break
        if session.stream.sentences:
            return Facts(device, ports, heard=session.account())
        return Facts(device, ports, silence=session.silence())
    except PORT_ERRORS as error:
        return Facts(device, ports, refused=reason_of(error))
    finally:
        session.close()


def _hear(session: SerialSession, until_s: float) -> bool:
    """Take what comes next; False when the time is up."""
    left_s = until_s - boottime_s()
    if select.select([session.port], [], [], max(0.0, min(left_s, session.pause_s)))[0]:
        session.read(boottime_s())
    elif session.is_mid_epoch:
        session.pause()
    return left_s > 0
