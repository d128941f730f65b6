"""The publisher's bounds that no one has needed to configure."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.publisher.backoff import BackoffSettings
from agent.publisher.changeover import ChangeoverLimits


@dataclass(frozen=True, slots=True)
class PublisherLimits:
    """Seconds, bytes and counts that the config does not name."""

    connect_timeout_s: float = 60.0
    """Look-up, TCP, TLS and CONNACK: six ways of a network whose delay may be 5 s."""

    ack_timeout_s: float = 20.0
    max_in_flight_bytes: int = 96 * 1024
    batch_rows: int = 512
    trial_after_s: float = 10.0
    """A connection's age before a message may be convicted on it."""

    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    changeover: ChangeoverLimits = field(default_factory=ChangeoverLimits)
