"""Consumers: order, retries, dead letters, stopping."""

import threading

import pytest

from cloud.clock import SystemClock
from cloud.errors import StoreError
from cloud.serve.consumer import Batching, Consumer, PartialFailure, backoff_s
from cloud.serve.functions import function, kinesis_event, lowest_failed
from cloud.serve.stream import Entry, Stream, StreamRecord
from tests.fakes.one_machine import wait_until


class Bench:
    """A stream, one consumer, and what came of it."""

    def __init__(self, folder, process, **batching):
        self.stream = Stream(folder / "stream.db")
        self.buried = []
        self._process = process
        self._batching = batching
        self.consumer = None

    def give_up(self, record, reason):
        self.buried.append((record.data, reason))

    def append(self, *texts):
        self.stream.append([Entry("A", "key", text.encode()) for text in texts], 0)

    def start(self):
        self.consumer = Consumer(
            "worker",
            reader=self.stream.reader("A", "worker"),
            process=self._process,
            give_up=self.give_up,
            clock=SystemClock(),
            batching=Batching(**self._batching),
        )
        self.consumer.start()

    def stop(self):
        if self.consumer is not None:
            self.consumer.stop()
            self.stream.wake()
            assert self.consumer.join(20)
            self.consumer.close()
            self.consumer = None

    def left(self):
        reader = self.stream.reader("A", "worker")
        try:
            return [record.data for record in reader.read(1000)]
        finally:
            reader.close()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr("cloud.serve.consumer.FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr("cloud.serve.consumer.MAX_BACKOFF_S", 0.005)
    monkeypatch.setattr("cloud.serve.consumer.POLL_S", 0.05)
    made = []

    def make(process, **batching):
        made.append(Bench(tmp_path, process, **batching))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        one.stream.close()


class Recorder:
    """Handles records; refuses some."""

    def __init__(self, poison=(), raising=()):
        self.batches = []
        self.done = []
        self.poison, self.raising = set(poison), set(raising)

    def __call__(self, records):
        batch = [record.data for record in records]
        self.batches.append(batch)
        if self.raising & set(batch):
            raise ValueError("cannot bear it")
        for index, data in enumerate(batch):
            if data in self.poison:
                raise PartialFailure(index, "bad record")
            self.done.append(data)


def test_everything_is_delivered_in_order(bench):
    work = Recorder()
    one = bench(work, batch_size=2)
    one.append("1", "2", "3")
    one.start()
    one.append("4")
    wait_until(lambda: len(work.done) == 4, "four records")
    assert work.done == [b"1", b"2", b"3", b"4"]
    one.stop()
    assert one.left() == []


def test_a_record_that_always_fails_becomes_a_dead_letter_and_the_rest_goes_on(bench):
    work = Recorder(poison=[b"2"])
    one = bench(work, max_tries=3)
    one.append("1", "2", "3", "4")
    one.start()
    wait_until(lambda: work.done[-1:] == [b"4"], "the last record")
    assert work.done == [b"1", b"3", b"4"]
    (data, reason), *others = one.buried
    assert others == []
    assert data == b"2"
    assert reason == "worker failed 3 times: bad record"
    assert sum(b"2" in batch for batch in work.batches) == 3


def test_a_retry_begins_at_the_lowest_failed_record(bench):
    work = Recorder(poison=[b"2"])
    one = bench(work, max_tries=2)
    one.append("1", "2", "3")
    one.start()
    wait_until(lambda: work.done[-1:] == [b"3"], "the last record")
    assert work.batches[:2] == [[b"1", b"2", b"3"], [b"2", b"3"]]


def test_a_batch_that_raises_is_halved_until_the_record_is_alone(bench):
    work = Recorder(raising=[b"6"])
    one = bench(work, max_tries=2)
    one.append(*map(str, range(1, 9)))
    one.start()
    wait_until(lambda: work.done[-1:] == [b"8"], "the last record")
    assert work.done == [b"1", b"2", b"3", b"4", b"5", b"7", b"8"]
    assert [data for data, _ in one.buried] == [b"6"]
    assert "ValueError: cannot bear it" in one.buried[0][1]


def test_a_record_that_fails_at_first_is_not_lost_or_buried(bench):
    tries = []

    def process(records):
        tries.append(len(records))
        if len(tries) < 3:
            raise PartialFailure(0, "not yet")

    one = bench(process, max_tries=5)
    one.append("1")
    one.start()
    wait_until(lambda: len(tries) == 3, "the third try")
    one.stop()
    assert one.buried == []
    assert one.left() == []


def test_a_store_that_fails_is_waited_for_and_no_record_is_buried(bench):
    tries = []

    def process(records):
        tries.append(len(records))
        if len(tries) < 20:
            raise StoreError("disk full")

    one = bench(process, max_tries=3)
    one.append("1", "2")
    one.start()
    wait_until(lambda: len(tries) == 20, "the twentieth try")
    one.stop()
    assert one.buried == []
    assert one.left() == []
    assert set(tries) == {2}


def test_a_dead_letter_store_that_fails_keeps_the_record_in_the_stream(bench):
    one = bench(Recorder(poison=[b"1"]), max_tries=1)
    asked = threading.Event()

    def refuse(record, reason):
        asked.set()
        raise StoreError("disk full")

    one.give_up = refuse
    one.append("1")
    one.start()
    assert asked.wait(10)
    one.stop()
    assert one.left() == [b"1"]


def test_stopping_finishes_what_is_there_and_closes_the_batching_window(bench):
    work = Recorder()
    one = bench(work, batch_size=1000, window_s=3600)
    one.start()
    one.append("1", "2")
    one.stop()
    assert work.batches == [[b"1", b"2"]]
    assert one.left() == []


def test_a_window_gathers_records_into_one_batch(bench):
    work = Recorder()
    one = bench(work, batch_size=3, window_s=3600)
    one.start()
    for number in range(3):
        one.append(str(number))
    wait_until(lambda: work.done, "the batch")
    assert work.batches == [[b"0", b"1", b"2"]]


def test_stopping_amid_failures_leaves_the_record_for_the_next_start(bench):
    one = bench(Recorder(poison=[b"2"]), max_tries=10**6)
    one.append("1", "2")
    one.start()
    wait_until(lambda: one.left() == [b"2"], "the first record")
    one.stop()
    assert one.left() == [b"2"]
    assert one.buried == []


def test_failure_and_recovery_are_logged_once_each(bench, caplog):
    tries = []

    def process(records):
        tries.append(1)
        if len(tries) < 5:
            raise StoreError("disk full")

    one = bench(process)
    one.append("1")
    one.start()
    wait_until(lambda: len(tries) == 5, "the fifth try")
    one.stop()
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ["worker fails and tries again: disk full", "worker works again"]


def test_stopping_before_the_start_does_nothing(bench):
    one = bench(Recorder())
    consumer = Consumer(
        "idle",
        reader=one.stream.reader("A", "idle"),
        process=Recorder(),
        give_up=one.give_up,
        clock=SystemClock(),
        batching=Batching(),
    )
    consumer.stop()
    assert consumer.join(1)
    consumer.close()


@pytest.mark.parametrize(
    ("tries", "expected_s"), [(0, 0.1), (1, 0.1), (2, 0.2), (4, 0.8), (50, 5.0), (2000, 5.0)]
)
def test_the_back_off_doubles_up_to_a_limit(tries, expected_s):
    assert backoff_s(tries) == pytest.approx(expected_s)


RECORDS = [StreamRecord(number, "van-1", b"{}", 1_700_000_000_123) for number in (5, 6, 9)]


def test_a_handler_sees_the_event_that_kinesis_sends():
    record = kinesis_event("TelemetryStream", RECORDS)["Records"][0]
    assert record["kinesis"] == {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": "van-1",
        "sequenceNumber": "5",
        "data": "e30=",
        "approximateArrivalTimestamp": 1_700_000_000.123,
    }
    assert record["eventSource"] == "aws:kinesis"
    assert record["eventID"] == "shardId-000000000000:5"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (None, None),
        ({}, None),
        ({"batchItemFailures": []}, None),
        ({"batchItemFailures": [{"itemIdentifier": "6"}]}, 1),
        ({"batchItemFailures": [{"itemIdentifier": "9"}, {"itemIdentifier": "6"}]}, 1),
        ({"batchItemFailures": [{"itemIdentifier": "77"}]}, 0),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, 0),
        ({"batchItemFailures": [{}]}, 0),
    ],
)
def test_reported_failures_are_read_as_lambda_reads_them(response, expected):
    assert lowest_failed(response, RECORDS) == expected


def test_a_reported_failure_becomes_a_partial_one():
    def handler(event, context):
        return {"batchItemFailures": [{"itemIdentifier": "9"}]}

    with pytest.raises(PartialFailure) as caught:
        function("enrich", "TelemetryStream", handler)(RECORDS)
    assert caught.value.index == 2
