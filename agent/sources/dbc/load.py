"""Load a DBC file as it is found in the wild, with cantools; runs in the compiling process.

A file that cantools takes is left alone. Of one that it refuses, the faults that public
DBC files have are mended where there is no doubt what was meant (``dbc_text``); else the
statement at fault is left out, and the rest is read. Each change is noted with its line
(decision 0035). Signals that overlap are both read, as cantools does with
``strict=False``; those that do not fit into their message are left out.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import DbcError
from agent.sources.dbc.text import DbcText, Note

MAX_REPAIRS: Final = 64
"""A file with more faults than that is none that a tool wrote: mend it by hand."""

FLOAT_BITS: Final = (16, 32, 64)
MAX_FACTOR: Final = 1e100
"""The product with the longest integer of a frame is a double still."""

_SYNTAX: Final = re.compile(r"[Ii]nvalid syntax at line (\d+), column (\d+): (.*)", re.DOTALL)
_OF_MESSAGE: Final = re.compile(r"message (\w+)")
_UNUSED: Final = re.compile(r"\b(VAL_|SIG_VALTYPE_) (\d+) (\w+)")


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
    text = DbcText(path, data)
    messages = _parse_and_mend(path, text)
    _note_oddities(text, messages)
    return LoadedDbc(messages, sorted(text.notes, key=lambda note: note.line))


def _parse_and_mend(path: Path, text: DbcText) -> list[Any]:
    first: DbcError | None = None
    for attempt in range(MAX_REPAIRS):
        try:
            return _parse(str(text))
        except Exception as error:  # noqa: BLE001  cantools lets errors of many kinds through
            reason = str(error).removeprefix('DBC: "').removesuffix('"')
        first = first or _error(path, text, reason)
        if not (attempt == 0 and _mend_known(text, reason)) and not _mend(text, reason):
            raise first
        if not text.has_messages():
            raise DbcError(
                f"{path}: is no DBC file: {first.message.rpartition(': ')[2]}",
                hint="A DBC file has a line `BO_ ID NAME: BYTES SENDER` a message.",
            )
    raise DbcError(
        f"{first.message if first else path} (and over {MAX_REPAIRS} more faults)",
        hint="Mend the file, or export it anew from the tool that it came from.",
    )


def _parse(text: str) -> list[Any]:
    import cantools  # noqa: PLC0415  only the compiling process pays for it

    # it warns of what is noted here with its line
    logging.getLogger("cantools").setLevel(logging.ERROR)
    database = cantools.database.can.Database(strict=False)
    database.add_dbc_string(text)
    return list(database.messages)


def _error(path: Path, text: DbcText, reason: str) -> DbcError:
    syntax = _SYNTAX.search(reason)
    if syntax:
        line, column, shown = syntax.groups()
        return DbcError(
            f"{path}:{line}:{column}: invalid syntax: {shown.strip()}",
            hint="Mend or delete that line; the rest of the file is then read.",
        )
    line = _line_of_message(text, reason)
    return DbcError(
        f"{path}:{line}: {reason}" if line else f"{path}: {reason}",
        hint="Mend or delete that message; it need not be mapped.",
    )


def _mend_known(text: DbcText, reason: str) -> bool:
    """What can be mended without being told where; whether there was any."""
    syntax = _SYNTAX.search(reason)
    ids = text.mend_ids()
    comments = text.drop_comments(int(syntax[1]) if syntax else 0)
    return ids or comments


def _mend(text: DbcText, reason: str) -> bool:
    """Whether anything could be done about what cantools said."""
    syntax = _SYNTAX.search(reason)
    if syntax:
        return text.mend_at(int(syntax[1]), int(syntax[2]))
    unused = _UNUSED.findall(reason)
    if unused:
        dropped = [text.drop_unused(*reference) for reference in unused]
        return any(dropped)
    line = _line_of_message(text, reason)
    if line:
        text.drop_message(line, reason)
    return bool(line)


def _line_of_message(text: DbcText, reason: str) -> int:
    named = _OF_MESSAGE.findall(reason)
    return text.lines_of_messages().get(named[-1], 0) if named else 0


def _note_oddities(text: DbcText, messages: list[Any]) -> None:
    """Note what cantools reads with ``strict=False`` only, and what is there twice."""
    seen: dict[tuple[int, bool], str] = {}
    lines = text.lines_of_messages()
    for message in messages:
        line = lines.get(message.name, 0)
        for signal in message.signals:
            problem = problem_with(signal, message.length)
            if problem:
                remark = f"{message.name}.{signal.name} {problem}: left out"
                text.note(line, remark, frozenset({signal.name}))
        try:
            message.refresh(strict=True)
        except Exception as error:  # noqa: BLE001  as above
            if "overlapping" in str(error):
                text.note(line, f"{str(error).removesuffix('.')}: both are read")
            message.refresh(strict=False)
        key = (message.frame_id, message.is_extended_frame)
        if key in seen:
            remark = f"{message.name} has the id of {seen[key]}, 0x{key[0]:x}: both are read"
            text.note(line, remark)
        seen[key] = message.name


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
