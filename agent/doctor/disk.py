"""The disk: can the state be written, does it survive a power cut, is there room, is it worn.

Whether it takes writes is tried with one small file in ``state.dir``, removed at once.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.delivery import OUTBOX_FILE
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.mounts import Mount, errors_of, mount_of, wear_of
from agent.doctor.subject import Subject
from agent.host import boottime_s
from agent.outbox.connection import connect_reader
from agent.outbox.salvage_jobs import kept_files

FULL_BYTES: Final = 16_000_000
FEW_INODES: Final = 100
FSYNC_TRIES: Final = 5
FSYNC_SLOW_S: Final = 0.25
"""The outbox syncs once a second at most; a card that takes this long falls behind."""

CHECK_S: Final = 8.0
"""Longer than this the outbox's pages are not read here; ``outbox verify`` reads all of it."""

VOLATILE: Final = frozenset({"tmpfs", "ramfs", "squashfs"})
WORN: Final = 9
"""eMMC life time, JEDEC EXT_CSD: 80 to 90 % used; 11 is beyond its end."""

NO_STATE_DIR: Final = Kind(
    "disk-no-state-dir",
    Severity.WARNING,
    "there is no state directory {path}",
    "sudo install -d -o {user} -g {user} -m 0700 {path}",
    "The service makes /var/lib/milepost by itself when it starts.",
)
READ_ONLY: Final = Kind(
    "disk-read-only",
    Severity.ERROR,
    "{mount}, where the state is, is mounted read-only",
    "sudo mount -o remount,rw {mount}",
    "A kernel that met errors on the card does this by itself: look into dmesg, and replace it.",
)
ON_TMPFS: Final = Kind(
    "disk-volatile",
    Severity.ERROR,
    "the state directory {path} is in memory ({fstype}): a power cut loses every unsent sample",
    "sudoedit {file}",
    "Set state.dir to a folder on the disk, e.g. /var/lib/milepost.",
)
FULL: Final = Kind(
    "disk-full",
    Severity.ERROR,
    "{mount} is full: {free_mb:.0f} MB are free",
    "sudo journalctl --vacuum-size=50M && sudo apt-get clean && df -h {mount}",
    "The agent goes on in memory and thins what it holds until there is room.",
)
TIGHT: Final = Kind(
    "disk-tight",
    Severity.WARNING,
    "{mount} has {free_mb:.0f} MB free, the outbox may grow by {needed_mb:.0f} MB (outbox.max_mb)",
    "sudo journalctl --vacuum-size=50M && sudo apt-get clean && df -h {mount}",
    "Or lower outbox.max_mb.",
)
NO_INODES: Final = Kind(
    "disk-no-inodes",
    Severity.ERROR,
    "{mount} takes no more files: {inodes} inodes are free",
    "sudo du --inodes -x -d 2 {mount} | sort -n | tail",
)
NOT_WRITABLE: Final = Kind(
    "disk-write-failed",
    Severity.ERROR,
    "{path} takes no file: {reason}",
    "sudo dmesg --level=err,crit | tail -n 20",
    "An input/output error is a card at its end: copy it, and replace it.",
)
SLOW: Final = Kind(
    "disk-fsync-slow",
    Severity.WARNING,
    "a small write takes {fsync_ms:.0f} ms to reach {mount} (median of {tries})",
    "iostat -x 1 3 || vmstat 1 3",
    "Another program keeps it busy, or the card is worn.",
)
WORN_OUT: Final = Kind(
    "disk-worn",
    Severity.WARNING,
    "{device} says that {percent} % of its life is used",
    "cat /sys/block/{device}/device/life_time /sys/block/{device}/device/pre_eol_info",
    "Replace it before it fails; budget.flash_mb_per_day caps what the agent writes.",
)
FS_ERRORS: Final = Kind(
    "disk-errors",
    Severity.WARNING,
    "{mount}: its file system has met {count} errors",
    "sudo dmesg --level=err,crit | grep -i -E 'ext4|mmc|I/O' | tail -n 20; sudo touch /forcefsck",
    "The next start checks it. Errors that come again are a card at its end: replace it.",
)
UNSOUND: Final = Kind(
    "disk-outbox-unsound",
    Severity.ERROR,
    "the outbox {path} is damaged: {reason}",
    "milepost-agent outbox verify --config {file}",
    "The agent sets it aside and salvages it by itself when it starts or meets the damage.",
)
KEPT: Final = Kind(
    "disk-damaged-kept",
    Severity.INFO,
    "{count} damaged outbox files are kept beside the outbox",
    "ls -l {path}.*",
    "Those called salvaged may be deleted.",
)
UNTRIED: Final = Kind(
    "disk-not-tried",
    Severity.INFO,
    "whether {path} takes writes was not tried: this user may not look into it",
    "sudo milepost-agent doctor --only disk",
)
GOOD: Final = Kind("disk-good", Severity.OK, "{mount} ({fstype}): {free_mb:.0f} MB free{fsync}")


@dataclass(frozen=True, slots=True)
class Facts:
    """Sizes in bytes, times in seconds; ``None`` where not known or not tried."""

    state_dir: Path
    exists: bool
    mount: Mount
    user: str = "milepost"
    config_file: str = ""
    free_bytes: int = 0
    free_inodes: int | None = None
    max_bytes: int = 0
    outbox_bytes: int = 0
    write_errno: int | None = None
    denied: bool = False
    fsync_s: float | None = None
    life_used_tenths: int | None = None
    fs_errors: int = 0
    outbox_error: str = ""
    kept_files: int = 0


def gather(subject: Subject) -> Facts:
    """Look at the file system, try a write, and read the outbox's pages."""
    folder = subject.parts.state.dir
    standing = next(path for path in (folder, *folder.absolute().parents) if _is_dir(path))
    sizes = os.statvfs(standing)
    mount = mount_of(standing)
    outbox = folder / OUTBOX_FILE
    found: dict[str, Any] = {}
    exists = _is_dir(folder)
    if exists:
        found = _try_write(folder)
        if not found.get("denied"):
            found |= _outbox(outbox)
    return Facts(
        state_dir=folder,
        exists=exists,
        mount=mount,
        user=subject.user.name,
        config_file=str(subject.config_file),
        free_bytes=sizes.f_bavail * sizes.f_frsize,
        free_inodes=sizes.f_favail if sizes.f_files else None,  # btrfs counts none
        max_bytes=int(subject.parts.outbox.max_mb * 1_000_000),
        life_used_tenths=wear_of(mount.device),
        fs_errors=errors_of(mount.source),
        **found,
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the disk."""
    found = list(_wrong(facts))
    yield from found
    if facts.denied:
        yield UNTRIED(path=facts.state_dir)
    if facts.kept_files:
        yield KEPT(count=facts.kept_files, path=facts.state_dir / OUTBOX_FILE)
    if not found:
        fsync = f", a write is safe after {facts.fsync_s * 1000:.1f} ms" if facts.fsync_s else ""
        yield GOOD(
            mount=facts.mount.point,
            fstype=facts.mount.fstype,
            free_mb=facts.free_bytes / 1e6,
            fsync=fsync,
        )


def _wrong(facts: Facts) -> Iterator[Finding]:
    mount = facts.mount.point
    if not facts.exists:
        yield NO_STATE_DIR(path=facts.state_dir, user=facts.user)
    if facts.mount.fstype in VOLATILE:
        yield ON_TMPFS(path=facts.state_dir, fstype=facts.mount.fstype, file=facts.config_file)
    if facts.mount.read_only:
        yield READ_ONLY(mount=mount)
    else:
        yield from _room(facts)
        if facts.write_errno is not None and facts.write_errno != errno.ENOSPC:
            yield NOT_WRITABLE(path=facts.state_dir, reason=os.strerror(facts.write_errno))
    if facts.fsync_s is not None and facts.fsync_s > FSYNC_SLOW_S:
        yield SLOW(mount=mount, fsync_ms=facts.fsync_s * 1000, tries=FSYNC_TRIES)
    if facts.life_used_tenths is not None and facts.life_used_tenths >= WORN:
        percent = (facts.life_used_tenths - 1) * 10
        yield WORN_OUT(device=facts.mount.device, percent=percent)
    if facts.fs_errors:
        yield FS_ERRORS(mount=mount, count=facts.fs_errors)
    if facts.outbox_error:
        path = facts.state_dir / OUTBOX_FILE
        yield UNSOUND(path=path, reason=facts.outbox_error, file=facts.config_file)


def _room(facts: Facts) -> Iterator[Finding]:
    mount, free_mb = facts.mount.point, facts.free_bytes / 1e6
    needed_bytes = facts.max_bytes - facts.outbox_bytes
    if facts.free_bytes < FULL_BYTES or facts.write_errno == errno.ENOSPC:
        yield FULL(mount=mount, free_mb=free_mb)
    elif facts.free_bytes < needed_bytes:
        yield TIGHT(mount=mount, free_mb=free_mb, needed_mb=needed_bytes / 1e6)
    if facts.free_inodes is not None and facts.free_inodes < FEW_INODES:
        yield NO_INODES(mount=mount, inodes=facts.free_inodes)


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _try_write(folder: Path) -> dict[str, Any]:
    took_s = []
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
            for _ in range(FSYNC_TRIES):
                file.write(b"\0" * 4096)
                file.flush()
                started_s = boottime_s()
                os.fsync(file.fileno())
                took_s.append(boottime_s() - started_s)
    except PermissionError:
        return {"denied": True}
    except OSError as error:
        return {"write_errno": error.errno}
    return {"fsync_s": statistics.median(took_s)}


def _outbox(path: Path) -> dict[str, Any]:
    """A structural check of the file, as far as it gets in its time."""
    if not path.exists():
        return {}
    facts: dict[str, Any] = {
        "outbox_bytes": path.stat().st_size,
        "kept_files": len(kept_files(path)),
    }
    deadline_s = boottime_s() + CHECK_S
    try:
        with closing(connect_reader(path)) as db:
            db.set_progress_handler(lambda: boottime_s() > deadline_s, 10_000)
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        said = "ok" if "interrupted" in str(error) else str(error)
    except sqlite3.Error as error:
        said = str(error)
    return facts if said == "ok" else {**facts, "outbox_error": said}
