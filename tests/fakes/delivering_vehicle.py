"""A process that records samples until it is killed: python -m tests.fakes.delivering_vehicle.

Arguments: a JSON object with ``state_dir``, ``port``, ``run_id``, ``rate`` and the three
PEM files. Prints ``sequence monotonic_s`` for each sample once it was recorded.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from agent.config import BrokerSettings, DeliverySettings, OutboxSettings
from agent.delivery import Delivery
from agent.ports import TimeBase
from contract import Location, Motion, Sample, TimeQuality
from tests.fakes.clock import START


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


def make_delivery(state_dir, port, identity, *, clock=None, run_id="0000000a", **more):
    settings = more.pop("delivery", DeliverySettings())
    return Delivery(
        clock=clock or RealTime(),
        vehicle_id="van-1",
        run_id=run_id,
        state_dir=Path(state_dir),
        outbox=OutboxSettings(flush_interval_s=more.pop("flush_interval_s", 1.0)),
        delivery=settings,
        broker=BrokerSettings(
            host="127.0.0.1",
            port=port,
            ca_file=Path(identity["ca_file"]),
            certificate_file=Path(identity["certificate_file"]),
            key_file=Path(identity["key_file"]),
        ),
        software_version="1.2.3",
        **more,
    )


def main():
    given = json.loads(sys.argv[1])
    clock = RealTime()
    delivery = make_delivery(
        given["state_dir"], given["port"], given, clock=clock, run_id=given["run_id"]
    )
    delivery.start()
    sequence = 0
    while True:
        sequence += 1
        delivery.record_sample(make_sample(sequence, clock, given["run_id"]))
        sys.stdout.write(f"{sequence} {time.monotonic()}\n")
        sys.stdout.flush()
        time.sleep(1 / given["rate"])


if __name__ == "__main__":
    main()
