"""The clock: does somebody vouch for it, by how much is it off, and what keeps it over a reboot.

TLS goes by the system's clock, whatever time the agent trusts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.programs import ask, read_text
from agent.doctor.subject import Subject
from agent.host import system_utc
from agent.kernel_clock import HELPER, kernel_is_synchronised
from agent.trusted_time import EARLIEST_PLAUSIBLE, LATEST_PLAUSIBLE

OFFSET_S: Final = 1.0
RTC_OFF_S: Final = 60.0

DAEMONS: Final = {
    "chronyd": "chrony",
    "systemd-timesyn": "systemd-timesyncd",
    "ntpd": "ntpsec",
}
"""Process name (proc(5): 15 characters) -> service."""

IMPLAUSIBLE: Final = Kind(
    "clock-implausible",
    Severity.ERROR,
    "this board's clock says {time}, which cannot be: no TLS connection can be made",
    "sudo systemctl restart chrony && chronyc waitsync 30",
    "A board without a clock of its own needs NTP, or chrony with gpsd, after each start.",
)
NO_DAEMON: Final = Kind(
    "clock-no-service",
    Severity.WARNING,
    "no time service runs (chrony, systemd-timesyncd or ntpd): the clock drifts, and after a "
    "power cut it is wrong",
    "sudo apt-get install chrony && sudo systemctl enable --now chrony",
)
NOT_SYNCHRONISED: Final = Kind(
    "clock-not-synchronised",
    Severity.WARNING,
    "{service} runs, but has not set the clock yet",
    "chronyc sources -v || timedatectl timesync-status",
    "It needs a network, or a receiver: chrony takes the time of gpsd with "
    "`refclock SHM 0 refid GPS`.",
)
NOT_TOLD: Final = Kind(
    "clock-kernel-not-told",
    Severity.WARNING,
    "chrony has set the clock, but does not tell the kernel so: the agent goes by the kernel, "
    "and takes no NTP time",
    "echo rtcsync | sudo tee /etc/chrony/conf.d/rtcsync.conf && sudo systemctl restart chrony",
    "Linux hears of it only with `rtcsync` in chrony's config, which Debian's own has.",
)
OFFSET: Final = Kind(
    "clock-offset",
    Severity.WARNING,
    "the clock is {offset_s:.1f} s off, as chrony measures it",
    "sudo chronyc makestep",
)
RTC_WRONG: Final = Kind(
    "clock-rtc-wrong",
    Severity.WARNING,
    "the board's hardware clock is {off_s:.0f} s off the system's: after the next power cut the "
    "time is wrong until NTP or GPS sets it",
    "sudo hwclock --systohc --utc",
)
NO_RTC: Final = Kind(
    "clock-no-rtc",
    Severity.INFO,
    "this board has no hardware clock: after a power cut samples wait for GPS or NTP, then they "
    "are re-stamped",
)
AGENT_UNSYNCED: Final = Kind(
    "clock-agent-unsynced",
    Severity.WARNING,
    "the running agent has seen no trusted time since this boot: what it samples waits on the "
    "vehicle, or is sent as unsynced",
    "milepost-agent doctor --only gps,clock",
    "A fix of the receiver, or NTP, ends this by itself.",
)
NO_HELPER: Final = Kind(
    "clock-no-helper",
    Severity.WARNING,
    "the service may not ask the kernel whether NTP minds the clock (ProtectClock), and the helper "
    "that may is not there: it takes no NTP time",
    "sudo systemctl start milepost-clock.socket",
    "milepost-clock.socket and milepost-clock.service belong to milepost-agent.service "
    "(docs/systemd.md).",
)
GOOD: Final = Kind("clock-good", Severity.OK, "the kernel says that it is synchronised{by}")


@dataclass(frozen=True, slots=True)
class Facts:
    """Offsets in seconds, positive when fast; ``None`` where unknown."""

    utc: datetime
    synchronised: bool
    service: str | None = None
    offset_s: float | None = None
    has_rtc: bool = False
    rtc_utc: datetime | None = None
    agent_quality: str | None = None
    lacks_helper: bool = False


def gather(subject: Subject) -> Facts:
    """Ask the kernel, chrony and the agent."""
    epoch_s = read_text("/sys/class/rtc/rtc0/since_epoch")
    return Facts(
        utc=system_utc(),
        synchronised=kernel_is_synchronised(),
        service=_running_service(),
        offset_s=_chrony_offset_s(),
        has_rtc=Path("/sys/class/rtc/rtc0").exists(),
        rtc_utc=datetime.fromtimestamp(int(epoch_s), UTC) if epoch_s else None,
        agent_quality=subject.account.get("time_quality") if subject.account else None,
        lacks_helper=subject.unit.get("ProtectClock") == "yes"
        and subject.unit.get("ActiveState") == "active"
        and not HELPER.exists(),
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the clock."""
    found = list(_wrong(facts))
    yield from found
    if not facts.has_rtc:
        yield NO_RTC()
    if not found:
        by = f", by {facts.service}" if facts.service else ""
        off = "" if facts.offset_s is None else f", {facts.offset_s * 1000:.1f} ms off"
        yield GOOD(by=by + off)


def _wrong(facts: Facts) -> Iterator[Finding]:
    if not EARLIEST_PLAUSIBLE <= facts.utc <= LATEST_PLAUSIBLE:
        yield IMPLAUSIBLE(time=facts.utc.strftime("%Y-%m-%d %H:%M:%S UTC"))
        return  # what else is wrong comes of it
    if not facts.synchronised and facts.offset_s is not None:
        yield NOT_TOLD()
    elif not facts.synchronised:
        # the agent's GPS time is good for samples, but sets no clock: TLS still goes by it
        yield NOT_SYNCHRONISED(service=facts.service) if facts.service else NO_DAEMON()
    if facts.offset_s is not None and abs(facts.offset_s) > OFFSET_S:
        yield OFFSET(offset_s=facts.offset_s)
    if facts.rtc_utc is not None:
        off_s = (facts.rtc_utc - facts.utc).total_seconds()
        if abs(off_s) > RTC_OFF_S:
            yield RTC_WRONG(off_s=off_s)
    if facts.lacks_helper:
        yield NO_HELPER()
    if facts.agent_quality == "unsynced":
        yield AGENT_UNSYNCED()


def _running_service() -> str | None:
    for comm in Path("/proc").glob("[0-9]*/comm"):
        service = DAEMONS.get(read_text(comm) or "")
        if service is not None:
            return service
    return None


def _chrony_offset_s() -> float | None:
    """``System time : 0.000012 seconds slow of NTP time``; the sign is that of the clock."""
    answer = ask("chronyc", "-n", "tracking")
    if answer is None or answer.code:
        return None
    return parse_tracking(answer.output)


def parse_tracking(output: str) -> float | None:
    """The offset in ``chronyc tracking``; ``None`` while it follows nobody."""
    offset_s = None
    for line in output.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if name.strip() == "System time" and len(words) >= 3:
            offset_s = float(words[0]) * (1 if words[2] == "fast" else -1)
        elif name.strip() == "Leap status" and value.strip() == "Not synchronised":
            return None
    return offset_s
