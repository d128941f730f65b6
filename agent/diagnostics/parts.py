"""The table of what is in a bundle. A part that cannot be had says why, and costs no other."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from itertools import islice
from pathlib import Path
from typing import Any, Final

from agent.delivery import OUTBOX_FILE
from agent.doctor.areas import AREAS, Report, look
from agent.doctor.cli import as_object
from agent.doctor.programs import ask, read_text
from agent.doctor.subject import Subject
from agent.host import boot_id, boottime_s, system_utc
from agent.outbox_cli import messages, summary

DOCTOR_TIMEOUT_S: Final = 30.0
LOG_LINES: Final = 3_000
MOST_SAMPLES: Final = 20_000

_KERNEL: Final = re.compile(
    r"can\d|\bcan\b|mcp25|mttcan|m_can|peak|gs_usb|slcan|tty|serial|uart|spi|usb \d|gps|pps|rtc"
    r"|watchdog|voltage|throttl|thermal|mmc|ext4|i/o error|oom|out of memory|segfault|milepost",
    re.IGNORECASE,
)
_UNITS: Final = (
    *("milepost-agent.service", "milepost-provision.service", "milepost-rotate.service"),
    *("milepost-update.service", "milepost-update-resume.service"),
    *("gpsd.service", "chrony.service"),
)
"""By name: journalctl takes a pattern only where a unit of that name has a log already."""

_PACKAGES: Final = ("milepost-agent", "gpsd", "chrony", "can-utils", "systemd", "linux-image-*")


@dataclass(frozen=True, slots=True)
class Scene:
    """What the parts are collected from."""

    subject: Subject
    own_log: str = ""
    """Lines that the running agent has handed over."""
    with_samples: bool = False
    """Whether the vehicle's positions may be in it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a bundle; a collector gives a JSON value, or text for ``.txt``."""

    name: str
    about: str
    collect: Callable[[Scene], Any]


def _doctor(scene: Scene) -> Any:
    reports: list[Report] = list(look(scene.subject, tuple(AREAS), DOCTOR_TIMEOUT_S))
    return as_object(scene.subject, reports, max(report.severity for report in reports))


def _account(scene: Scene) -> Any:
    if scene.subject.account is None:
        return {"agent_runs": scene.subject.running.value}
    return _placed(scene, scene.subject.account)


def _last_run(scene: Scene) -> Any:
    return _placed(scene, _json_of(scene.subject.parts.state.dir / "last-run.json"))


def _placed(scene: Scene, tree: Any) -> Any:
    """An account has the last sample in it: without its position unless that may be there."""
    if scene.with_samples:
        return tree
    if isinstance(tree, dict):
        return {
            key: "[position left out]" if key == "location" else _placed(scene, inner)
            for key, inner in tree.items()
        }
    return [_placed(scene, inner) for inner in tree] if isinstance(tree, list) else tree


def _config(scene: Scene) -> Any:
    """Without its comments, which may hold anything."""
    return tomllib.loads(scene.subject.config_file.read_text(encoding="utf-8"))


def _versions(scene: Scene) -> Any:
    del scene
    packages = ask("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", *_PACKAGES)
    return {
        "python": sys.version,
        "libraries": {one.name: one.version for one in distributions() if one.name},
        "packages": packages.output.splitlines() if packages is not None else None,
        "kernel": platform.version(),
        "release": platform.release(),
        "machine": platform.machine(),
        "os": (read_text("/etc/os-release") or "").splitlines(),
    }


def _log(scene: Scene) -> Iterator[str]:
    journal = ask(
        *("journalctl", "--no-pager", "--output=short-iso", f"--lines={LOG_LINES}"),
        *(f"--unit={unit}" for unit in _UNITS),
        timeout_s=30,
    )
    if journal is None:
        yield "# there is no journalctl here, or it does not answer\n"
    else:
        yield f"# journalctl, exit code {journal.code}\n{journal.errors}\n{journal.output}"
    if scene.own_log:
        yield f"# of the running agent's memory\n{scene.own_log}"


def _kernel(scene: Scene) -> Iterator[str]:
    del scene
    answer = ask("dmesg", timeout_s=10)
    if answer is None or answer.code:
        yield f"# dmesg is not allowed for this user, or is not here\n{answer and answer.errors}"
        return
    yield "\n".join(line for line in answer.output.splitlines() if _KERNEL.search(line))


def _outbox(scene: Scene) -> Any:
    return summary(scene.subject.parts.state.dir / OUTBOX_FILE)


def _jobs(scene: Scene) -> Any:
    folder = scene.subject.parts.state.dir / "jobs"
    return {name: _json_of(folder / f"{name}.json") for name in ("current", "last")}


def _board(scene: Scene) -> Any:
    state = scene.subject.parts.state.dir
    usage = {
        str(one): shutil.disk_usage(one)._asdict() for one in (Path("/"), state) if one.exists()
    }
    links = ask("ip", "-json", "-details", "-statistics", "link")
    return {
        "collected_at": system_utc().isoformat(),
        "collected_as": os.geteuid(),
        "boot_id": boot_id(),
        "up_s": boottime_s(),
        "model": read_text("/proc/device-tree/model")
        or read_text("/sys/class/dmi/id/product_name"),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "memory": (read_text("/proc/meminfo") or "").splitlines()[:6],
        "pressure": {name: read_text(f"/proc/pressure/{name}") for name in ("cpu", "memory", "io")},
        "temperature_mc": {
            zone.parent.name: read_text(zone)
            for zone in sorted(Path("/sys/class/thermal").glob("*/temp"))
        },
        "disk_bytes": usage,
        "mounts": (read_text("/proc/mounts") or "").splitlines(),
        "modules": [line.split()[0] for line in (read_text("/proc/modules") or "").splitlines()],
        "links": _links(links.output if links is not None else ""),
        "serial": sorted(str(one) for one in Path("/dev").glob("tty[AUT][CSMH][ABMS]*")),
        "unit": scene.subject.unit,
    }


def _links(output: str) -> Any:
    """CAN alone has more than its name and state: the others' addresses are nobody's business."""
    try:
        return [
            link
            if link.get("link_type") == "can"
            else {key: link.get(key) for key in ("ifname", "operstate", "mtu", "stats64")}
            for link in json.loads(output)
        ]
    except (ValueError, AttributeError):
        return None


def _samples(scene: Scene) -> Iterator[str]:
    found = messages(scene.subject.parts.state.dir / OUTBOX_FILE)
    for message in islice(found, MOST_SAMPLES):
        yield json.dumps(message, separators=(",", ":")) + "\n"


def _json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


PARTS: Final = (
    Part("doctor.json", "what `milepost-agent doctor` finds", _doctor),
    Part("account.json", "what the running agent says of itself", _account),
    Part("last-run.json", "the account that the run before left", _last_run),
    Part("config.json", "the config, without its comments, secrets and paths of keys", _config),
    Part("versions.json", "versions of the agent, its libraries and the system", _versions),
    Part("log.txt", "the last lines of the units' log", _log),
    Part("kernel.txt", "the kernel's lines on CAN, serial ports, storage and power", _kernel),
    Part("outbox.json", "how much waits to be delivered; no samples", _outbox),
    Part("jobs.json", "the job at hand and the last one", _jobs),
    Part("board.json", "model, memory, disks, interfaces, the service's properties", _board),
)
SAMPLES: Final = Part(
    "samples.jsonl", "samples and events that wait: POSITIONS of the vehicle", _samples
)
"""Only where it is asked for."""
