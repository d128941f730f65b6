import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.handlers.records import believable, failures, read_records
from contract import decode_sample, encode, encode_batch_rows
from tests.fakes import kinesis


def read_one(data):
    (record,) = read_records(kinesis.lambda_event(data))
    return record


def test_a_live_sample_comes_out_as_the_vehicle_sent_it():
    row = kinesis.full_sample(future_field={"deep": [1, 2]})
    record = read_one(kinesis.selected(row))
    ((sample, payload),) = record.samples
    assert json.loads(payload) == row
    assert sample == decode_sample(json.dumps(row))
    assert sample.model_extra == {"future_field": {"deep": [1, 2]}}
    assert record.received_at == datetime(2025, 1, 15, 14, 32, 20, tzinfo=UTC)
    assert record.sequence_number == kinesis.number(0)
    assert not record.events
    assert not record.broken


def test_the_order_of_the_rules_own_fields_does_not_matter():
    row = kinesis.full_sample()
    data = json.dumps({"received_at_ms": kinesis.RECEIVED_MS, "topic_vehicle_id": "12345", **row})
    ((sample, payload),) = read_one(data.encode()).samples
    assert decode_sample(payload) == sample == decode_sample(json.dumps(row))


def test_a_number_as_vehicle_id_becomes_text():
    ((sample, _),) = read_one(kinesis.selected(kinesis.sample(12345), "12345")).samples
    assert sample.vehicle_id == "12345"


def test_an_event_is_told_by_its_type_even_when_the_name_is_written_with_escapes():
    data = kinesis.selected(kinesis.event())
    for text in (data, data.replace(b'"event_type"', rb'"event\u005ftype"')):
        record = read_one(text)
        assert [one.event_type for one in record.events] == ["trip_started"]
        assert not record.samples
        assert record.events[0].model_extra == {}


def test_a_signal_named_like_a_kind_does_not_make_a_sample_an_event():
    row = kinesis.sample(signals={"event_type": "x", "batch_base64": "y"})
    ((sample, payload),) = read_one(kinesis.selected(row)).samples
    assert sample.signals == {"event_type": "x", "batch_base64": "y"}
    assert json.loads(payload) == row


def test_a_batch_comes_out_sample_by_sample():
    rows = [kinesis.sample(sequence=n, battery={"percent": n}) for n in range(1, 40)]
    record = read_one(kinesis.selected_batch(encode_batch_rows(rows)))
    assert [json.loads(payload) for _, payload in record.samples] == rows
    assert [sample.sequence for sample, _ in record.samples] == list(range(1, 40))


def test_a_broken_sample_in_a_batch_costs_only_itself():
    rows = [kinesis.sample(sequence=n, location=kinesis.at(50 + n, 8)) for n in (1, 2, 3)]
    rows[1]["location"]["lat"] = 191
    rows.append(kinesis.sample("van-2", 4))
    record = read_one(kinesis.selected_batch(encode_batch_rows(rows)))
    assert [sample.sequence for sample, _ in record.samples] == [1, 3]
    bad, foreign = record.broken
    assert (bad.topic, bad.field) == ("telemetry/van-1/batch", "batch.1.location.lat")
    assert json.loads(bad.payload) == rows[1]
    assert foreign.field == "batch.3.vehicle_id"
    assert "van-2" in foreign.reason


@pytest.mark.parametrize(
    ("data", "topic", "field"),
    [
        (
            kinesis.selected(kinesis.sample(location=kinesis.at(191, 8))),
            "telemetry/van-1",
            "location.lat",
        ),
        (kinesis.selected(kinesis.sample("van-1"), "van-2"), "telemetry/van-2", "vehicle_id"),
        (kinesis.selected(kinesis.event("van-1"), "van-2"), "events/van-2", "vehicle_id"),
        (kinesis.selected(kinesis.event(event_type="No")), "events/van-1", "event_type"),
        (json.dumps(kinesis.sample()).encode(), None, "received_at_ms"),
        (kinesis.selected(kinesis.sample(), "van/1"), None, "vehicle_id"),
        (kinesis.selected(kinesis.sample(), received_at_ms=True), "telemetry/van-1", "received_at"),
        (
            kinesis.selected(kinesis.sample(), received_at_ms=10**18),
            "telemetry/van-1",
            "received_at_ms",
        ),
        (kinesis.selected_batch(b"not a batch"), "telemetry/van-1/batch", "batch"),
        (
            b'{"batch_base64":"*","topic_vehicle_id":"van-1","received_at_ms":1}',
            "telemetry/van-1/batch",
            "batch_base64",
        ),
        (
            b'{"batch_base64":7,"topic_vehicle_id":"van-1","received_at_ms":1}',
            "telemetry/van-1/batch",
            "batch_base64",
        ),
        (b"\xff\xfe", None, "payload"),
        (b"[]", None, "payload"),
        (b"", None, "payload"),
    ],
)
def test_what_breaks_the_contract_is_kept_with_topic_field_and_reason(data, topic, field):
    record = read_one(data)
    assert not record.samples
    assert not record.events
    (letter,) = record.broken
    assert letter.topic == topic
    assert letter.field.startswith(field)
    assert letter.reason
    assert letter.received_at is not None


def test_a_letter_holds_the_payload_without_what_the_rule_added():
    row = kinesis.sample(location=kinesis.at(191, 8))
    assert json.loads(read_one(kinesis.selected(row)).broken[0].payload) == row
    content = b"MPB\x01 broken"
    assert read_one(kinesis.selected_batch(content)).broken[0].payload == content


def test_a_sample_in_a_batch_may_not_be_larger_than_a_message():
    rows = [kinesis.sample(sequence=1, padding="x" * 200_000), kinesis.sample(sequence=2)]
    record = read_one(kinesis.selected_batch(encode_batch_rows(rows)))
    assert [sample.sequence for sample, _ in record.samples] == [2]
    assert record.broken[0].field == "batch.0.payload"


def test_one_broken_record_does_not_touch_its_neighbours():
    good = [kinesis.selected(kinesis.sample(sequence=n)) for n in (1, 2)]
    records = list(read_records(kinesis.lambda_event(good[0], b"?", good[1])))
    assert [len(record.samples) for record in records] == [1, 0, 1]
    assert [record.sequence_number for record in records] == [kinesis.number(n) for n in range(3)]


def test_the_lowest_failed_record_is_reported_and_numbers_compare_as_numbers():
    assert failures(["100", "99", "101"]) == {"batchItemFailures": [{"itemIdentifier": "99"}]}
    assert failures([]) == {"batchItemFailures": []}


def test_a_sample_from_the_future_is_not_believed():
    received = datetime(2025, 1, 15, 14, 32, 20, tzinfo=UTC)
    now = decode_sample(json.dumps(kinesis.sample()))
    ahead = now.model_copy(update={"timestamp": received + timedelta(minutes=6)})
    assert believable(now, received)
    assert not believable(ahead, received)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data):
    (record,) = read_records(kinesis.lambda_event(data))
    assert len(record.broken) + len(record.samples) + len(record.events) >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["location", "battery", "signals", "sequence", "event_type", "batch_base64", "x"]
        )
        | st.sampled_from(["topic_vehicle_id", "received_at_ms", "vehicle_id"]),
        JSON,
        max_size=4,
    )
)
def test_no_json_makes_it_raise_and_what_is_taken_is_valid(changes):
    row = {**kinesis.sample(), "topic_vehicle_id": "van-1", "received_at_ms": 1, **changes}
    (record,) = read_records(kinesis.lambda_event(json.dumps(row).encode()))
    for sample, payload in record.samples:
        assert sample.vehicle_id == "van-1"
        assert encode(decode_sample(payload)) == encode(sample)


@given(st.lists(st.dictionaries(st.sampled_from(["lat", "lon", "x"]), JSON), max_size=3))
def test_no_batch_makes_it_raise(locations):
    rows = [
        {**kinesis.sample(sequence=n), "location": one} for n, one in enumerate(locations, start=1)
    ]
    rows.append(kinesis.sample(sequence=99))
    try:
        content = encode_batch_rows(rows)
    except (ValueError, OverflowError, TypeError):
        return  # not JSON
    data = json.dumps(
        {
            "batch_base64": base64.b64encode(content).decode(),
            "topic_vehicle_id": "van-1",
            "received_at_ms": 1,
        }
    )
    (record,) = read_records(kinesis.lambda_event(data.encode()))
    assert len(record.samples) + len(record.broken) == len(rows)
    assert record.samples[-1].sample.sequence == 99
