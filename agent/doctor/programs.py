"""Ask the board's own programs, in English and not for long."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 5.0

_ENVIRONMENT: Final = {
    **os.environ,
    "LC_ALL": "C",
    "PATH": os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said."""

    code: int
    output: str
    errors: str


def ask(*command: str, timeout_s: float = TIMEOUT_S) -> Answer | None:
    """Run a program to its end; ``None`` when it is not installed, or does not answer in time."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Answer(done.returncode, done.stdout, done.stderr)


def read_text(path: Path | str) -> str | None:
    """A small file of the kernel, stripped; ``None`` when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
