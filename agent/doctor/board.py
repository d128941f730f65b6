"""The board as `board apply` set it up: is that still there, and is it in force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.board.plan import Places, find_boot, touched
from agent.board.profile import detected, this_model
from agent.board.record import Book, Record
from agent.board.wanted import Chrony, Gps, Wanted
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.links import Link, links
from agent.doctor.mounts import mount_of
from agent.doctor.programs import ask, read_text
from agent.doctor.subject import Subject
from agent.errors import StateError
from agent.host import boot_id

ROOT: Final = Path("/")

NOT_APPLIED: Final = Kind(
    "board-not-applied",
    Severity.INFO,
    "`board apply` has not set this board up{model}",
    "milepost-agent board list && milepost-agent board apply --help",
    "Nothing is wrong with a board that was set up by hand.",
)
UNREADABLE: Final = Kind(
    "board-record-unreadable",
    Severity.WARNING,
    "what `board apply` did cannot be read: {reason}",
    "sudo milepost-agent doctor --only board; ls -l /var/lib/milepost-board",
)
UNFINISHED: Final = Kind(
    "board-unfinished",
    Severity.ERROR,
    "a `board apply` or `undo` was cut off in the middle",
    "sudo milepost-agent board apply",
    "Or take everything back: sudo milepost-agent board undo.",
)
OTHER_MODEL: Final = Kind(
    "board-other-model",
    Severity.WARNING,
    "set up as {board}, and this is a {model}",
    "sudo milepost-agent board apply --board {own}",
)
TOUCHED: Final = Kind(
    "board-changed",
    Severity.WARNING,
    "changed since `board apply` wrote it: {paths}",
    "milepost-agent board diff --force",
    "If the change is meant, take it over: sudo milepost-agent board apply --force.",
)
REBOOT: Final = Kind(
    "board-reboot",
    Severity.WARNING,
    "`board apply` changed what counts from the next boot on",
    "sudo reboot",
)
CAN_ABSENT: Final = Kind(
    "board-can-absent",
    Severity.ERROR,
    "{channel} should be there, and is not",
    "sudo dmesg | grep -i -E 'mcp25|mttcan|spi|can[0-9]'",
    "A controller that does not answer: the wrong HAT (board list), crystal or interrupt pin, or "
    "it does not sit well. A USB adapter: plug it in.",
)
CAN_DIFFERS: Final = Kind(
    "board-can-differs",
    Severity.ERROR,
    "{channel} has {what} {has}, set up is {wanted}",
    "sudo systemctl restart milepost-can@{channel}.service",
)
NO_WATCHDOG: Final = Kind(
    "board-watchdog-off",
    Severity.WARNING,
    "the hardware watchdog is not in use: a board that hangs stays so",
    "ls -l /dev/watchdog0; systemctl show -p RuntimeWatchdogUSec",
)
NO_MEMORY_LIMITS: Final = Kind(
    "board-no-memory-limits",
    Severity.WARNING,
    "the kernel limits nobody's memory: a defect of the agent could take the board along",
    "cat /proc/cmdline; sudo milepost-agent board apply && sudo reboot",
)
GPSD_OPTIONS: Final = Kind(
    "board-gpsd-options",
    Severity.WARNING,
    "gpsd runs without {missing}",
    "sudo systemctl restart gpsd.service",
    "Without -n it reads only while somebody asks, and chrony gets no time.",
)
NO_CHRONY: Final = Kind(
    "board-no-chrony",
    Severity.WARNING,
    "chrony, which should take the receiver's time, does not answer",
    "sudo apt-get install chrony && sudo systemctl restart chrony",
)
CHRONY_SOURCES: Final = Kind(
    "board-chrony-sources",
    Severity.WARNING,
    "chrony does not know the receiver's time: no source {missing}",
    "sudo systemctl restart chrony && chronyc sources",
    "/etc/chrony/chrony.conf needs the line: confdir /etc/chrony/conf.d",
)
TMP_ON_DISK: Final = Kind(
    "board-tmp-on-disk",
    Severity.INFO,
    "temporary files are on the disk, and wear the flash",
    "systemctl status tmp.mount",
)
GOOD: Final = Kind("board-good", Severity.OK, "set up as {board}{hat}, all of it in force")


@dataclass(frozen=True, slots=True)
class Facts:
    """``None`` where it could not be asked; ``in_this_boot``: applied, not yet rebooted."""

    record: Record | None = None
    unreadable: str = ""
    model: str = ""
    changed: tuple[str, ...] = ()
    in_this_boot: bool = False
    links: dict[str, Link] | None = None
    watchdog: bool | None = None
    controllers: frozenset[str] | None = None
    """What the kernel's control groups can limit."""
    gpsd: tuple[str, ...] | None = None
    """Its command line."""
    refids: frozenset[str] | None = None
    """Names of chrony's reference clocks."""
    tmp_type: str = ""


def gather(subject: Subject) -> Facts:
    """Read the record; ask the kernel, systemd and chrony."""
    del subject
    try:
        record = Book(ROOT).read()
        places = Places(ROOT, find_boot(ROOT))
        changed = touched(record.entries, places) if record is not None else []
        names = tuple(places.name(path) for path in changed)
    except StateError as error:
        return Facts(unreadable=error.message)
    if record is None:
        return Facts(model=this_model())
    mount = mount_of(Path("/tmp"))  # noqa: S108  it is asked about
    return Facts(
        record=record,
        model=this_model(),
        changed=names,
        in_this_boot=bool(record.reboot_from) and record.reboot_from == boot_id(),
        links=links(),
        watchdog=_watchdog(),
        controllers=_controllers(),
        gpsd=_command_of("gpsd"),
        refids=_refids(),
        tmp_type=mount.fstype if mount.point == "/tmp" else "",  # noqa: S108
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the board."""
    if facts.unreadable:
        yield UNREADABLE(reason=facts.unreadable)
        return
    if facts.record is None:
        yield NOT_APPLIED(model=f" ({facts.model})" if facts.model else "")
        return
    if not facts.record.is_whole:
        yield UNFINISHED()
        return
    try:
        wanted = Wanted.model_validate(facts.record.wanted)
    except ValidationError as error:
        yield UNREADABLE(reason=error.errors()[0]["msg"])
        return
    found = [*_stands(facts, wanted), *([] if facts.in_this_boot else _in_force(facts, wanted))]
    yield from found
    if not found:
        hat = "" if wanted.hat_profile is None else f" with {wanted.hat}"
        yield GOOD(board=wanted.board, hat=hat)


def _stands(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    own = detected(facts.model)
    if own is not None and own != wanted.board:
        yield OTHER_MODEL(board=wanted.board, model=facts.model, own=own)
    if facts.changed:
        yield TOUCHED(paths=", ".join(facts.changed))
    if facts.in_this_boot:
        yield REBOOT()


def _in_force(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    if facts.links is not None:
        for channel in wanted.can_channels:
            yield from _can(channel, facts.links.get(channel), wanted)
    if wanted.watchdog and facts.watchdog is False:
        yield NO_WATCHDOG()
    if wanted.profile.cmdline and "memory" not in (facts.controllers or {"memory"}):
        yield NO_MEMORY_LIMITS()
    if wanted.gps is not Gps.NONE:
        if facts.gpsd is not None:
            needed = ["-n", *([wanted.device] if wanted.device else [])]
            missing = [word for word in needed if word not in facts.gpsd]
            if missing:
                yield GPSD_OPTIONS(missing=" and ".join(missing))
        if wanted.chrony is not Chrony.NONE:
            yield from _chrony(facts.refids, wanted)
    if wanted.tmp_in_memory and facts.tmp_type != "tmpfs":
        yield TMP_ON_DISK()


def _can(channel: str, link: Link | None, wanted: Wanted) -> Iterator[Finding]:
    if link is None:
        yield CAN_ABSENT(channel=channel)
        return
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("the bit rate", link.bitrate, wanted.bitrate_of(channel)),
        ("the data bit rate", link.data_bitrate, wanted.dbitrate),
        ("restart-ms", link.restart_ms, wanted.restart_ms),
    )
    for what, has, is_wanted in pairs:
        # a virtual one has none of these; one that is down has no bit rate yet
        if link.kind == "can" and is_wanted is not None and has != is_wanted:
            yield CAN_DIFFERS(channel=channel, what=what, has=has or "unset", wanted=is_wanted)


def _chrony(refids: frozenset[str] | None, wanted: Wanted) -> Iterator[Finding]:
    if refids is None:
        yield NO_CHRONY()
        return
    needed = ["GPS", *(["PPS"] if wanted.pps_gpio is not None else [])]
    missing = [name for name in needed if name not in refids]
    if missing:
        yield CHRONY_SOURCES(missing=" and ".join(missing))


def _watchdog() -> bool | None:
    answer = ask("systemctl", "show", "--property=RuntimeWatchdogUSec", "--value")
    if answer is None or answer.code:
        return None
    return answer.output.strip() not in {"", "0", "infinity"} and Path("/dev/watchdog0").exists()


def _controllers() -> frozenset[str] | None:
    told = read_text("/sys/fs/cgroup/cgroup.controllers")
    return None if told is None else frozenset(told.split())


def _command_of(program: str) -> tuple[str, ...] | None:
    for comm in Path("/proc").glob("[0-9]*/comm"):
        if read_text(comm) == program:
            words = read_text(comm.with_name("cmdline")) or ""
            return tuple(words.split("\0"))
    return None


def _refids() -> frozenset[str] | None:
    answer = ask("chronyc", "-n", "-c", "sources")
    if answer is None or answer.code:
        return None
    return parse_sources(answer.output)


def parse_sources(output: str) -> frozenset[str]:
    """``chronyc -c sources``: mode, state, name, …; ``#`` marks a reference clock."""
    rows = (line.split(",") for line in output.splitlines())
    return frozenset(row[2] for row in rows if len(row) > 2 and row[0] == "#")
