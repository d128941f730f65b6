"""Whatever a vehicle publishes, the handlers' decoder gives messages or dead letters.

An input is what an IoT rule put into the stream; the keys that the rule adds are appended, so
a payload that is JSON gets past the check of its origin.
"""

import base64
import json

from cloud.handlers.records import MAX_TEXT, read_records
from tests.fuzz.targets.batch import SEEDS as BATCHES
from tests.fuzz.targets.messages import EVENT, SAMPLE, STATUS

RULE = b',"topic_vehicle_id":"12345","received_at_ms":1736951538123}'
SEEDS = [
    *(json.dumps(message).encode()[:-1] for message in (SAMPLE, EVENT, STATUS)),
    b'{"batch_base64":"' + base64.b64encode(BATCHES[0]) + b'"',
    b'{"batch_base64":"' + base64.b64encode(b"MPB\x01broken") + b'"',
]
TOKENS = [b'"received_at_ms":', b'"topic_vehicle_id":', b'"event_type":', b'"state":', b"1e999"]


def take(data: bytes) -> None:
    for payload in (data + RULE, data):
        kinesis = {
            "sequenceNumber": "1",
            "data": base64.b64encode(payload).decode(),
            "approximateArrivalTimestamp": 1_736_951_538.1,
        }
        for record in read_records({"Records": [{"kinesis": kinesis}]}):
            for letter in record.broken:
                assert len(letter.field) <= MAX_TEXT
                assert len(letter.reason) <= MAX_TEXT
            assert all(sample.vehicle_id for sample, _ in record.samples)
