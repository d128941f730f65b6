"""The latest position of each vehicle, conditional on the sample's time.

Late data never moves a vehicle backwards, and data from the future does not move it at
all. ``position_latency_ms`` is observed for what became the latest position: the moment
it was stored minus the sample's timestamp.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.handlers.records import Record, believable, failures, read_records
from cloud.handlers.runtime import Handler, LazyHandler
from cloud.ports import (
    LambdaEvent,
    LambdaResponse,
    Metrics,
    Position,
    PositionStore,
)
from cloud.stores import Stores
from contract import Sample

_log = logging.getLogger(__name__)

METRIC = "position_latency_ms"


def newest(records: Iterable[Record]) -> dict[str, tuple[str, Sample]]:
    """Of each vehicle the sample that is newest and has a place, with its record's number.

    Of two samples of the same moment the first counts, as in the store.
    """
    found: dict[str, tuple[str, Sample]] = {}
    for record in records:
        for sample, _ in record.samples:
            if sample.location is None:
                continue
            known = found.get(sample.vehicle_id)
            if (known is None or sample.timestamp > known[1].timestamp) and believable(
                sample, record.received_at
            ):
                found[sample.vehicle_id] = (record.sequence_number, sample)
    return found


def position_of(sample: Sample) -> Position | None:
    """What a sample says of the vehicle's place, or None."""
    if sample.location is None:
        return None
    motion, battery, status = sample.motion, sample.battery, sample.vehicle_status
    return Position(
        vehicle_id=sample.vehicle_id,
        timestamp=sample.timestamp,
        location=sample.location,
        run_id=sample.run_id,
        sequence=sample.sequence,
        speed_kmh=None if motion is None else motion.speed_kmh,
        heading=None if motion is None else motion.heading,
        battery_percent=None if battery is None else battery.percent,
        charging=None if battery is None else battery.charging,
        trip_id=None if status is None else status.trip_id,
    )


class TrackPosition:
    """The handler."""

    def __init__(self, positions: PositionStore, metrics: Metrics, clock: Clock) -> None:
        self._positions = positions
        self._metrics = metrics
        self._clock = clock

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Handle one Kinesis event."""
        del context
        candidates = newest(read_records(event))
        positions = [position_of(sample) for _, sample in candidates.values()]
        try:
            stored = self._positions.put_newest([one for one in positions if one is not None])
        except StoreError as error:
            numbers = [number for number, _ in candidates.values()]
            _log.error("track_position: %s; %d records will come again", error, len(numbers))
            return failures(numbers)
        now = self._clock.utc()
        self._observe([(now - one.timestamp).total_seconds() * 1000 for one in stored])
        return failures([])

    def _observe(self, latencies_ms: list[float]) -> None:
        try:
            self._metrics.observe_all(METRIC, latencies_ms)
        except StoreError as error:
            # The position is stored; sent again it would not be newer, so nothing is gained.
            _log.warning("track_position: %s; %d latencies not counted", error, len(latencies_ms))


def build(stores: Stores) -> Handler:
    """The handler on any stores."""
    return TrackPosition(stores.positions, stores.metrics, stores.clock)


handler: Callable[[LambdaEvent, object], LambdaResponse] = LazyHandler(build, "POSITIONS_TABLE")
