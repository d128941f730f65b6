"""What the batch format is made of: varints and length-prefixed JSON values, read and written."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json

from contract.errors import ContractError

MAX_EXPANDED_BYTES: Final = 64 * 1024 * 1024
"""What CONST and CHOICE may repeat in all: 512 samples of the largest size, an agent's batch.

Without a bound a text of 8 MB that stands in 10,000 samples fits into a message of 8 KB.
"""


class Reader:
    """A cursor over untrusted bytes; reading past the end is a ``ContractError``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._expanded_bytes = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise ContractError("batch", "ends too early")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def byte(self) -> int:
        """The next byte as a number."""
        at = self._at
        if at == len(self._data):
            raise ContractError("batch", "ends too early")
        self._at = at + 1
        return self._data[at]

    def varint(self) -> int:
        """An unsigned LEB128 number of at most 10 bytes."""
        value = self.byte()
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in range(7, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ContractError("batch", "a varint is longer than 10 bytes")

    def json(self) -> Any:
        """A length-prefixed JSON value."""
        try:
            # unlike the standard library's it refuses half a surrogate pair
            return from_json(self.take(self.varint()), allow_inf_nan=False)
        except ValueError:
            raise ContractError("batch", "holds a broken JSON value") from None

    def repeated_json(self, count: int) -> list[Any]:
        """A length-prefixed JSON value, ``count`` times."""
        start = self._at
        value = self.json()
        self.expand((self._at - start) * count)
        return [value] * count

    def expand(self, size_bytes: int) -> None:
        """Account for what stands once in the bytes and more often in the samples."""
        self._expanded_bytes += size_bytes
        if self._expanded_bytes > MAX_EXPANDED_BYTES:
            raise ContractError("batch", f"expands to over {MAX_EXPANDED_BYTES} bytes")

    def at_end(self) -> bool:
        """Whether every byte was read."""
        return self._at == len(self._data)


def write_varint(out: bytearray, value: int) -> None:
    """Append an unsigned LEB128 number."""
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)


def write_json(out: bytearray, value: Any) -> None:
    """Append a length-prefixed JSON value."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    write_varint(out, len(text))
    out += text
