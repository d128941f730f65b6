"""The cloud's ports: what the handlers need, whoever provides it.

Each has one implementation for AWS and one for a single machine, and one contract test
suite that runs on both. All are safe to call twice with the same input: deliveries are
at least once. All raise :class:`cloud.errors.StoreError` when the call may succeed later,
and nothing else. One machine's are safe to call from several threads and processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from cloud.accounting.ledger import Change, RunHead
from cloud.accounting.ranges import Range
from contract import Event, Location, Sample


@dataclass(frozen=True, slots=True)
class Vehicle:
    """What the fleet's register knows of a vehicle."""

    vehicle_id: str
    vehicle_type: str
    display_name: str | None = None


class EnrichedSample(NamedTuple):
    """A sample with what the cloud adds; one row of the hot store.

    What a store finds and sorts by is spelt out; the rest is in ``payload``
    (``contract.decode_sample`` gives the sample back).
    """

    vehicle_id: str
    run_id: str
    sequence: int
    timestamp: datetime
    lat: float | None
    lon: float | None
    vehicle_type: str
    geohash_zone: str | None
    received_at: datetime
    payload: bytes
    """The sample as JSON, unknown fields included; what the store keeps."""

    @classmethod
    def of(
        cls,
        sample: Sample,
        vehicle_type: str,
        geohash_zone: str | None,
        received_at: datetime,
        payload: bytes,
    ) -> EnrichedSample:
        """The row of a sample; ``payload`` is its JSON."""
        location = sample.location
        return cls(
            sample.vehicle_id,
            sample.run_id,
            sample.sequence,
            sample.timestamp,
            None if location is None else location.lat,
            None if location is None else location.lon,
            vehicle_type,
            geohash_zone,
            received_at,
            payload,
        )


class ReceivedEvent(NamedTuple):
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
    """Looks vehicles up; ``enrich`` wraps it in a cache."""

    def find(self, vehicle_id: str) -> Vehicle | None:
        """The vehicle, or None when the register does not know it."""
        ...


class HotStore(Protocol):
    """History: every sample and event, once, found by vehicle and time."""

    def put_samples(self, samples: Sequence[EnrichedSample]) -> None:
        """Store by identity; one that is there already is not stored again.

        A store that counts deliveries counts a sample again only when it was received
        later than before: a handler's retry of the same record is no delivery.
        """
        ...

    def put_events(self, events: Sequence[ReceivedEvent]) -> None:
        """Store by identity, likewise."""
        ...


class PositionStore(Protocol):
    """The latest position of each vehicle; late data never moves one backwards."""

    def put_if_newer(self, position: Position) -> bool:
        """Store when its timestamp is later than the stored one; whether it was."""
        ...

    def put_newest(self, positions: Sequence[Position]) -> Sequence[Position]:
        """``put_if_newer`` for several vehicles, at most one position each; those stored."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """The last evaluation of one condition of one vehicle, durable between batches."""

    vehicle_id: str
    kind: AlertKind
    raised: bool
    evaluated_at: datetime
    """The time of the data evaluated last; older data is late and changes nothing."""
    alert_id: str | None = None
    """The open alert; or the one resolved last while ``unnotified``."""
    streak: int = 0
    """How many evaluations in a row have spoken against ``raised``."""
    unnotified: bool = False
    """``alert_id`` was opened or resolved and the notifier has not confirmed it yet."""


class AlertStore(Protocol):
    """Alerts and the state of the conditions behind them."""

    def condition(self, vehicle_id: str, kind: AlertKind) -> Condition | None:
        """The stored state, or None before the first evaluation."""
        ...

    def alert(self, vehicle_id: str, alert_id: str) -> Alert | None:
        """One alert, open or resolved."""
        ...

    def save(self, condition: Condition, alert: Alert | None) -> bool:
        """Store a state and the alert that it opened or resolved, both or neither.

        False when a later evaluation is stored already; nothing is changed then. An
        evaluation of the same moment replaces.
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
        """Keep one; an equal letter is the same letter."""
        ...


class Metrics(Protocol):
    """Measured values that operators watch."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one value, e.g. ``position_latency_ms``."""
        ...

    def observe_all(self, name: str, values: Sequence[float]) -> None:
        """Add several values at once."""
        ...


class OperatingAreas(Protocol):
    """The areas in force at this moment."""

    def outside_by_m(self, lat: float, lon: float) -> float | None:
        """How far a point lies outside every operating area, metres; negative inside.

        None when no operating area is given, so that nothing is to be checked.
        """
        ...


class AreaSource(Protocol):
    """Where the operating areas come from; may renew them from time to time."""

    def current(self) -> OperatingAreas:
        """The areas in force now."""
        ...


class LedgerStore(Protocol):
    """What has arrived of each run and what the vehicle told of it; see cloud.accounting."""

    def record(self, changes: Sequence[Change]) -> None:
        """Apply; of each change everything or nothing is stored."""
        ...

    def heads(self, vehicle_id: str) -> list[RunHead]:
        """Every run of a vehicle, in no order."""
        ...

    def ranges(self, vehicle_id: str, run_id: str) -> Iterator[Range]:
        """What is there of a run, ascending; adjacent ranges may be apart."""
        ...


class StatusStore(Protocol):
    """The status of each vehicle as the status rule wrote it; the rule is the only writer."""

    def put_status(self, vehicle_id: str, item: Mapping[str, Any]) -> None:
        """Replace the vehicle's item."""
        ...


LambdaEvent = dict[str, Any]
LambdaResponse = dict[str, Any] | None
