"""Permissions: may the agent's user do what the config asks of it.

Judged from modes, owners and groups, so the answer is the agent's even where root asks. (The
agent needs no capability: CAN sockets are open to all, and the links are set up by the system.)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Subject, User, group_name

NO_USER: Final = Kind(
    "perm-no-user",
    Severity.ERROR,
    "the service runs as {user}, and there is no such user",
    "sudo useradd --system --no-create-home --shell /usr/sbin/nologin {user}",
)
STATE: Final = Kind(
    "perm-state",
    Severity.ERROR,
    "{user} may not {need} {path}, which {key} names",
    "sudo chown -R {user}: {path} && sudo chmod u+rwX {path}",
)
FOREIGN: Final = Kind(
    "perm-foreign-file",
    Severity.ERROR,
    "{path} belongs to {owner}, and {user} may not write it: an agent was started as {owner} once",
    "sudo chown -R {user}: {folder}",
)
SECRET: Final = Kind(
    "perm-identity",
    Severity.ERROR,
    "{user} may not read {path}, which {key} names",
    "sudo chown {user}: {path} && sudo chmod u+r {path}",
    "The folders above it must let {user} through, too.",
)
SERIAL: Final = Kind(
    "perm-serial",
    Severity.ERROR,
    "{user} may not use the serial port {path}: it is not in the group {group}",
    "sudo usermod -aG {group} {user} && sudo systemctl restart milepost-agent",
)
AS_ROOT: Final = Kind(
    "perm-root",
    Severity.INFO,
    "the service runs as root, and needs no more than a user of its own",
    "sudoedit /etc/systemd/system/milepost-agent.service",
    "The unit in systemd/ has User=milepost; chown state and identity to it.",
)
GOOD: Final = Kind("perm-good", Severity.OK, "{user} may use state, identity and ports")


@dataclass(frozen=True, slots=True)
class Node:
    """Owner and mode of one file or folder."""

    path: str
    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A path that the config names; ``chain`` is it and the folders above it, outermost first.

    ``need`` are the bits of ``os.R_OK``, ``W_OK`` and ``X_OK``. A path that is not there is
    not told of here.
    """

    key: str
    kind: Kind
    need: int
    chain: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """The agent's user and what it needs; ``inside`` are the files in the state directory."""

    user: User
    wanted: tuple[Wanted, ...] = ()
    inside: tuple[Node, ...] = ()
    is_service: bool = False


def gather(subject: Subject) -> Facts:
    """Owners and modes of what the config names."""
    parts = subject.parts
    needs: list[tuple[str, Path | None, Kind, int]] = [
        ("state.dir", parts.state.dir, STATE, os.R_OK | os.W_OK | os.X_OK),
        ("state.runtime_dir", parts.state.runtime_dir, STATE, os.W_OK | os.X_OK),
    ]
    if parts.broker is not None:
        broker = parts.broker
        needs += [
            ("broker.ca_file", broker.ca_file, SECRET, os.R_OK),
            ("broker.certificate_file", broker.certificate_file, SECRET, os.R_OK),
            ("broker.key_file", broker.key_file, SECRET, os.R_OK),
        ]
        if broker.pkcs11 is not None:
            needs.append(("broker.pkcs11.pin_file", broker.pkcs11.pin_file, SECRET, os.R_OK))
    gps = parts.gps
    if gps is not None and gps.source.value == "serial":
        needs += [
            ("gps.serial.device", Path(device), SERIAL, os.R_OK | os.W_OK)
            for device in gps.serial.device
            if not set(device) & set("*?[")
        ]
    chains = [(key, kind, need, _chain(path)) for key, path, kind, need in needs if path]
    return Facts(
        subject.user,
        tuple(Wanted(key, kind, need, chain) for key, kind, need, chain in chains if chain),
        _inside(parts.state.dir),
        is_service=bool(subject.unit),
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the permissions."""
    user = facts.user
    if user.uid is None:
        yield NO_USER(user=user.name)
        return
    if user.uid == 0 and facts.is_service:
        yield AS_ROOT()
    found = [*_paths(facts), *_files(facts)]
    yield from found
    if not found:
        yield GOOD(user=user.name)


def may(user: User, node: Node, need: int) -> bool:
    """Whether the mode bits let the user do so; access lists (ACLs) are not looked at."""
    if user.uid == 0:
        return True
    shift = 6 if user.uid == node.uid else 3 if node.gid in user.gids else 0
    return (node.mode >> shift) & need == need


def _paths(facts: Facts) -> Iterator[Finding]:
    for wanted in facts.wanted:
        *above, node = wanted.chain
        way = all(may(facts.user, folder, os.X_OK) for folder in above)
        if way and may(facts.user, node, wanted.need):
            continue
        yield wanted.kind(
            user=facts.user.name,
            key=wanted.key,
            path=node.path,
            need="write into" if wanted.need & os.W_OK else "read",
            group=group_name(node.gid),
        )


def _files(facts: Facts) -> Iterator[Finding]:
    """The first such file says it all: the command takes care of the others."""
    for node in facts.inside:
        if not may(facts.user, node, os.R_OK | os.W_OK):
            owner = owner_name(node.uid)
            yield FOREIGN(
                path=node.path,
                owner=owner,
                user=facts.user.name,
                folder=os.path.dirname(node.path),  # noqa: PTH120  a text
            )
            return


def owner_name(uid: int) -> str:
    """A user's name, or its number."""
    import pwd  # noqa: PLC0415  only where something is wrong

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _chain(path: Path) -> tuple[Node, ...]:
    try:
        return tuple(_node(part) for part in (*reversed(path.absolute().parents), path))
    except OSError:
        return ()


def _inside(folder: Path) -> tuple[Node, ...]:
    try:
        return tuple(
            node for node in map(_node, sorted(folder.iterdir())) if stat.S_ISREG(node.mode)
        )
    except OSError:
        return ()


def _node(path: Path) -> Node:
    found = path.stat()
    return Node(str(path), found.st_uid, found.st_gid, found.st_mode)
