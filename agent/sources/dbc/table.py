"""What the agent keeps of a DBC: how to get each mapped signal out of a frame, and no more.

``compile`` makes the table with cantools in a process of its own, so that cantools and
the parsed database never take memory in the agent. Values are exactly those of cantools:
the same integer and float arithmetic, the same names from value tables.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, Literal

_FLOAT_FORMATS: Final = {16: ">e", 32: ">f", 64: ">d"}

Number = int | float


@dataclass(frozen=True, slots=True)
class BitField:
    """Where the raw value stands in the message's ``message_bytes`` bytes.

    ``shift`` is counted from the least significant bit of the payload, read as one
    little- or big-endian integer.
    """

    shift: int
    length: int
    little_endian: bool
    signed: bool = False
    is_float: bool = False

    def raw(self, payload: bytes) -> Number:
        """The raw value; ``payload`` has exactly the message's length."""
        whole = int.from_bytes(payload, "little" if self.little_endian else "big")
        raw = whole >> self.shift & (1 << self.length) - 1
        if self.is_float:
            value: float = struct.unpack(
                _FLOAT_FORMATS[self.length], raw.to_bytes(self.length // 8, "big")
            )[0]
            return value
        if self.signed and raw >> self.length - 1:
            return raw - (1 << self.length)
        return raw

    def raws(self, payloads: list[bytes]) -> list[Number]:
        """The raw values of many payloads, in one go."""
        if self.is_float:
            return [self.raw(payload) for payload in payloads]
        order: Literal["little", "big"] = "little" if self.little_endian else "big"
        shift, mask = self.shift, (1 << self.length) - 1
        read = int.from_bytes
        raws: list[Number] = [read(payload, order) >> shift & mask for payload in payloads]
        if self.signed:
            sign, turn = 1 << self.length - 1, 1 << self.length
            return [raw - turn if raw >= sign else raw for raw in raws]
        return raws


Selectors = tuple[tuple[BitField, frozenset[int]], ...]
"""A multiplexed signal is there only if each selector has one of its values."""


def selected(selectors: Selectors, payload: bytes) -> bool:
    """Whether a frame of the message carries the signals with these selectors."""
    return all(selector.raw(payload) in values for selector, values in selectors)


@dataclass(frozen=True, slots=True)
class SignalTable:
    """How one signal is found and converted."""

    name: str
    message: str
    frame_id: int
    extended: bool
    message_bytes: int
    field: BitField
    scale: Number = 1
    offset: Number = 0
    choices: dict[int, str] | None = None
    selectors: Selectors = ()
    unit: str = ""
    """As the DBC writes it."""
    is_j1939: bool = False
    """Whether the message is declared as a J1939 parameter group."""
    not_available: frozenset[int] = frozenset()
    """Raw values that the DBC's value table calls "not available"."""
    not_available_from: int | None = None
    """The least raw value that J1939-71 keeps for "error" and "not available"."""

    def is_available(self, raw: Number) -> bool:
        """Whether the sender had a value to tell."""
        if self.not_available_from is not None and raw >= self.not_available_from:
            return False
        return raw not in self.not_available

    def number(self, raw: Number) -> Number:
        """The scaled value."""
        if self.scale == 1 and self.offset == 0:
            return raw
        return raw * self.scale + self.offset

    def choice(self, raw: Number) -> str | None:
        """The value table's name of a raw value (not NaN), if it has one."""
        return self.choices.get(int(raw)) if self.choices else None


def to_json(table: SignalTable) -> dict[str, Any]:
    """The table as JSON, for the way out of the compiling process."""
    return {
        "name": table.name,
        "message": table.message,
        "frame_id": table.frame_id,
        "extended": table.extended,
        "message_bytes": table.message_bytes,
        "field": _field_to_json(table.field),
        "scale": table.scale,
        "offset": table.offset,
        "choices": list((table.choices or {}).items()),
        "unit": table.unit,
        "is_j1939": table.is_j1939,
        "not_available": sorted(table.not_available),
        "not_available_from": table.not_available_from,
        "selectors": [[_field_to_json(field), sorted(ids)] for field, ids in table.selectors],
    }


def from_json(row: dict[str, Any]) -> SignalTable:
    """The reverse of ``to_json``."""
    return SignalTable(
        **{
            **row,
            "field": BitField(*row["field"]),
            "choices": dict(row["choices"]) or None,
            "not_available": frozenset(row["not_available"]),
            "selectors": tuple(
                (BitField(*field), frozenset(ids)) for field, ids in row["selectors"]
            ),
        }
    )


def _field_to_json(field: BitField) -> list[Any]:
    return [field.shift, field.length, field.little_endian, field.signed, field.is_float]
