"""The values of all readers as one."""

from __future__ import annotations

from collections.abc import Sequence

from agent.inputs import SignalReader, SignalValue
from contract.messages import MAX_ERROR_CODES


def merged(readers: Sequence[SignalReader], now_s: float) -> dict[str, SignalValue]:
    """Contract field -> value; the later reader goes before the one ahead of it.

    Codes add up instead: OBD-II, J1939 and a DBC's fault bits tell of different ECUs. A
    sample holds 64; the first in order stay.
    """
    values: dict[str, SignalValue] = {}
    for reader in readers:
        for name, value in reader.read(now_s).items():
            before = values.get(name)
            if isinstance(value, tuple) and isinstance(before, tuple):
                value = tuple(dict.fromkeys(before + value))  # noqa: PLW2901  both together
            values[name] = value[:MAX_ERROR_CODES] if isinstance(value, tuple) else value
    return values
