"""The cloud's ports: what the handlers need, whoever provides it.

Each has one implementation for AWS and one for a single machine, and one contract test
suite that runs on both. All are safe to call twice with the same input: deliveries are
at least once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from contract import Event, Location, Sample


@dataclass(frozen=True, slots=True)
class Vehicle:
    """What the fleet's register knows of a vehicle."""

    vehicle_id: str
    vehicle_type: str
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class EnrichedSample:
    """A sample with what the cloud adds; one row of the hot store."""

    sample: Sample
    vehicle_type: str
    geohash_zone: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event as it reached the cloud."""

    event: Event
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """The latest known position of one vehicle."""

    vehicle_id: str
    timestamp: datetime
    location: Location
    run_id: str
    sequence: int
    speed_kmh: float | None = None
    heading: float | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    trip_id: str | None = None


class AlertKind(StrEnum):
    """The conditions that open an alert."""

    BATTERY_LOW = "battery_low"
    OUTSIDE_OPERATING_AREA = "outside_operating_area"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert from opening to resolution.

    ``alert_id`` is made from vehicle, kind and the sample that opened it, so the same
    sample delivered twice opens the same alert.
    """

    alert_id: str
    vehicle_id: str
    kind: AlertKind
    opened_at: datetime
    resolved_at: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that broke the contract, kept whole with the reason."""

    topic: str | None
    payload: bytes
    field: str
    reason: str
    received_at: datetime


class VehicleRegister(Protocol):
    """Looks vehicles up; handlers wrap it in a cache."""

    def find(self, vehicle_id: str) -> Vehicle | None:
        """The vehicle, or None when the register does not know it."""
        ...


class HotStore(Protocol):
    """History: every sample and event, once, found by vehicle and time."""

    def put_samples(self, samples: Sequence[EnrichedSample]) -> None:
        """Store by identity; one that is there already counts as delivered again."""
        ...

    def put_events(self, events: Sequence[ReceivedEvent]) -> None:
        """Store by identity, likewise."""
        ...


class PositionStore(Protocol):
    """The latest position of each vehicle; late data never moves one backwards."""

    def put_if_newer(self, position: Position) -> bool:
        """Store when its timestamp is later than the stored one; whether it was."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """The last evaluation of one condition of one vehicle, durable between batches."""

    vehicle_id: str
    kind: AlertKind
    raised: bool
    evaluated_at: datetime
    alert_id: str | None = None


class AlertStore(Protocol):
    """Alerts and the state of the conditions behind them."""

    def condition(self, vehicle_id: str, kind: AlertKind) -> Condition | None:
        """The stored state, or None before the first evaluation."""
        ...

    def save(self, condition: Condition, alert: Alert | None) -> bool:
        """Store a state and the alert that it opened or resolved, both or neither.

        False when a later evaluation is stored already; nothing is changed then.
        """
        ...


class Notifier(Protocol):
    """Tells people, at least once per call."""

    def notify(self, alert: Alert) -> None:
        """Send an opened or resolved alert."""
        ...


class Archive(Protocol):
    """Where Parquet objects go."""

    def put(self, key: str, content: bytes) -> None:
        """Store an object; the same key again replaces it by the same content."""
        ...


class DeadLetterStore(Protocol):
    """Where what cannot be parsed goes, never silently."""

    def put(self, letter: DeadLetter) -> None:
        """Keep one."""
        ...


class Metrics(Protocol):
    """Measured values that operators watch."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one value, e.g. ``position_latency_ms``."""
        ...


LambdaEvent = dict[str, Any]
LambdaResponse = dict[str, Any] | None
