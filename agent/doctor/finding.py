"""What a finding is."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import Any


class Severity(IntEnum):
    """How bad it is; the worst one sets the exit code."""

    OK = 0
    """Looked at and good."""

    INFO = 1
    """Worth knowing; nothing needs mending."""

    WARNING = 2
    """The agent works, but less well than it could, or not for long."""

    ERROR = 3
    """Samples are missing, wrong or not delivered until it is mended."""

    @property
    def word(self) -> str:
        """As it is told: ``ok``, ``info``, ``warning``, ``error``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; ``command`` mends it, or shows what needs a person's eye."""

    code: str
    severity: Severity
    text: str
    command: str = ""
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "code": self.code,
            "severity": self.severity.word,
            "text": self.text,
            "command": self.command,
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of finding; called with the values of its ``{placeholders}`` it makes one.

    ``code`` is stable: scripts may go by it. In ``command`` the values are quoted for a shell.
    """

    code: str
    severity: Severity
    text: str
    command: str = ""
    advice: str = ""

    def __call__(self, **values: Any) -> Finding:
        """The finding."""
        quoted = {name: shlex.quote(str(value)) for name, value in values.items()}
        return Finding(
            self.code,
            self.severity,
            self.text.format(**values),
            self.command.format(**quoted),
            self.advice.format(**values),
        )


def kinds_of(module: ModuleType) -> list[Kind]:
    """Every kind that a module defines, in its order."""
    return [value for value in vars(module).values() if isinstance(value, Kind)]
