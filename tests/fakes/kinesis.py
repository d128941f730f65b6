"""Kinesis events as the IoT rules and Lambda make them, and stores that fail on demand."""

import base64
import json

from cloud.errors import StoreError
from cloud.ports import EnrichedSample
from contract import decode_sample
from tests.fakes.seed import SEED

RUN = "f3a1c2d4"
RECEIVED_MS = 1_736_951_540_000
"""2025-01-15T14:32:20Z"""
FIRST_NUMBER = 49590338271490256608559692538361571095921575989136588898


def sample(vehicle_id="van-1", sequence=1, timestamp="2025-01-15T14:32:18.123Z", **groups):
    """A sample as a JSON object."""
    return {
        "schema_version": 1,
        "vehicle_id": vehicle_id,
        "run_id": groups.pop("run_id", RUN),
        "sequence": sequence,
        "timestamp": timestamp,
        "time_quality": "gps",
        **groups,
    }


def at(lat, lon, **more):
    return {"lat": lat, "lon": lon, **more}


def full_sample(sequence=1, **changes):
    """The contract's example with a trouble code and all that is known of the fix."""
    diagnostics = {**SEED["diagnostics"], "error_codes": ["P0420"]}
    location = {**SEED["location"], "fix_mode": "3d", "satellites": 9, "hdop": 0.9}
    groups = {"location": location, "diagnostics": diagnostics}
    return {**SEED, "sequence": sequence, **groups, **changes}


def event(vehicle_id="van-1", sequence=1, event_type="trip_started", **more):
    return {**sample(vehicle_id, sequence), "event_type": event_type, **more}


def enriched_sample(row, received_at, zone=None):
    """What ``enrich`` gives the hot store."""
    payload = json.dumps(row).encode()
    return EnrichedSample.of(decode_sample(payload), "electric_van", zone, received_at, payload)


def selected(row, topic_vehicle_id=None, received_at_ms=RECEIVED_MS):
    """What a telemetry or event rule puts on the stream."""
    topic_vehicle_id = topic_vehicle_id or str(row.get("vehicle_id"))
    row = {**row, "topic_vehicle_id": topic_vehicle_id, "received_at_ms": received_at_ms}
    return json.dumps(row, separators=(",", ":")).encode()


def selected_batch(content, topic_vehicle_id="van-1", received_at_ms=RECEIVED_MS):
    """What the batch rule puts on the stream."""
    return json.dumps(
        {
            "batch_base64": base64.b64encode(content).decode(),
            "topic_vehicle_id": topic_vehicle_id,
            "received_at_ms": received_at_ms,
        }
    ).encode()


def lambda_event(*data, first=0, shard="shardId-000000000000"):
    """The event that Lambda calls a function with (AWS Lambda guide, "Using with Kinesis")."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "van-1",
                    "sequenceNumber": number(first + index),
                    "data": base64.b64encode(one).decode(),
                    "approximateArrivalTimestamp": RECEIVED_MS / 1000,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{shard}:{number(first + index)}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
                "awsRegion": "eu-central-1",
                "eventSourceARN": "arn:aws:kinesis:eu-central-1:123456789012:stream/telemetry",
            }
            for index, one in enumerate(data)
        ]
    }


def number(index):
    return str(FIRST_NUMBER + index)


def failed(response):
    """The sequence numbers that a handler reported."""
    return [one["itemIdentifier"] for one in response["batchItemFailures"]]


class Flaky:
    """Another port whose calls fail while ``broken``; counts what got through."""

    def __init__(self, port, *, broken=False, methods=None):
        self._port = port
        self._methods = methods
        self.broken = broken
        self.calls = []

    def __getattr__(self, name):
        method = getattr(self._port, name)

        def call(*args, **kwargs):
            if self.broken and (self._methods is None or name in self._methods):
                raise StoreError(f"{name} is broken")
            self.calls.append((name, args))
            return method(*args, **kwargs)

        return call
