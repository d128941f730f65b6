"""A process that records samples until it is killed: python -m tests.fakes.delivering_vehicle.

Arguments: a JSON object with ``state_dir``, ``port``, ``run_id``, ``rate`` and the three
PEM files; ``samples`` bounds their number, ``max_mb`` the outbox. Prints ``sequence monotonic_s``
for each sample or event once it was recorded. What the outbox drops it tells by events, as
the engine does. SIGTERM ends it in order.
"""

import json
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from agent.config import BrokerSettings, DeliverySettings, OutboxSettings, TransportKind
from agent.delivery import Delivery
from agent.ports import TimeBase
from contract import Event, Location, Motion, Sample, TimeQuality
from tests.fakes.clock import START

ASK_DROPS_S = 0.5


class RealTime:
    """Implements agent.ports.Clock on the real monotonic clock."""

    def monotonic_s(self):
        return time.monotonic()

    def utc(self):
        return START + timedelta(seconds=time.monotonic())

    def quality(self):
        return TimeQuality.GPS

    def base(self):
        return TimeBase(START, TimeQuality.GPS)

    def sleep_s(self, duration_s):
        time.sleep(duration_s)


def make_sample(sequence, clock, run_id, vehicle_id="van-1"):
    return Sample(
        vehicle_id=vehicle_id,
        run_id=run_id,
        sequence=sequence,
        timestamp=clock.utc(),
        time_quality=clock.quality(),
        location=Location(lat=50.0 + sequence * 1e-5, lon=8.0 - sequence * 1e-5, accuracy=4.2),
        motion=Motion(speed_kmh=30.0 + sequence % 7, heading=float(sequence % 360)),
    )


def make_dropped(sequence, clock, run_id, total):
    return Event(
        vehicle_id="van-1",
        run_id=run_id,
        sequence=sequence,
        timestamp=clock.utc(),
        time_quality=clock.quality(),
        event_type="dropped",
        details=total,
    )


def make_delivery(state_dir, port, identity, *, clock=None, run_id="0000000a", **more):
    settings = more.pop("delivery", DeliverySettings())
    return Delivery(
        clock=clock or RealTime(),
        vehicle_id="van-1",
        run_id=run_id,
        state_dir=Path(state_dir),
        outbox=OutboxSettings(
            flush_interval_s=more.pop("flush_interval_s", 1.0), max_mb=more.pop("max_mb", 256)
        ),
        delivery=settings,
        broker=BrokerSettings(
            host="localhost",
            port=port,
            ca_file=Path(identity["ca_file"]),
            certificate_file=Path(identity["certificate_file"]),
            key_file=Path(identity["key_file"]),
            transport=more.pop("mqtt_library", TransportKind.PAHO),
        ),
        software_version="1.2.3",
        **more,
    )


def main():
    given = json.loads(sys.argv[1])
    clock = RealTime()
    delivery = make_delivery(
        given["state_dir"],
        given["port"],
        given,
        clock=clock,
        run_id=given["run_id"],
        max_mb=given.get("max_mb", 256),
    )
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    delivery.start()
    sequence = samples = 0
    asked_s = time.monotonic()
    while not stopping.is_set():
        if samples < given.get("samples", float("inf")):
            sample = make_sample(sequence + 1, clock, given["run_id"])
            samples += 1
            delivery.record_sample(sample)
            sequence = _tell(sample)
        if time.monotonic() > asked_s + ASK_DROPS_S:
            asked_s = time.monotonic()
            for total in delivery.take_unreported_drops():
                dropped = make_dropped(sequence + 1, clock, given["run_id"], total)
                delivery.record_event(dropped)
                sequence = _tell(dropped)
        time.sleep(1 / given["rate"])
    delivery.stop(10)


def _tell(message):
    sys.stdout.write(f"{message.sequence} {time.monotonic()}\n")
    sys.stdout.flush()
    return message.sequence


if __name__ == "__main__":
    main()
