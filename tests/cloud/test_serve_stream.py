"""The durable stream."""

import threading

import pytest

from cloud.errors import StoreError
from cloud.serve.stream import Entry, Stream


@pytest.fixture
def stream(tmp_path):
    opened = Stream(tmp_path / "stream.db")
    yield opened
    opened.close()


def entries(*texts, stream="A"):
    return [Entry(stream, "key", text.encode()) for text in texts]


def texts(reader, limit=100):
    return [record.data.decode() for record in reader.read(limit)]


def test_what_was_appended_is_read_in_order_by_every_consumer(stream):
    stream.append(entries("1", "2"), 1000)
    stream.append(entries("3"), 2000)
    for consumer in ("x", "y"):
        reader = stream.reader("A", consumer)
        records = reader.read(100)
        assert [record.data for record in records] == [b"1", b"2", b"3"]
        assert [record.arrived_at_ms for record in records] == [1000, 1000, 2000]
        assert records[0].sequence < records[1].sequence < records[2].sequence
        reader.close()


def test_streams_do_not_see_each_other(stream):
    stream.append(entries("a") + entries("b", stream="B"), 0)
    reader = stream.reader("B", "x")
    assert texts(reader) == ["b"]
    reader.close()


def test_a_consumer_takes_up_at_its_checkpoint_after_a_restart(tmp_path):
    first = Stream(tmp_path / "stream.db")
    first.append(entries("1", "2", "3"), 0)
    reader = first.reader("A", "x")
    reader.done_up_to(reader.read(2)[-1].sequence)
    reader.close()
    first.close()
    second = Stream(tmp_path / "stream.db")
    reader = second.reader("A", "x")
    assert texts(reader) == ["3"]
    reader.close()
    second.close()


def test_a_checkpoint_never_moves_back(stream):
    stream.append(entries("1", "2"), 0)
    reader = stream.reader("A", "x")
    low, high = (record.sequence for record in reader.read(2))
    reader.done_up_to(high)
    reader.done_up_to(low)
    stream.save_checkpoint("x", low)
    reader.close()
    reader = stream.reader("A", "x")
    assert reader.position == high
    reader.close()


def test_trimming_spares_what_a_consumer_still_needs_and_what_is_young(stream):
    stream.append(entries("old-done", "old-needed"), 1000)
    slow, quick = stream.reader("A", "slow"), stream.reader("A", "quick")
    slow.done_up_to(slow.read(1)[0].sequence)
    stream.append(entries("young"), 5000)
    quick.done_up_to(quick.read(3)[-1].sequence)
    assert stream.trim(older_than_ms=2000) == 1
    assert texts(slow) == ["old-needed", "young"]
    slow.done_up_to(slow.read(2)[-1].sequence)
    assert stream.trim(older_than_ms=2000) == 1
    third = stream.reader("A", "third")
    assert texts(third) == ["young"]
    for reader in (slow, quick, third):
        reader.close()


def test_a_stream_without_a_consumer_keeps_everything(stream):
    stream.append(entries("1"), 0)
    assert stream.trim(older_than_ms=10) == 0


def test_trimming_goes_on_over_many_transactions(stream, monkeypatch):
    monkeypatch.setattr("cloud.serve.stream.TRIM_ROWS", 3)
    stream.append(entries(*map(str, range(10))), 0)
    reader = stream.reader("A", "x")
    reader.done_up_to(reader.read(10)[-1].sequence)
    assert stream.trim(older_than_ms=10) == 10
    reader.close()


def test_sequence_numbers_are_not_used_again_after_trimming_and_restart(tmp_path):
    first = Stream(tmp_path / "stream.db")
    first.append(entries("1"), 0)
    reader = first.reader("A", "x")
    used = reader.read(1)[0].sequence
    reader.done_up_to(used)
    reader.close()
    first.trim(older_than_ms=10)
    first.close()
    second = Stream(tmp_path / "stream.db")
    second.append(entries("2"), 0)
    reader = second.reader("A", "x")
    assert [(r.data, r.sequence > used) for r in reader.read(9)] == [(b"2", True)]
    reader.close()
    second.close()


def test_a_waiting_consumer_is_woken_by_an_append(stream):
    reader = stream.reader("A", "x")
    woken = threading.Event()

    def wait():
        reader.wait(reader.position, 60, lambda: False)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    stream.append(entries("other", stream="B"), 0)
    assert not woken.wait(0.1)
    stream.append(entries("1"), 0)
    assert woken.wait(10)
    thread.join()
    reader.close()


def test_an_append_that_fails_leaves_nothing_and_the_next_one_works(stream):
    with pytest.raises(StoreError, match="append failed"):
        stream.append([*entries("1"), Entry("A", None, b"2")], 0)
    stream.append(entries("3"), 0)
    reader = stream.reader("A", "x")
    assert texts(reader) == ["3"]
    reader.close()


def test_a_file_that_is_no_database_is_named_in_the_error(tmp_path):
    path = tmp_path / "stream.db"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="open failed"):
        Stream(path)
