"""A DBC file as lines that keep their numbers, and how the usual faults in it are mended.

A statement is taken out by blanking its lines, so that every later fault is found under the
number that an editor shows. Pure: what cantools thinks of the text is ``load``'s part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.sources.can.ids import EXTENDED, EXTENDED_MASK, STANDARD_MASK

_STATEMENT: Final = re.compile(r"\s*(?:[A-Z]+_[A-Z_]*|VERSION|FILTER)\b")
_UNTERMINATED: Final = ("BO_ ", "SG_ ", "BU_", "BS_", "NS_", "VERSION")
"""Statements that do not end with a semicolon."""
_MESSAGE: Final = re.compile(r"(\s*BO_\s+)(\d+)(\s+(\w+).*)")
_REFERENCE: Final = re.compile(
    r"(\s*(?:VAL_|CM_|BA_|BA_REL_|SG_MUL_VAL_|SIG_VALTYPE_|SIG_GROUP_|BO_TX_BU_)\b"
    r'[^"\d]*(?:"[^"]*"\s*(?:BO_|SG_)\s+)?)(\d+)(.*)'
)
_NAMED: Final = re.compile(r"\s*(?:BO_\s+\d+|SG_)\s+(\w+)")
_COMMENT: Final = re.compile(r"\s*CM_\s+\S")
_CLOSED: Final = re.compile(r'.*"\s*;\s*$')
_BARE_FRACTION: Final = re.compile(r"(?<![\d.\w])(-?)\.(\d)")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Note:
    """One thing in a DBC file that is not as it should be, and what was made of it."""

    path: Path
    line: int
    text: str
    missing: frozenset[str] = frozenset()
    """The message and signals that are not read because of it."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class DbcText:
    """The text of one file; each change is noted."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._lines = _decode(data).split("\n")
        self.notes: list[Note] = []

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def note(self, line: int, text: str, missing: frozenset[str] = frozenset()) -> None:
        """Keep a remark on a line; lines count from 1."""
        self.notes.append(Note(self._path, line, text, missing))

    def has_messages(self) -> bool:
        """Whether a message is left."""
        return any(_MESSAGE.match(line) for line in self._lines)

    def lines_of_messages(self) -> dict[str, int]:
        """Where each message begins, by its name."""
        found = ((number, _MESSAGE.match(line)) for number, line in enumerate(self._lines, 1))
        return {match[4]: number for number, match in found if match}

    def mend_ids(self) -> bool:
        """Give ids of 29 bits their flag, in all statements; whether any lacked it."""
        flagged: dict[str, str] = {}
        found = False
        for number, line in enumerate(self._lines, 1):
            match = _MESSAGE.match(line)
            if match is None or not STANDARD_MASK < int(match[2]) < EXTENDED:
                continue
            found = True
            identifier = int(match[2])
            if identifier <= EXTENDED_MASK:
                flagged[match[2]] = str(identifier | EXTENDED)
                lacks = f"id 0x{identifier:x} has 29 bits and lacks the flag for it: set"
                self.note(number, f"{match[4]}: {lacks}")
            else:
                self.drop_message(number, f"{match[4]}: no CAN id is 0x{identifier:x}")
        for number, line in enumerate(self._lines):
            match = _MESSAGE.match(line) or _REFERENCE.match(line)
            if match and match[2] in flagged:
                self._lines[number] = match[1] + flagged[match[2]] + match[3]
        return found

    def drop_comments(self, fault_line: int) -> bool:
        """Blank all comments, and note the one at fault, if it is one; whether there were any.

        ``fault_line`` is where the syntax is wrong, 0 if it is not. A comment that is not
        closed is found wrong where the next statement begins.
        """
        found = False
        for start, text in enumerate(self._lines):
            if not _COMMENT.match(text):
                continue
            found = True
            last = next(
                (number for number in self._statement(start) if _CLOSED.match(self._lines[number])),
                None,
            )
            end = last if last is not None else max(self._statement(start))
            if fault_line and (last is None or start < fault_line <= end + 1):
                self.note(start + 1, f"{_shown(text)}: a comment with invalid syntax: left out")
            self._blank(range(start, end + 1))
        return found

    def mend_at(self, line: int, column: int) -> bool:
        """Mend or take out the statement that has wrong syntax there; whether there is one."""
        if line > len(self._lines):
            return False
        start = self._start_of(line - 1)
        if start == line - 1 and not self._lines[start][: column - 1].strip():
            unclosed = self._unclosed_before(start)
            if unclosed is not None:
                self._lines[unclosed] += " ;"
                shown = _shown(self._lines[unclosed])
                self.note(unclosed + 1, f"{shown}: lacks its closing semicolon: added")
                return True
        statement = self._lines[start].strip()
        mended = _BARE_FRACTION.sub(r"\g<1>0.\2", self._lines[start])
        if statement.startswith("SG_ ") and mended != self._lines[start]:
            self._lines[start] = mended
            added = "a number without a digit before its point: added"
            self.note(start + 1, f"{statement.split()[1]}: {added}")
        elif statement.startswith("BO_ "):
            self.drop_message(start + 1, f"{_shown(statement)}: invalid syntax")
        elif statement:
            self._blank(self._statement(start))
            missing = _names_in([statement])
            self.note(start + 1, f"{_shown(statement)}: invalid syntax: left out", missing)
        return bool(statement)

    def drop_unused(self, keyword: str, frame_id: str, signal: str) -> bool:
        """Take out what is said of a signal that does not exist; whether anything is."""
        pattern = re.compile(rf"\s*{keyword}\s+{frame_id}\s+{signal}\b")
        starts = [number for number, text in enumerate(self._lines) if pattern.match(text)]
        for start in starts:
            self._blank(self._statement(start))
            gone = f"{keyword} {frame_id} {signal}: there is no such signal: left out"
            self.note(start + 1, gone)
        return bool(starts)

    def drop_message(self, line: int, reason: str) -> None:
        """Take out a message and its signals; what refers to them is found unused."""
        end = line
        while end < len(self._lines) and self._lines[end].strip()[:4] in {"", "SG_ "}:
            end += 1
        missing = _names_in(self._lines[line - 1 : end])
        self._blank(range(line - 1, end))
        self.note(line, f"{reason}: message left out", missing)

    def _blank(self, numbers: Iterator[int] | range) -> None:
        for number in list(numbers):
            self._lines[number] = ""

    def _start_of(self, index: int) -> int:
        """Where the statement begins that a line belongs to."""
        while index > 0 and not _STATEMENT.match(self._lines[index]):
            index -= 1
        return index

    def _statement(self, start: int) -> Iterator[int]:
        """The lines of the statement that begins at ``start``: up to the next one's."""
        yield start
        for number in range(start + 1, len(self._lines)):
            if _STATEMENT.match(self._lines[number]):
                return
            yield number

    def _unclosed_before(self, index: int) -> int | None:
        """The last line before ``index``, if it should end with a semicolon and does not."""
        filled = (number for number in range(index - 1, -1, -1) if self._lines[number].strip())
        last = next(filled, None)
        if last is None or self._lines[last].rstrip().endswith(";"):
            return None
        start = self._lines[self._start_of(last)].lstrip()
        return None if start.startswith(_UNTERMINATED) else last


def _decode(data: bytes) -> str:
    """DBC files are of Windows programs (cp1252), unless they are UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    # every kind of line end, so that cantools counts the lines as an editor does
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _shown(text: str) -> str:
    return text.strip()[:_SHOWN]


def _names_in(lines: list[str]) -> frozenset[str]:
    """The names that ``BO_`` and ``SG_`` statements give."""
    return frozenset(match[1] for line in lines if (match := _NAMED.match(line)))
