"""What the broker does with what it lets in."""

import json
import threading

import pytest

from cloud.errors import StoreError
from tests.fakes.one_machine import (
    DEAD_LETTERS,
    STATUS,
    TELEMETRY,
    RunningBroker,
    sample_json,
    status_json,
    wait_until,
)


class HeldStream:
    """A stream whose appends wait until they are let go, or fail."""

    def __init__(self):
        self.let_go = threading.Event()
        self.entries = []
        self.failing = False

    def append(self, entries, arrived_at_ms):
        assert self.let_go.wait(20)
        if self.failing:
            raise StoreError("disk full")
        self.entries.extend(entries)


@pytest.fixture
def broker(tmp_path):
    with RunningBroker(tmp_path) as running:
        yield running


@pytest.fixture
def held(tmp_path):
    stream = HeldStream()
    with RunningBroker(tmp_path, appender=stream) as running:
        yield running, stream
        stream.let_go.set()


def test_no_acknowledgement_goes_out_before_the_message_is_in_the_stream(held):
    broker, stream = held
    with broker.vehicle() as van:
        assert van.connect()
        mid = van.publish("telemetry/van-1", sample_json())
        van.subscribe("status/van-1")  # answered, so the broker has seen the message before
        assert mid not in van.acked
        stream.let_go.set()
        wait_until(lambda: mid in van.acked, "the acknowledgement")
    assert len(stream.entries) == 1


def test_a_stream_that_fails_gives_no_acknowledgement_and_ends_the_connection(held, caplog):
    broker, stream = held
    stream.failing = True
    stream.let_go.set()
    with broker.vehicle() as van:
        assert van.connect()
        mid = van.publish("telemetry/van-1", sample_json())
        assert van.disconnected.wait(10)
        assert mid not in van.acked
    stream.failing = False
    with broker.vehicle() as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json())
    texts = [record.getMessage() for record in caplog.records]
    assert any("disk full" in text for text in texts)
    assert any("accepts messages again" in text for text in texts)


def test_messages_are_acknowledged_in_their_order_and_stored_in_it(broker):
    with broker.vehicle() as van:
        assert van.connect()
        mids = [
            van.publish("telemetry/van-1", sample_json(sequence=number)) for number in range(1, 301)
        ]
        wait_until(lambda: len(van.acked) == 300, "300 acknowledgements")
        assert van.acked == mids
    assert [document["sequence"] for document in broker.documents()] == list(range(1, 301))


def test_a_message_without_acknowledgement_is_taken_too(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish("telemetry/van-1", sample_json(), qos=0)
        wait_until(broker.records, "the record")


def test_the_record_is_what_the_template_s_rule_selects(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json(sequence=7))
    (record,) = broker.records()
    document = json.loads(record.data)
    assert record.partition_key == "van-1"
    assert document["sequence"] == 7
    assert document["topic_vehicle_id"] == "van-1"
    assert abs(document["received_at_ms"] - record.arrived_at_ms) < 60_000


def test_basic_ingest_reaches_the_rule_and_no_subscriber(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.subscribe("telemetry/van-1")
        van.publish_acked("$aws/rules/milepost_telemetry/telemetry/van-1", sample_json())
        van.publish_acked("telemetry/van-1", sample_json(sequence=2))
        wait_until(lambda: van.received, "the second message")
        assert [json.loads(message.payload)["sequence"] for message in van.received] == [2]
    assert [document["sequence"] for document in broker.documents()] == [1, 2]


def test_basic_ingest_to_a_rule_that_is_not_there_is_a_dead_letter(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish_acked("$aws/rules/other_telemetry/telemetry/van-1", sample_json())
    (letter,) = broker.documents(DEAD_LETTERS)
    assert letter["ruleName"] == "other_telemetry"
    assert letter["failures"][0]["failedAction"] == "RuleNotFound"


def test_a_payload_that_a_rule_cannot_read_is_a_dead_letter_and_acknowledged(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", b"\xff\x00 no JSON")
        van.publish_acked("telemetry/van-1", sample_json())
    (letter,) = broker.documents(DEAD_LETTERS)
    assert letter["ruleName"] == "milepost_telemetry"
    assert letter["topic"] == "telemetry/van-1"
    assert letter["clientId"] == "van-1"
    assert letter["base64OriginalPayload"] == "/wAgbm8gSlNPTg=="
    assert len(broker.records()) == 1


def test_a_retained_status_is_given_to_a_later_subscriber(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish_acked("status/van-1", status_json(), retain=True)
    with broker.vehicle(folder=broker.folder / "van-1") as van:
        assert van.connect()
        assert van.subscribe("status/van-1") == [1]
        wait_until(lambda: van.received, "the retained status")
        assert van.received[0].retain
        assert json.loads(van.received[0].payload)["state"] == "online"


def test_a_connection_that_breaks_publishes_the_last_will(broker):
    will = ("status/van-1", status_json(state="offline"))
    with broker.vehicle(will=will) as van:
        assert van.connect()
        van.publish_acked("status/van-1", status_json(), retain=True)
        van.vanish()
        wait_until(lambda: len(broker.records(STATUS)) == 2, "the will")
    states = [document["state"] for document in broker.documents(STATUS)]
    assert states == ["online", "offline"]
    with broker.vehicle(folder=broker.folder / "van-1") as van:
        assert van.connect()
        van.subscribe("status/van-1")
        wait_until(lambda: van.received, "the retained will")
        assert json.loads(van.received[0].payload)["state"] == "offline"


def test_an_orderly_farewell_publishes_no_will(broker):
    with broker.vehicle(will=("status/van-1", status_json(state="offline"))) as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json())
    wait_until(lambda: broker.broker.connected() == [], "the end of the connection")
    assert broker.records(STATUS) == []


def test_a_client_that_falls_silent_is_disconnected_after_its_keep_alive(broker):
    will = ("status/van-1", status_json(state="offline"))
    with broker.vehicle(will=will, keep_alive_s=1) as van:
        assert van.connect()
        van.client.loop_stop()  # no ping is sent from now on
        wait_until(lambda: broker.records(STATUS), "the will of the silent client")


def test_a_client_that_pings_is_not_disconnected(broker):
    with broker.vehicle(keep_alive_s=1) as van:
        assert van.connect()
        assert not van.disconnected.wait(3)
        van.publish_acked("telemetry/van-1", sample_json())


def test_a_second_connection_of_a_vehicle_takes_over_and_its_status_is_the_last_word(broker):
    will = ("status/van-1", status_json(state="offline"))
    with broker.vehicle(will=will) as old:
        assert old.connect()
        old.publish_acked("status/van-1", status_json(), retain=True)
        with broker.vehicle(folder=broker.folder / "van-1", will=will) as new:
            assert new.connect()
            assert old.disconnected.wait(10)
            new.publish_acked("status/van-1", status_json(last_sequence=9), retain=True)
            assert broker.broker.connected() == ["van-1"]
            states = [document["state"] for document in broker.documents(STATUS)]
            assert states == ["online", "offline", "online"]
            new.subscribe("status/van-1")
            wait_until(lambda: new.received, "the retained status")
            assert json.loads(new.received[0].payload)["last_sequence"] == 9


def test_stopping_the_broker_publishes_no_will_and_takes_nothing_more(tmp_path):
    will = ("status/van-1", status_json(state="offline"))
    with RunningBroker(tmp_path) as broker:
        van = broker.vehicle(will=will)
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json())
    assert van.disconnected.wait(10)
    van.close()
    with RunningBroker(tmp_path) as again:
        assert again.records(STATUS) == []
        assert len(again.records(TELEMETRY)) == 1
