"""What is examined: the config, the agent that may run, and the user that it runs as."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from agent.config.parts import ConfigParts, load_parts
from agent.control import ask
from agent.doctor.programs import ask as ask_program
from agent.doctor.programs import read_text
from agent.errors import ControlError
from agent.identity import identified_parts
from agent.layer.parts import layered_parts
from agent.state_lock import LOCK_FILE

UNIT: Final = "milepost-agent.service"


class Running(Enum):
    """Whether an agent runs on this state."""

    YES = "yes"
    NO = "no"

    UNKNOWN = "unknown"
    """Another user's state, which this one may not look into."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom the agent runs as; ``uid`` is ``None`` where there is no such user."""

    name: str
    uid: int | None
    gids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Subject:
    """Gathered once, before the areas."""

    config_file: Path
    parts: ConfigParts
    running: Running = Running.NO
    account: dict[str, Any] | None = None
    """What the running agent says of itself; ``None`` when it does not run or cannot be asked."""
    user: User = User("root", 0)
    unit: dict[str, str] = field(default_factory=dict)
    """The service's properties (systemctl show); empty without systemd or without the unit."""


def examine(config_file: Path) -> Subject:
    """Read the config as far as it can be read, and ask for the running agent."""
    parts = identified_parts(layered_parts(load_parts(config_file), config_file))
    unit = _unit_properties()
    running, account = _ask_agent(parts)
    return Subject(config_file, parts, running, account, _agent_user(parts, unit), unit)


def user_named(name: str) -> User:
    """A user of this board with all their groups."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return User(name, None)
    return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def group_name(gid: int) -> str:
    """A group's name, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _ask_agent(parts: ConfigParts) -> tuple[Running, dict[str, Any] | None]:
    try:
        return Running.YES, ask(parts.state.runtime_dir)
    except ControlError as error:
        if isinstance(error.__cause__, PermissionError):
            return Running.UNKNOWN, None
    return _holds_lock(parts.state.dir / LOCK_FILE), None


def _holds_lock(lock: Path) -> Running:
    """Nobody answered. Looked up, not tried: a lock of ours could keep an agent from starting."""
    try:
        inode = lock.stat().st_ino
    except FileNotFoundError:
        return Running.NO
    except OSError:
        return Running.UNKNOWN
    # proc_locks(5): "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"
    lines = (read_text("/proc/locks") or "").splitlines()
    held = any("FLOCK" in line and f":{inode} " in line for line in lines)
    return Running.YES if held else Running.NO


def _agent_user(parts: ConfigParts, unit: dict[str, str]) -> User:
    """The service's user; without a service, who owns the state; else who asks."""
    if unit.get("LoadState") == "loaded":
        return user_named(unit.get("User") or "root")
    with contextlib.suppress(OSError, KeyError):
        return user_named(pwd.getpwuid(parts.state.dir.stat().st_uid).pw_name)
    with contextlib.suppress(KeyError):
        return user_named(pwd.getpwuid(os.geteuid()).pw_name)
    return User(str(os.geteuid()), os.geteuid(), frozenset(os.getgroups()))


def _unit_properties() -> dict[str, str]:
    if not Path("/run/systemd/system").is_dir():
        return {}
    answer = ask_program("systemctl", "show", UNIT)
    if answer is None or answer.code:
        return {}
    pairs = (line.partition("=") for line in answer.output.splitlines())
    properties = {name: value for name, _, value in pairs}
    return properties if properties.get("LoadState") == "loaded" else {}
