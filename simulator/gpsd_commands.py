"""What clients say to gpsd: ``?NAME;`` and ``?NAME={…};``.

Several may come in one packet, or one in several. Source: ``man gpsd_json``, "Core
Protocol Commands".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

MAX_COMMAND_BYTES: Final = 4096

_NAME: Final = re.compile(r"\?([A-Z]{1,32})")
_ENDS: Final = re.compile(r"[;\n]")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Command:
    """A request; ``argument`` is the object after ``=``, ``None`` without one."""

    name: str
    argument: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BadCommand:
    """Something else; ``message`` is fit for an ERROR report."""

    message: str


class CommandReader:
    """Cuts one client's bytes into commands; an unfinished one waits for its rest."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, data: bytes) -> list[Command | BadCommand]:
        """The commands that these bytes complete, in order."""
        self._text += data.decode("latin-1")
        found = []
        while (one := self._next()) is not None:
            found.append(one)
        if len(self._text) > MAX_COMMAND_BYTES:
            self._text = ""
            found.append(BadCommand(f"Request longer than {MAX_COMMAND_BYTES} bytes"))
        return found

    def _next(self) -> Command | BadCommand | None:
        self._text = self._text.lstrip("; \t\r\n")
        if not self._text:
            return None
        name = _NAME.match(self._text)
        if name is None:
            return self._unrecognized()
        after = self._text[name.end() :].lstrip(" \t\r")
        if not after:
            return None
        if after[0] in ";\n":
            self._text = after[1:]
            return Command(name[1])
        if after[0] != "=":
            return self._unrecognized()
        return self._with_argument(name[1], after[1:].lstrip(" \t"))

    def _with_argument(self, name: str, text: str) -> Command | BadCommand | None:
        try:
            argument, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            # Not a whole object; whether more can come is told by the end of the line.
            line, newline, rest = text.partition("\n")
            if not newline:
                return None
            self._text = rest
            return BadCommand(f"Invalid {name}: {line.strip()[:60]}")
        self._text = text[end:]
        if not isinstance(argument, dict):
            return BadCommand(f"Invalid {name}: its argument is no object")
        return Command(name, argument)

    def _unrecognized(self) -> BadCommand | None:
        end = _ENDS.search(self._text)
        if end is None:
            return None
        request = self._text[: end.start()].strip()
        self._text = self._text[end.end() :]
        return BadCommand(f"Unrecognized request '{request[:60]}'")
