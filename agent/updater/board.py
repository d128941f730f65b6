"""Where everything is on a board, and the programs that are asked. Standard library only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "milepost-agent"
DPKG_TIMEOUT_S: Final = 1_800.0
"""A large package on a slow card; then it is killed and rolled back."""
PROGRAM_TIMEOUT_S: Final = 300.0
_PATHS: Final = ("home", "inbox", "keys", "health_mark", "root")


class UpdateError(Exception):
    """An update cannot go on; the text is told to the operator."""


@dataclass(frozen=True, slots=True)
class Board:
    """Paths and commands; what a test puts in their place goes through the journal, too."""

    home: Path = Path("/var/lib/milepost-update")
    """The updater's own directory: root's, so that nobody else changes what it has checked."""
    inbox: Path = Path("/var/lib/milepost/update")
    """The agent's user's directory."""
    keys: Path = Path("/etc/milepost/release-keys")
    health_mark: Path = Path("/run/milepost/health.json")
    unit: str = "milepost-agent.service"
    root: Path = Path("/")
    dpkg: tuple[str, ...] = ("dpkg",)
    dpkg_query: tuple[str, ...] = ("dpkg-query",)
    systemctl: tuple[str, ...] = ("systemctl",)
    settle_s: float = 20.0
    """How long the agent must have been up after its first PUBACK."""
    started_s: float = 180.0
    """How long the agent may take to start."""
    poll_s: float = 2.0

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Board:
        """Of the journal."""
        made: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**{**made, **{name: Path(made[name]) for name in _PATHS}})

    @property
    def new_package(self) -> Path:
        """The package that is being installed."""
        return self.home / "new.deb"

    @property
    def current_package(self) -> Path:
        """The one that a roll back installs; after a success, the one that runs."""
        return self.home / "current.deb"

    @property
    def program(self) -> Path:
        """The staged program."""
        return self.home / "updater.pyz"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended; ``output`` is what it wrote."""

    code: int
    output: bytes
    errors: str

    @property
    def last_line(self) -> str:
        """The gist of what went wrong."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


def run(*command: str, timeout_s: float = PROGRAM_TIMEOUT_S) -> Answer:
    """Run a program to its end, in a session of its own: a terminal's Ctrl-C is not for it.

    Raises:
        UpdateError: it is not there, or took longer and was killed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    environment = {
        **os.environ,
        "PATH": path,
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=environment,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise UpdateError(f"{command[0]} took over {timeout_s:g} s") from None
    except OSError as error:
        raise UpdateError(f"{command[0]} cannot be run: {error.strerror}") from error
    return Answer(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def ask(*command: str) -> str:
    """What a program says.

    Raises:
        UpdateError: it failed; with its last line.
    """
    answer = run(*command)
    if answer.code:
        raise UpdateError(f"{command[0]}: {answer.last_line}")
    return answer.output.decode("utf-8", "replace").strip()


def installed_version(board: Board) -> str | None:
    """The version that dpkg has, in whatever state; ``None`` where it has none."""
    answer = run(*board.dpkg_query, "--show", "--showformat=${Version}", PACKAGE)
    return answer.output.decode().strip() or None if answer.code == 0 else None


def install(board: Board, package: Path) -> None:
    """``dpkg --install``, also over a newer version or one that is half installed.

    Config files that were changed stay as they are.

    Raises:
        UpdateError: it failed, with dpkg's words.
    """
    options: Sequence[str] = ("--force-confold", "--force-confdef", "--force-downgrade")
    answer = run(*board.dpkg, *options, "--install", str(package), timeout_s=DPKG_TIMEOUT_S)
    if answer.code:
        raise UpdateError(f"dpkg: {answer.last_line}")
