"""Compile DBC files to the tables of the mapped signals, in a process of its own.

``python -m agent.sources.dbc_compile`` reads one JSON object from standard input,
``{"dbc": [path, …], "signals": [reference, …]}``, and writes one to standard output:
``{"tables": {reference: table}}`` or ``{"error": text, "hint": text}``.

Importing cantools and parsing take 15 to 20 MB that Python does not give back; the
process gives back all of it. ``compile_tables`` is how the agent calls it.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agent.errors import DbcError
from agent.sources.dbc_table import BitField, SignalTable, from_json, to_json

TIMEOUT_S: Final = 120.0
"""A Pi Zero takes 5 s for a DBC of 10,000 lines."""

_SYNTAX: Final = re.compile(r"[Ii]nvalid syntax at line (\d+), column (\d+): (.*)", re.DOTALL)
_MESSAGE: Final = re.compile(r"message (\w+)")


def compile_tables(dbc: Sequence[Path], signals: Sequence[str]) -> dict[str, SignalTable]:
    """The table of each referenced signal (``Signal`` or ``Message.Signal``).

    Raises:
        DbcError: a file is missing or broken (with file and line), or no message has a
            referenced signal (with the nearest names).
    """
    request = json.dumps({"dbc": [str(path) for path in dbc], "signals": list(signals)})
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "agent.sources.dbc_compile"],
            input=request.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=Path(__file__).resolve().parents[2],
        )
    except subprocess.TimeoutExpired:
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
    return {name: from_json(row) for name, row in result["tables"].items()}


def compile_in_process(dbc: Sequence[Path], signals: Sequence[str]) -> dict[str, SignalTable]:
    """As ``compile_tables``, in this process."""
    found: dict[str, list[SignalTable]] = {}
    for path in dbc:
        for message in _load(path).messages:
            for table in _message_tables(message):
                found.setdefault(table.name, []).append(table)
                found.setdefault(f"{message.name}.{table.name}", []).append(table)
    tables = {}
    for name in signals:
        matches = found.get(name, [])
        if len(matches) != 1:
            raise _no_single_signal(name, matches, found, dbc)
        tables[name] = matches[0]
    return tables


def _no_single_signal(
    name: str,
    matches: list[SignalTable],
    found: dict[str, list[SignalTable]],
    dbc: Sequence[Path],
) -> DbcError:
    files = ", ".join(str(path) for path in dbc)
    if matches:
        owners = " or ".join(f'"{table.message}.{table.name}"' for table in matches[:5])
        return DbcError(
            f'{files}: {len(matches)} messages have a signal "{name}"', hint=f"Write {owners}."
        )
    by_lower_case = {known.lower(): known for known in found}
    near = difflib.get_close_matches(name.lower(), list(by_lower_case), n=3, cutoff=0.5)
    names = [f'"{by_lower_case[match]}"' for match in near]
    return DbcError(
        f'{files}: no message has the mapped signal "{name}"',
        hint=f"Did you mean {' or '.join(names)}?" if names else "List them: cantools dump FILE.",
    )


def _load(path: Path) -> Any:
    import cantools  # noqa: PLC0415  only the compiling process pays for it

    try:
        return cantools.database.load_file(path, database_format="dbc")
    except OSError as error:
        raise DbcError(
            f"{path}: {error.strerror}", hint="can.dbc is taken from the config file's folder."
        ) from None
    except Exception as error:  # noqa: BLE001  cantools lets errors of many kinds through
        raise _broken(path, str(error)) from None


def _broken(path: Path, reason: str) -> DbcError:
    reason = reason.removeprefix('DBC: "').removesuffix('"')
    syntax = _SYNTAX.search(reason)
    if syntax:
        line, column, text = syntax.groups()
        return DbcError(
            f"{path}:{line}:{column}: invalid syntax: {text.strip()}",
            hint="Mend or delete that line; the rest of the file is then read.",
        )
    named = _MESSAGE.search(reason)
    line = _line_of_message(path, named.group(1)) if named else ""
    return DbcError(
        f"{path}{line}: {reason}", hint="Mend or delete that message; it need not be mapped."
    )


def _line_of_message(path: Path, name: str) -> str:
    lines = path.read_bytes().decode("cp1252", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if re.match(rf"\s*BO_\s+\d+\s+{re.escape(name)}\s*:", line):
            return f":{number}"
    return ""


def _message_tables(message: Any) -> list[SignalTable]:
    by_name = {signal.name: signal for signal in message.signals}
    tables = []
    for signal in message.signals:
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
            )
        )
    return tables


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
        tables = compile_in_process(
            [Path(path) for path in request["dbc"]], list(request["signals"])
        )
    except DbcError as error:
        answer: dict[str, Any] = {"error": error.message, "hint": error.hint}
    else:
        answer = {"tables": {name: to_json(table) for name, table in tables.items()}}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
