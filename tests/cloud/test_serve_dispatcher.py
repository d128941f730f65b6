"""What the template's rules make of messages, and the targets that are no functions."""

import base64
import json
from datetime import UTC, datetime

import pytest

from cloud.clock import milliseconds
from cloud.errors import StoreError
from cloud.ports import DeadLetter
from cloud.serve.dispatcher import Dispatcher
from cloud.serve.functions import bury, rule_errors, status_table
from cloud.serve.ingest import Message
from cloud.serve.stream import StreamRecord
from cloud.template import load_rules
from tests.fakes.one_machine import DEAD_LETTERS, STATUS, TELEMETRY, sample_json, status_json

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def dispatcher():
    return Dispatcher(load_rules(), DEAD_LETTERS)


def message(topic, payload, client_id="van-1"):
    data = payload if isinstance(payload, bytes) else payload.encode()
    return Message(client_id, topic, data, NOW)


def record(document, sequence=1):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return StreamRecord(sequence, "van-1", data, milliseconds(NOW))


class Letters:
    def __init__(self):
        self.kept = []

    def put(self, letter):
        self.kept.append(letter)


class Statuses(dict):
    def put_status(self, vehicle_id, item):
        self[vehicle_id] = item


@pytest.mark.parametrize(
    ("topic", "payload", "stream", "added"),
    [
        ("telemetry/van-1", sample_json(), TELEMETRY, "sequence"),
        ("events/van-1", sample_json(event_type="trip_started"), TELEMETRY, "event_type"),
        ("telemetry/van-1/batch", b"MPB\x01...", TELEMETRY, "batch_base64"),
        ("status/van-1", status_json(), STATUS, "state"),
    ],
    ids=["telemetry", "events", "batch", "status"],  # the payloads hold the time of day
)
def test_every_topic_goes_where_the_template_sends_it(dispatcher, topic, payload, stream, added):
    entry, *others = dispatcher.route(message(topic, payload))
    assert entry.stream == stream
    # a status goes to the ledger as well, and to the function that retires certificates
    further = [TELEMETRY, "SettleIdentityFunction"] if stream == STATUS else []
    assert [other.stream for other in others] == further
    assert entry.partition_key == "van-1"
    document = json.loads(entry.data)
    assert added in document
    assert document["topic_vehicle_id"] == "van-1"
    assert document["received_at_ms"] == milliseconds(NOW)


def test_basic_ingest_is_the_same_message_to_its_rule(dispatcher):
    plain = dispatcher.route(message("telemetry/van-1", sample_json(sequence=3)))
    basic = dispatcher.route(
        message("$aws/rules/milepost_telemetry/telemetry/van-1", sample_json(sequence=3))
    )
    assert [json.loads(one.data)["topic_vehicle_id"] for one in plain + basic] == ["van-1"] * 2
    assert {one.stream for one in plain + basic} == {TELEMETRY}


def test_a_status_in_another_vehicles_name_never_reaches_the_table(dispatcher):
    (entry,) = dispatcher.route(message("status/van-1", status_json("van-2")))
    assert entry.stream == DEAD_LETTERS


def test_a_topic_that_no_rule_takes_makes_no_entry(dispatcher):
    assert dispatcher.route(message("other/van-1", "{}")) == []


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"1", b"{" * 5000, b'{"a":' * 5000])
def test_no_payload_stops_the_rules(dispatcher, payload):
    for topic in ("telemetry/van-1", "telemetry/van-1/batch", "events/van-1", "status/van-1"):
        entries = dispatcher.route(message(topic, payload))
        assert len(entries) >= 1
        for entry in entries:
            json.loads(entry.data)


def test_an_error_keeps_the_original_payload(dispatcher):
    (entry,) = dispatcher.route(message("telemetry/van-1", b"\xff\x00"))
    document = json.loads(entry.data)
    assert entry.stream == DEAD_LETTERS
    assert set(document) == {
        "ruleName",
        "topic",
        "cloudwatchTraceId",
        "clientId",
        "base64OriginalPayload",
        "failures",
    }
    assert base64.b64decode(document["base64OriginalPayload"]) == b"\xff\x00"


def test_received_messages_and_bytes_are_counted_and_can_be_given_back(dispatcher):
    dispatcher.route(message("telemetry/van-1", b"{}"))
    dispatcher.route(message("events/van-1", b"{}"))
    dispatcher.route(message("events/van-2", b"", client_id="van-2"))
    counted = dispatcher.take_received()
    assert counted == {"van-1": (2, 31), "van-2": (1, 12)}
    assert dispatcher.take_received() == {}
    dispatcher.give_back(counted)
    assert dispatcher.take_received() == counted


def test_an_error_document_becomes_a_dead_letter_with_everything_in_it(dispatcher):
    (entry,) = dispatcher.route(message("telemetry/van-1", b"\xff\x00"))
    letters = Letters()
    rule_errors(letters)([record(entry.data)])
    (letter,) = letters.kept
    assert letter.topic == "telemetry/van-1"
    assert letter.payload == b"\xff\x00"
    assert letter.field == "milepost_telemetry"
    assert "JSON" in letter.reason
    assert "client van-1" in letter.reason
    assert letter.received_at == NOW


def test_a_status_replaces_the_item_of_its_vehicle():
    statuses, letters = Statuses(), Letters()
    for state in ("online", "offline"):
        item = {**json.loads(status_json(state=state)), "topic_vehicle_id": "van-1"}
        status_table(statuses, letters)([record(item)])
    assert statuses["van-1"]["state"] == "offline"
    assert letters.kept == []


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({**json.loads(status_json("van-2")), "topic_vehicle_id": "van-1"}, "vehicle_id"),
        (json.loads(status_json()), "vehicle_id"),
        ({**json.loads(status_json(state="asleep")), "topic_vehicle_id": "van-1"}, "state"),
        (b"[]", "payload"),
        (b"\xff", "payload"),
    ],
)
def test_a_status_that_breaks_the_contract_is_a_dead_letter(document, field):
    statuses, letters = Statuses(), Letters()
    status_table(statuses, letters)([record(document)])
    assert statuses == {}
    assert [letter.field for letter in letters.kept] == [field]


def test_a_status_store_that_fails_is_tried_again():
    class Failing(Statuses):
        def put_status(self, vehicle_id, item):
            raise StoreError("disk full")

    item = {**json.loads(status_json()), "topic_vehicle_id": "van-1"}
    with pytest.raises(StoreError):
        status_table(Failing(), Letters())([record(item)])


def test_a_hopeless_record_is_buried_whole():
    letters = Letters()
    bury(letters)(record(b"anything"), "enrich failed 6 times")
    assert letters.kept == [DeadLetter(None, b"anything", "record", "enrich failed 6 times", NOW)]
