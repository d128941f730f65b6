"""Load a DBC file as it is found in the wild, with cantools; runs in the compiling process.

A file that cantools takes is left alone. Of one that it refuses, the faults that public
DBC files have are mended where there is no doubt what was meant; else the statement at
fault is left out, and the rest is read. Each change is noted with its line. What is
mended:

- ids of 29 bits without the flag that says so: the flag is set;
- factors such as ``.25``: written ``0.25``;
- comments without a name, or never closed: comments are not needed;
- names of values for signals that do not exist: not needed either;
- signals that overlap: both are read, as cantools does with ``strict=False``.

Signals that do not fit into their message are left out. Lines keep their numbers
throughout, because a statement is taken out by blanking its lines.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import DbcError

MAX_REPAIRS: Final = 64
"""A file with more faults than that is none that a tool wrote: mend it by hand."""

FLOAT_BITS: Final = (16, 32, 64)
MAX_FACTOR: Final = 1e100
"""The product with the longest integer of a frame is a double still."""

_SYNTAX: Final = re.compile(r"[Ii]nvalid syntax at line (\d+), column (\d+): (.*)", re.DOTALL)
_OF_MESSAGE: Final = re.compile(r"in message (\w+)|message (\w+)")
_UNUSED: Final = re.compile(r"\b(VAL_|SIG_VALTYPE_) (\d+) (\w+)")
_STATEMENT: Final = re.compile(r"\s*(?:[A-Z]+_[A-Z_]*|VERSION|FILTER)\b")
_COMMENT: Final = re.compile(r"\s*CM_\s+\S")
_CLOSED: Final = re.compile(r'.*"\s*;\s*$')
_UNTERMINATED: Final = ("BO_ ", "SG_ ", "BU_", "BS_", "NS_", "VERSION")
"""Statements that do not end with a semicolon."""
_MESSAGE: Final = re.compile(r"^([ \t]*BO_[ \t]+)(\d+)([ \t]+(\w+))", re.MULTILINE)
_REFERENCE: Final = re.compile(
    r"^([ \t]*(?:VAL_|CM_|BA_|BA_REL_|SG_MUL_VAL_|SIG_VALTYPE_|SIG_GROUP_|BO_TX_BU_)\b"
    r'[^"\d\n]*(?:"[^"\n]*"[ \t]*(?:BO_|SG_)[ \t]+)?)(\d+)',
    re.MULTILINE,
)
_BARE_FRACTION: Final = re.compile(r"(?<![\d.\w])(-?)\.(\d)")

_EXTENDED: Final = 0x8000_0000
_STANDARD_IDS: Final = 0x800
_EXTENDED_IDS: Final = 0x2000_0000


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


@dataclass(frozen=True, slots=True)
class LoadedDbc:
    """The messages of cantools, and what was mended or left out."""

    messages: list[Any]
    notes: list[Note]


def load(path: Path) -> LoadedDbc:
    """Load one file.

    Raises:
        DbcError: it cannot be read, is no DBC file or has too many faults; names the first.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DbcError(
            f"{path}: {error.strerror}", hint="can.dbc is taken from the config file's folder."
        ) from None
    repair = _Repair(path, _text(data))
    return LoadedDbc(repair.parse(), sorted(repair.notes, key=lambda note: note.line))


def _text(data: bytes) -> str:
    """DBC files are of Windows programs (cp1252), unless they are UTF-8."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    # every kind of line end, so that cantools counts the lines as an editor does
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _Repair:
    """Parse, mend the fault that was found, parse again."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self.notes: list[Note] = []

    def parse(self) -> list[Any]:
        first: DbcError | None = None
        for attempt in range(MAX_REPAIRS):
            try:
                messages = self._load()
            except Exception as error:  # noqa: BLE001  cantools lets errors of many kinds through
                reason = str(error).removeprefix('DBC: "').removesuffix('"')
                first = first or self._error(reason)
                mended = self._mend_known(reason) if attempt == 0 else False
                if not mended and not self._mend(reason):
                    raise first from None
                if not _MESSAGE.search(self._text):
                    raise DbcError(
                        f"{self._path}: is no DBC file: {first.message.rpartition(': ')[2]}",
                        hint="A DBC file has a line `BO_ ID NAME: BYTES SENDER` a message.",
                    ) from None
            else:
                self._note_oddities(messages)
                return messages
        raise DbcError(
            f"{first.message if first else self._path} (and over {MAX_REPAIRS} more faults)",
            hint="Mend the file, or export it anew from the tool that it came from.",
        )

    def _load(self) -> list[Any]:
        import cantools  # noqa: PLC0415  only the compiling process pays for it

        # it warns of what is noted here with its line
        logging.getLogger("cantools").setLevel(logging.ERROR)
        database = cantools.database.can.Database(strict=False)
        database.add_dbc_string(self._text)
        return list(database.messages)

    def _error(self, reason: str) -> DbcError:
        syntax = _SYNTAX.search(reason)
        if syntax:
            line, column, text = syntax.groups()
            return DbcError(
                f"{self._path}:{line}:{column}: invalid syntax: {text.strip()}",
                hint="Mend or delete that line; the rest of the file is then read.",
            )
        named = _OF_MESSAGE.search(reason)
        line = self._line_of_message(named[1] or named[2]) if named else 0
        return DbcError(
            f"{self._path}:{line}: {reason}" if line else f"{self._path}: {reason}",
            hint="Mend or delete that message; it need not be mapped.",
        )

    def _mend(self, reason: str) -> bool:
        """Whether anything could be done about what cantools said."""
        syntax = _SYNTAX.search(reason)
        if syntax:
            return self._mend_line(int(syntax[1]), int(syntax[2]))
        unused = _UNUSED.findall(reason)
        if unused:
            dropped = [self._drop_unused(*reference) for reference in unused]
            return any(dropped)
        named = _OF_MESSAGE.search(reason)
        line = self._line_of_message(named[1] or named[2]) if named else 0
        if line:
            self._drop_message(line, reason)
        return bool(line)

    def _mend_known(self, reason: str) -> bool:
        """What can be mended without being told where; whether there was any."""
        before = self._text
        self._mend_ids()
        self._drop_comments(_SYNTAX.search(reason))
        return self._text != before

    def _mend_ids(self) -> None:
        """Give ids of 29 bits their flag, in every statement that has one."""
        known: dict[str, str] = {}
        found = [
            (self._line_at(match.start(2)), match)
            for match in _MESSAGE.finditer(self._text)
            if _STANDARD_IDS <= int(match[2]) < _EXTENDED
        ]
        for line, match in found:
            number = int(match[2])
            if number < _EXTENDED_IDS:
                known[match[2]] = str(number | _EXTENDED)
                text = f"{match[4]}: id 0x{number:x} has 29 bits and lacks the flag for it: set"
                self.notes.append(Note(self._path, line, text))
            else:
                self._drop_message(line, f"{match[4]}: no CAN id is 0x{number:x}")

        def with_flag(match: re.Match[str]) -> str:
            text = match[1] + known.get(match[2], match[2])
            return text + match[3] if match.re is _MESSAGE else text

        self._text = _MESSAGE.sub(with_flag, self._text)
        self._text = _REFERENCE.sub(with_flag, self._text)

    def _drop_comments(self, syntax: re.Match[str] | None) -> None:
        """Blank all comments; note the one that ``syntax`` is in, if it is in one."""
        lines = self._text.split("\n")
        for start, text in enumerate(lines):
            if not _COMMENT.match(text):
                continue
            at_fault = closed = False
            for number in _lines_of(lines, start):
                at_fault |= syntax is not None and int(syntax[1]) == number + 1
                closed = bool(_CLOSED.match(lines[number]))
                lines[number] = ""
                if closed:
                    break
            if at_fault or (syntax and not closed):
                remark = f"{text.strip()[:60]}: a comment with invalid syntax: left out"
                self.notes.append(Note(self._path, start + 1, remark))
        self._text = "\n".join(lines)

    def _mend_line(self, line: int, column: int) -> bool:
        lines = self._text.split("\n")
        if line > len(lines):
            return False
        start = line - 1
        while start > 0 and not _STATEMENT.match(lines[start]):
            start -= 1
        if start == line - 1 and not lines[start][: column - 1].strip():
            unclosed = _unclosed_before(lines, start)
            if unclosed is not None:
                lines[unclosed] += " ;"
                text = f"{lines[unclosed].strip()[:60]}: lacks its closing semicolon: added"
                self.notes.append(Note(self._path, unclosed + 1, text))
                self._text = "\n".join(lines)
                return True
        statement = lines[start].strip()
        if not statement:
            return False
        mended = _BARE_FRACTION.sub(r"\g<1>0.\2", lines[start])
        if statement.startswith("SG_ ") and mended != lines[start]:
            lines[start] = mended
            text = f"{statement.split()[1]}: a number without a digit before its point: added"
            self.notes.append(Note(self._path, start + 1, text))
        elif statement.startswith("BO_ "):
            self._drop_message(start + 1, f"{statement[:60]}: invalid syntax")
            return True
        else:
            for number in _lines_of(lines, start):
                lines[number] = ""
            text = f"{statement[:60]}: invalid syntax: left out"
            self.notes.append(Note(self._path, start + 1, text, _names_in([statement])))
        self._text = "\n".join(lines)
        return True

    def _drop_unused(self, keyword: str, frame_id: str, signal: str) -> bool:
        found = False
        pattern = re.compile(rf"\s*{keyword}\s+{frame_id}\s+{signal}\b")
        lines = self._text.split("\n")
        for start, text in enumerate(lines):
            if pattern.match(text):
                found = True
                for number in _lines_of(lines, start):
                    lines[number] = ""
                remark = f"{keyword} {frame_id} {signal}: there is no such signal: left out"
                self.notes.append(Note(self._path, start + 1, remark))
        self._text = "\n".join(lines)
        return found

    def _drop_message(self, line: int, reason: str) -> None:
        """Blank a message's line and its signals'; what refers to them is found unused."""
        lines = self._text.split("\n")
        end = line
        while end < len(lines) and (
            not lines[end].strip() or lines[end].lstrip().startswith("SG_ ")
        ):
            end += 1
        names = _names_in(lines[line - 1 : end])
        lines[line - 1 : end] = [""] * (end - line + 1)
        self._text = "\n".join(lines)
        self.notes.append(Note(self._path, line, f"{reason}: message left out", names))

    def _note_oddities(self, messages: list[Any]) -> None:
        """Note what cantools reads with ``strict=False`` only, and what is there twice."""
        seen: dict[tuple[int, bool], str] = {}
        for message in messages:
            line = self._line_of_message(message.name)
            for signal in message.signals:
                problem = problem_with(signal, message.length)
                if problem:
                    text = f"{message.name}.{signal.name} {problem}: left out"
                    self.notes.append(Note(self._path, line, text, frozenset({signal.name})))
            try:
                message.refresh(strict=True)
            except Exception as error:  # noqa: BLE001  as above
                if "overlapping" in str(error):
                    text = f"{str(error).removesuffix('.')}: both are read"
                    self.notes.append(Note(self._path, line, text))
                message.refresh(strict=False)
            key = (message.frame_id, message.is_extended_frame)
            if key in seen:
                text = f"{message.name} has the id of {seen[key]}, 0x{key[0]:x}: both are read"
                self.notes.append(Note(self._path, line, text))
            seen[key] = message.name

    def _line_of_message(self, name: str) -> int:
        for match in _MESSAGE.finditer(self._text):
            if match[4] == name:
                return self._line_at(match.start(2))
        return 0

    def _line_at(self, offset: int) -> int:
        return self._text.count("\n", 0, offset) + 1


def problem_with(signal: Any, message_bytes: int) -> str:
    """Why a signal cannot be decoded; empty where it can be."""
    start = signal.start
    if signal.byte_order == "big_endian":
        start = 8 * (start // 8) + 7 - start % 8  # counted from the left
    if start + signal.length > 8 * message_bytes:
        return f"does not fit into {message_bytes} bytes"
    if signal.conversion.is_float and signal.length not in FLOAT_BITS:
        return f"is a float of {signal.length} bits"
    conversion = signal.conversion
    # written so that NaN fails, too
    if not all(abs(one) <= MAX_FACTOR for one in (conversion.scale, conversion.offset)):
        return "has a factor or offset that is no measurement's"
    return ""


def _lines_of(lines: list[str], start: int) -> Iterator[int]:
    """The lines of the statement that begins at ``start``: up to the next one's."""
    yield start
    for number in range(start + 1, len(lines)):
        if _STATEMENT.match(lines[number]):
            return
        yield number


def _unclosed_before(lines: list[str], index: int) -> int | None:
    """The last line before ``index``, if it should end with a semicolon and does not."""
    last = next((number for number in range(index - 1, -1, -1) if lines[number].strip()), None)
    if last is None or lines[last].rstrip().endswith(";"):
        return None
    start = last
    while start > 0 and not _STATEMENT.match(lines[start]):
        start -= 1
    return None if lines[start].lstrip().startswith(_UNTERMINATED) else last


def _names_in(lines: list[str]) -> frozenset[str]:
    """The names that ``BO_`` and ``SG_`` statements give."""
    found = (re.match(r"\s*(?:BO_\s+\d+|SG_)\s+(\w+)", line) for line in lines)
    return frozenset(match[1] for match in found if match)
