"""Compile DBC files to the tables of the mapped signals, in a process of its own.

``python -m agent.sources.dbc.compile`` reads one JSON object from standard input,
``{"dbc": [path, …], "signals": [reference, …]}``, and writes one to standard output:
``{"tables": {reference: table}, "remarks": [line, …]}`` or ``{"error": text, "hint": text}``.

Importing cantools and parsing take 15 to 20 MB that Python does not give back; the
process gives back all of it. ``compile_tables`` is how the agent calls it.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agent.child import run_python
from agent.errors import DbcError
from agent.sources.dbc.load import load, problem_with
from agent.sources.dbc.table import BitField, SignalTable, from_json, to_json
from agent.sources.dbc.text import Note

TIMEOUT_S: Final = 120.0
"""A Pi Zero takes 5 s for a DBC of 10,000 lines."""

NOTES_SHOWN: Final = 5
"""Faults of a DBC file that its log line tells."""

_NOT_AVAILABLE: Final = re.compile(
    r"sna|n/?a|((sig(nal)?)?[ _-]?(is[ _-]?)?(not[ _-]?(available|valid)|unavailable|invalid))"
    r"([ _-]?(value|signal|data))?",
    re.IGNORECASE,
)

_log = logging.getLogger(__name__)


def compile_tables(dbc: Sequence[Path], signals: Sequence[str]) -> dict[str, SignalTable]:
    """The table of each referenced signal (``Signal`` or ``Message.Signal``).

    What had to be mended or left out in a file is logged, one line a file.

    Raises:
        DbcError: a file is missing or beyond repair (with file and line), or no message has
            a referenced signal (with the nearest names).
    """
    request = json.dumps({"dbc": [str(path) for path in dbc], "signals": list(signals)})
    try:
        answer = run_python(
            "-m", "agent.sources.dbc.compile", stdin=request.encode(), timeout_s=TIMEOUT_S
        )
    except TimeoutError:
        raise DbcError(f"{dbc[0]}: reading it took over {TIMEOUT_S:g} s") from None
    try:
        result = json.loads(answer.stdout)
    except ValueError:
        last_line = answer.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DbcError(
            f"{dbc[0]}: could not be read: {last_line or f'exit code {answer.returncode}'}",
            hint="Reading DBC files needs cantools: pip install 'milepost[agent]'.",
        ) from None
    if "error" in result:
        raise DbcError(result["error"], hint=result["hint"])
    for remark in result["remarks"]:
        _log.warning("%s", remark)
    return {name: from_json(row) for name, row in result["tables"].items()}


def compile_in_process(dbc: Sequence[Path], signals: Sequence[str]) -> dict[str, SignalTable]:
    """As ``compile_tables``, in this process."""
    tables, remarks = _compile(dbc, signals)
    for remark in remarks:
        _log.warning("%s", remark)
    return tables


def _compile(
    dbc: Sequence[Path], signals: Sequence[str]
) -> tuple[dict[str, SignalTable], list[str]]:
    """The tables, and what is to be logged."""
    found: dict[str, list[SignalTable]] = {}
    notes: list[Note] = []
    remarks: list[str] = []
    for path in dbc:
        loaded = load(path)
        notes += loaded.notes
        remarks += _remarks(path, loaded.notes)
        for message in loaded.messages:
            for table in message_tables(message):
                for name in (table.name, f"{message.name}.{table.name}"):
                    known = found.setdefault(name, [])
                    # the same file twice, or two that share a message, is no ambiguity
                    if table not in known:
                        known.append(table)
    tables = {}
    for name in signals:
        matches = found.get(name, [])
        if len(matches) != 1:
            raise _no_single_signal(name, matches, found, dbc, notes)
        tables[name] = matches[0]
    return tables, remarks


def _remarks(path: Path, notes: list[Note]) -> list[str]:
    if not notes:
        return []
    shown = "; ".join(f"line {note.line}: {note.text}" for note in notes[:NOTES_SHOWN])
    more = f"; and {len(notes) - NOTES_SHOWN} more" if len(notes) > NOTES_SHOWN else ""
    return [f"{path}: read, with faults: {shown}{more}"]


def _no_single_signal(
    name: str,
    matches: list[SignalTable],
    found: dict[str, list[SignalTable]],
    dbc: Sequence[Path],
    notes: Sequence[Note],
) -> DbcError:
    files = ", ".join(str(path) for path in dbc)
    if matches:
        owners = list(dict.fromkeys(f'"{table.message}.{table.name}"' for table in matches[:5]))
        return DbcError(
            f'{files}: {len(matches)} messages have a signal "{name}"',
            hint=f"Write {' or '.join(owners)}."
            if len(owners) > 1
            else f"They differ in where or how {owners[0]} stands: leave one of them out.",
        )
    left_out = [note for note in notes if note.missing.intersection(name.split("."))]
    if left_out:
        return DbcError(
            f'{files}: the mapped signal "{name}" is not there: {left_out[0]}',
            hint="Mend that line of the DBC file; the rest of it is read.",
        )
    by_lower_case = {known.lower(): known for known in found}
    near = difflib.get_close_matches(name.lower(), list(by_lower_case), n=3, cutoff=0.5)
    names = [f'"{by_lower_case[match]}"' for match in near]
    return DbcError(
        f'{files}: no message has the mapped signal "{name}"',
        hint=f"Did you mean {' or '.join(names)}?" if names else "List them: cantools dump FILE.",
    )


def message_tables(message: Any) -> list[SignalTable]:
    """The tables of a message of cantools, without signals that cannot be decoded."""
    by_name = {signal.name: signal for signal in message.signals}
    is_j1939 = message.protocol == "j1939" and message.is_extended_frame
    tables = []
    for signal in message.signals:
        if problem_with(signal, message.length):
            continue
        selectors = []
        inner = signal
        while inner.multiplexer_signal is not None:
            outer = by_name[inner.multiplexer_signal]
            ids = frozenset(inner.multiplexer_ids or ())
            selectors.append((_bit_field(outer, message.length), ids))
            inner = outer
        # with a value table the arithmetic is in a conversion of its own
        arithmetic = getattr(signal.conversion, "_conversion", signal.conversion)
        tables.append(
            SignalTable(
                name=signal.name,
                message=message.name,
                frame_id=message.frame_id,
                extended=message.is_extended_frame,
                message_bytes=message.length,
                field=_bit_field(signal, message.length),
                scale=arithmetic.scale,
                offset=arithmetic.offset,
                choices={raw: str(text) for raw, text in (signal.choices or {}).items()} or None,
                selectors=tuple(reversed(selectors)),
                unit=signal.unit or "",
                is_j1939=is_j1939,
                not_available=frozenset(
                    raw
                    for raw, text in (signal.choices or {}).items()
                    # of one bit it is a state: "Valid", "Invalid"
                    if signal.length > 1 and _NOT_AVAILABLE.fullmatch(str(text).strip())
                ),
                not_available_from=_j1939_limit(signal) if is_j1939 else None,
            )
        )
    return tables


def _j1939_limit(signal: Any) -> int | None:
    """J1939-71, tables 1 and 2: what is above 0xFA.. is an indicator, an error or not available.

    Short states have all ones for "not available" and, of 2 bits, 0b10 for "error".
    """
    if signal.is_signed or signal.conversion.is_float or signal.length == 1:
        return None
    if signal.length >= 8:
        return int(0xFB << signal.length - 8)
    return 2 if signal.length == 2 else (1 << signal.length) - 1


def _bit_field(signal: Any, message_bytes: int) -> BitField:
    if signal.byte_order == "little_endian":
        shift = signal.start
    else:
        # a big-endian signal starts at its most significant bit, numbered within the byte
        # from the right: count it from the left of the payload
        from_left = 8 * (signal.start // 8) + 7 - signal.start % 8
        shift = 8 * message_bytes - from_left - signal.length
    return BitField(
        shift=shift,
        length=signal.length,
        little_endian=signal.byte_order == "little_endian",
        signed=signal.is_signed,
        is_float=signal.conversion.is_float,
    )


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    try:
        tables, remarks = _compile(
            [Path(path) for path in request["dbc"]], list(request["signals"])
        )
    except DbcError as error:
        answer: dict[str, Any] = {"error": error.message, "hint": error.hint}
    else:
        answer = {
            "tables": {name: to_json(table) for name, table in tables.items()},
            "remarks": remarks,
        }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
