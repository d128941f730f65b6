"""Finds the messages in the pages of a damaged outbox, page by page.

Every leaf of a table is looked at by itself, so one bad page costs its own rows and no
others, whether it was data, an inner node or the header. A row counts as a message when
its columns have the right types and its payload is JSON that says the same identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from agent.outbox.batch import Row
from agent.outbox.message import Kind
from agent.outbox.pages import Pages

_LEAF: Final = 13
"""First byte of a leaf of a table (section 1.6 of the file format)."""


def messages_in(pages: Pages, number: int) -> tuple[list[tuple[Kind, Row]], bool]:
    """The messages of one page, and whether part of it could not be read."""
    content = pages.page(number)
    start = 100 if number == 1 else 0
    if not content or not any(content):
        return [], True
    if content[start] != _LEAF:
        # inner nodes, overflow and pointer maps hold no whole message
        return [], False
    found: list[tuple[Kind, Row]] = []
    bad = False
    cells = int.from_bytes(content[start + 3 : start + 5], "big")
    for index in range(min(cells, (len(content) - start - 8) // 2)):
        pointer = start + 8 + 2 * index
        offset = int.from_bytes(content[pointer : pointer + 2], "big")
        try:
            row, values = _cell(pages, content, offset)
            message = _message(row, values)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError):
            bad = True
            continue
        if message is not None:
            found.append(message)
    return found, bad


def _message(row: int, values: list[object]) -> tuple[Kind, Row] | None:
    """None for a row of another table.

    Raises:
        ValueError, KeyError: it looks like a message and is none.
    """
    match values:
        case [None, str(run_id), int(sequence), int() | None as taken_ms, bytes(payload)]:
            said = json.loads(payload)
            if said["sequence"] != sequence or said["run_id"] != run_id:
                raise ValueError(row)
            kind = Kind.EVENT if "event_type" in said else Kind.SAMPLE
            return kind, (row, run_id, sequence, taken_ms, payload)
        case _:
            return None


def _cell(pages: Pages, content: bytes, offset: int) -> tuple[int, list[object]]:
    """Row id and columns of a cell of a table leaf (sections 1.6 and 2.1)."""
    size, offset = _varint(content, offset)
    row, offset = _varint(content, offset)
    if row >= 2**63:
        row -= 2**64
    usable = pages.page_bytes
    most, least = usable - 35, (usable - 12) * 32 // 255 - 23
    here = size
    if size > most:
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
    if offset + here > len(content):
        raise ValueError(offset)
    record = bytearray(content[offset : offset + here])
    following = int.from_bytes(content[offset + here : offset + here + 4], "big")
    while len(record) < size:
        page = pages.page(following)
        if not page:
            raise ValueError(following)
        record += page[4 : 4 + size - len(record)]
        following = int.from_bytes(page[:4], "big")
    return row, list(_columns(bytes(record)))


def _columns(record: bytes) -> Iterator[object]:
    header_bytes, position = _varint(record, 0)
    body = header_bytes
    if header_bytes > len(record):
        raise ValueError(header_bytes)
    while position < header_bytes:
        code, position = _varint(record, position)
        if code == 0:
            yield None
            continue
        if code in (8, 9):
            yield code - 8
            continue
        size = (0, 1, 2, 3, 4, 6, 8, 8)[code] if code < 8 else (code - 12) // 2
        if code in (10, 11) or body + size > len(record):
            raise ValueError(code)
        part = record[body : body + size]
        body += size
        if code >= 12:
            yield part.decode() if code % 2 else part
        else:
            yield int.from_bytes(part, "big", signed=True)


def _varint(content: bytes, offset: int) -> tuple[int, int]:
    """A number of up to nine bytes and where it ends (section 1.6)."""
    value = 0
    for index in range(8):
        byte = content[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    return value << 8 | content[offset + 8], offset + 9
