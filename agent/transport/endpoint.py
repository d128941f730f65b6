"""What every transport is told of the broker: where, as whom, and with which last will."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to dial and as whom; ``keep_alive_s`` in seconds."""

    host: str
    port: int
    client_id: str
    keep_alive_s: int


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection ends without a word."""

    topic: str
    payload: bytes
    retain: bool
