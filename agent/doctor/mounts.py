"""What a folder lies on: the mount, its device and how worn that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.doctor.programs import read_text


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount; ``device`` is its disk's name below ``/sys/block``, or empty.

    ``source`` is what is mounted, e.g. ``/dev/mmcblk0p2``.
    """

    point: str
    fstype: str
    read_only: bool = False
    device: str = ""
    source: str = ""


def mount_of(folder: Path) -> Mount:
    """The mount that a folder lies on."""
    return find(read_text("/proc/self/mountinfo") or "", str(folder.resolve()))


def find(mountinfo: str, folder: str) -> Mount:
    """The mount with the longest path above ``folder``; the later one hides the earlier.

    proc_pid_mountinfo(5): ``36 35 98:0 /root /point options opt:1 - type source superoptions``
    """
    best = Mount("/", "unknown")
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) < 6 or len(tail) < 3:
            continue
        point = fields[4].replace("\\040", " ")
        above = folder == point or folder.startswith(point.rstrip("/") + "/")
        if above and len(point) >= len(best.point):
            options = {*fields[5].split(","), *tail[2].split(",")}
            best = Mount(point, tail[0], "ro" in options, _device(tail[1]), tail[1])
    return best


def wear_of(device: str) -> int | None:
    """Tenths of its life that an eMMC has used, 1 to 11; SD cards do not tell.

    JEDEC 84-B51: ``0x01 0x02`` for the two sorts of cells; 0x0b is beyond the end.
    """
    told = read_text(f"/sys/block/{device}/device/life_time") if device else None
    try:
        return max(int(word, 16) for word in (told or "").split())
    except ValueError:
        return None


def errors_of(source: str) -> int:
    """What ext4 has counted since it was last checked; 0 where it is another file system."""
    told = read_text(Path("/sys/fs/ext4", source.rpartition("/")[2], "errors_count"))
    return int(told) if told and told.isdigit() else 0


def _device(source: str) -> str:
    """``/dev/mmcblk0p2`` -> ``mmcblk0``; empty for what is no block device."""
    name = source.removeprefix("/dev/")
    if name == source:
        return ""
    parts = [folder.name for folder in Path("/sys/block").glob("*") if name.startswith(folder.name)]
    return max(parts, key=len, default="")
