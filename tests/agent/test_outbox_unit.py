import itertools
import shutil
import sqlite3

import pytest

from agent.outbox import (
    MEMORY_LIMIT_MESSAGES,
    Batch,
    DropReason,
    Kind,
    Store,
)
from agent.outbox import store as store_module
from agent.outbox.run_drops import DropTotal
from contract import TimeQuality
from tests.fakes.outbox_bench import RUN, Bench, message, sequences


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path)
    yield one
    one.outbox.close()


def test_what_is_acknowledged_before_the_flush_is_never_written(bench):
    bench.put(1, 2)
    bench.outbox.acknowledge(bench.outbox.claim_live(Kind.SAMPLE, 2))
    assert bench.outbox.flush_in_s() is None
    bench.flush()
    assert bench.on_disk() == []
    assert bench.outbox.waiting() == 0


def test_a_flush_is_due_within_the_interval_of_the_oldest_unwritten_message(bench):
    bench.put(1)
    bench.clock.advance(0.5)
    bench.put(2)
    assert 0 < bench.outbox.flush_in_s() < 0.5
    bench.clock.advance(0.4)
    assert bench.outbox.flush_in_s() == 0
    bench.outbox.flush()
    assert bench.on_disk() == [1, 2]


def test_messages_in_flight_are_written_too_when_the_flush_is_due(bench):
    bench.put(1, 2)
    claimed = bench.outbox.claim_live(Kind.SAMPLE, 2)
    bench.flush()
    assert bench.on_disk() == [1, 2]
    assert bench.backlog() == []
    bench.outbox.acknowledge(claimed)
    bench.flush()
    assert bench.on_disk() == []


def test_what_was_written_waits_on_disk_only_and_is_claimed_in_order(bench):
    bench.put(1, 2, 3)
    bench.flush()
    assert bench.outbox.claim_live(Kind.SAMPLE, 9) == []
    assert sequences(bench.backlog(2)) == [1, 2]
    assert sequences(bench.backlog(2)) == [3]
    assert bench.backlog(2) == []


def test_given_back_rows_are_claimed_again_and_others_are_not(bench):
    bench.put(1, 2, 3, 4)
    bench.flush()
    claimed = bench.backlog(4)
    bench.outbox.acknowledge(claimed[1:2])
    bench.outbox.give_back([claimed[0], claimed[2]])
    assert sequences(bench.backlog()) == [1, 3]


def test_given_back_live_messages_keep_their_place(bench):
    bench.put(1, 2, 3)
    first, second = bench.outbox.claim_live(Kind.SAMPLE, 2)
    bench.outbox.give_back([second, first])
    assert sequences(bench.outbox.claim_live(Kind.SAMPLE, 9)) == [1, 2, 3]


def test_an_acknowledged_row_is_not_sent_again_after_a_rewind_before_its_delete(bench):
    bench.put(1, 2)
    bench.flush()
    one, two = bench.backlog()
    bench.outbox.acknowledge([two])
    bench.outbox.give_back([one])
    assert sequences(bench.backlog()) == [1]


def test_settling_twice_counts_once(bench):
    bench.put(1)
    claimed = bench.outbox.claim_live(Kind.SAMPLE)
    bench.outbox.acknowledge(claimed)
    bench.outbox.acknowledge(claimed)
    bench.outbox.give_back(claimed)
    assert bench.outbox.tally().acknowledged[Kind.SAMPLE] == 1
    assert bench.outbox.waiting() == 0
    assert bench.outbox.claim_live(Kind.SAMPLE) == []


def test_a_restart_finds_the_backlog_and_where_the_run_before_ended(tmp_path):
    first = Bench(tmp_path)
    first.put(1, 2)
    first.put(3, kind=Kind.EVENT)
    first.outbox.close(last_sequence=3)
    second = Bench(tmp_path, run_id="00000002")
    assert second.outbox.previous_run == (RUN, 3)
    assert second.outbox.tally().inherited == 3
    assert sequences(second.backlog()) == [1, 2]
    assert sequences(second.backlog(kind=Kind.EVENT)) == [3]


def test_after_a_crash_the_run_before_is_known_from_its_rows(tmp_path):
    first = Bench(tmp_path)
    first.put(1, 2, 7)
    first.flush()
    copy = tmp_path / "after"
    copy.mkdir()
    for part in tmp_path.glob("outbox.db*"):
        shutil.copy(part, copy)
    assert Bench(copy, run_id="00000002").outbox.previous_run == (RUN, 7)


def test_a_restart_counts_only_the_rows_behind_the_last_count(tmp_path, monkeypatch):
    first = Bench(tmp_path)
    first.put(*range(1, 2502))
    first.flush()
    first.outbox.acknowledge(first.backlog(40))
    first.flush()
    first.put(5000, 5001)
    first.flush()
    first.outbox.close()
    scanned = []
    second = Store(tmp_path / "outbox.db")
    real = store_module.connect_writer

    def watched(path):
        connection = real(path)
        connection.set_trace_callback(scanned.append)
        return connection

    monkeypatch.setattr(store_module, "connect_writer", watched)
    contents = second.open("00000002")
    assert contents.messages[Kind.SAMPLE] == 2463
    counted = [sql for sql in scanned if "count(*)" in sql and "samples" in sql]
    assert counted == ["SELECT count(*), max(id) FROM samples WHERE id > 2501"]
    second.close()


def test_events_go_only_when_no_sample_is_left(tmp_path):
    bench = Bench(tmp_path, max_bytes=100_000)
    bench.put(*range(1, 11), size=400)
    bench.flush()
    bench.put(*range(11, 400), kind=Kind.EVENT, size=400)
    for _ in range(4):
        bench.flush()
    assert bench.on_disk() == []
    events = bench.on_disk(Kind.EVENT)
    assert 0 < len(events) < 389
    assert events[-1] == 399


def test_samples_that_thinning_must_leave_go_before_any_event(tmp_path):
    bench = Bench(tmp_path, max_bytes=100_000)
    bench.put(1, 2, size=400)  # both ends of a gap
    for first in range(3, 400, 10):
        bench.put(*range(first, first + 10), kind=Kind.EVENT, size=400)
        bench.flush(2)
        if bench.outbox.tally().dropped:
            break
    assert bench.on_disk() == []
    assert len(bench.on_disk(Kind.EVENT)) > 30
    bench.outbox.close()


def test_rows_in_flight_are_not_evicted(tmp_path):
    bench = Bench(tmp_path, max_bytes=100_000)
    bench.put(*range(1, 101), size=400)
    bench.flush()
    in_flight = bench.backlog(50)
    bench.put(*range(101, 400), size=400)
    for _ in range(3):
        bench.flush()
    assert set(range(1, 51)) <= set(bench.on_disk())
    bench.outbox.acknowledge(in_flight)
    assert bench.outbox.tally().imbalance() == 0


def test_too_old_messages_are_dropped_and_counted_when_the_time_is_known(tmp_path):
    bench = Bench(tmp_path)
    now_ms = int(bench.clock.utc().timestamp() * 1000)
    bench.put(1, taken_ms=None)
    bench.put(2, taken_ms=now_ms - 2 * 86_400_000)
    bench.put(3, taken_ms=None)
    bench.put(4, taken_ms=now_ms)
    bench.clock.set_quality(TimeQuality.UNSYNCED)
    bench.flush()
    bench.clock.advance(61)
    bench.flush()
    assert bench.on_disk() == [1, 2, 3, 4]
    bench.clock.set_quality(TimeQuality.GPS)
    bench.clock.advance(61)
    bench.flush()
    assert bench.on_disk() == [3, 4]
    assert bench.outbox.tally().dropped == {DropReason.EXPIRED: 2}


def test_a_file_that_is_no_database_is_set_aside_and_the_outbox_works(tmp_path):
    rubbish = b"this is not a database, not at all" * 200
    (tmp_path / "outbox.db").write_bytes(rubbish)
    bench = Bench(tmp_path)
    bench.put(1)
    bench.flush()
    assert bench.on_disk() == [1]
    assert (tmp_path / "outbox.db.salvaged-1").read_bytes() == rubbish


def test_an_empty_file_left_by_a_power_cut_becomes_an_outbox(tmp_path):
    (tmp_path / "outbox.db").touch()
    bench = Bench(tmp_path)
    bench.put(1)
    bench.flush()
    assert bench.on_disk() == [1]


def test_a_full_disk_keeps_messages_in_memory_and_acknowledgements_free_space(tmp_path):
    bench = Bench(tmp_path)
    bench.put(*range(1, 101), size=900)
    bench.flush()
    bench.store._disk_is_low = lambda: True
    bench.put(*range(101, 201), size=900)
    bench.flush()
    assert bench.on_disk() == list(range(1, 101))
    assert bench.outbox.waiting() == 200
    assert bench.outbox.tally().dropped == {}
    bench.outbox.acknowledge(bench.backlog(100))
    bench.clock.advance(5)
    bench.flush()
    assert bench.on_disk() == list(range(101, 201))
    assert bench.outbox.tally().imbalance() == 0


def test_a_full_disk_with_full_memory_thins_the_oldest_samples_and_counts_them(tmp_path):
    bench = Bench(tmp_path)
    bench.store._disk_is_low = lambda: True
    bench.put(1, kind=Kind.EVENT, size=8000)
    bench.put(*range(2, MEMORY_LIMIT_MESSAGES + 11))
    bench.flush()
    tally = bench.outbox.tally()
    assert tally.dropped == {DropReason.THINNED: 99}
    assert tally.imbalance() == 0
    assert sequences(bench.outbox.claim_live(Kind.EVENT)) == [1]
    assert sequences(bench.outbox.claim_live(Kind.SAMPLE, 4)) == [2, 4, 6, 8]


def test_hours_with_a_broken_card_show_the_whole_route_in_memory_and_all_events(tmp_path):
    bench = Bench(tmp_path)
    bench.store._disk_is_low = lambda: True
    bench.put(1, size=8000)
    bench.flush()
    limit, created = MEMORY_LIMIT_MESSAGES, 8 * MEMORY_LIMIT_MESSAGES
    bench.put(*range(2, 12), kind=Kind.EVENT)
    most = 0
    for sequence in range(12, created + 1):
        bench.put(sequence, lat=50.0 + sequence * 1e-6)
        most = max(most, bench.outbox.waiting())
    assert most <= limit + 200
    tally = bench.outbox.tally()
    assert tally.dropped.keys() == {DropReason.THINNED}
    assert tally.imbalance() == 0
    assert sequences(bench.outbox.claim_live(Kind.EVENT, 20)) == [*range(2, 12)]
    kept = sequences(bench.outbox.claim_live(Kind.SAMPLE, limit))
    assert kept[0] == 1
    assert kept[-1] == created
    assert max(later - one for one, later in itertools.pairwise(kept)) <= 2**5


def test_a_reserve_that_can_be_thinned_no_more_gives_up_the_oldest_samples_and_stays_bounded(
    tmp_path,
):
    bench = Bench(tmp_path)
    bench.store._disk_is_low = lambda: True
    bench.put(1, kind=Kind.EVENT, size=8000)
    bench.flush()
    # each of another run: every one is the end of a gap
    for sequence in range(2, 2 * MEMORY_LIMIT_MESSAGES):
        bench.run_id = f"{sequence:08x}"
        bench.put(sequence)
        assert bench.outbox.waiting() <= MEMORY_LIMIT_MESSAGES + 400
    tally = bench.outbox.tally()
    assert tally.dropped.keys() == {DropReason.DISK_FULL}
    assert tally.imbalance() == 0
    assert sequences(bench.outbox.claim_live(Kind.EVENT)) == [1]
    assert sequences(bench.outbox.claim_live(Kind.SAMPLE))[0] > MEMORY_LIMIT_MESSAGES // 2


def test_a_reserve_of_events_alone_gives_up_the_oldest(tmp_path):
    bench = Bench(tmp_path)
    bench.store._disk_is_low = lambda: True
    bench.put(1, kind=Kind.EVENT, size=8000)
    bench.flush()
    bench.put(*range(2, MEMORY_LIMIT_MESSAGES + 4), kind=Kind.EVENT)
    assert bench.outbox.tally().dropped == {DropReason.DISK_FULL: 3}
    assert sequences(bench.outbox.claim_live(Kind.EVENT)) == [4]


def test_a_state_directory_that_comes_late_is_used_when_it_is_there(tmp_path):
    blocked = tmp_path / "mount"
    blocked.write_text("not yet a directory")
    bench = Bench(blocked / "state")
    bench.put(1)
    bench.flush()
    assert bench.outbox.waiting() == 1
    blocked.unlink()
    bench.clock.advance(10)
    bench.outbox.flush()
    assert bench.on_disk() == [1]


def test_a_refused_message_is_kept_for_inspection_and_counted(bench):
    bench.put(1, 2)
    first = bench.outbox.claim_live(Kind.SAMPLE)[0]
    bench.outbox.refuse(first, "too large")
    bench.flush()
    with sqlite3.connect(bench.path) as db:
        assert db.execute("SELECT sequence, reason FROM refused").fetchall() == [(1, "too large")]
        assert db.execute("SELECT reason, messages FROM drops").fetchall() == [("refused", 1)]
    assert bench.outbox.tally().dropped == {DropReason.REFUSED: 1}
    assert bench.on_disk() == [2]


def test_drops_that_no_event_told_of_are_told_after_a_restart_once(tmp_path):
    first = Bench(tmp_path)
    first.put(1)
    first.outbox.refuse(first.outbox.claim_live(Kind.SAMPLE)[0], "too large")
    first.flush()
    first.outbox.close()
    second = Bench(tmp_path, run_id="00000002")
    assert second.outbox.take_unreported_drops() == [DropTotal(RUN, "refused", 1, 1, 1)]
    second.flush()
    second.outbox.close()
    third = Bench(tmp_path, run_id="00000003")
    assert third.outbox.take_unreported_drops() == []
    assert third.outbox.tally().imbalance() == 0
    assert third.outbox.drop_totals() == [DropTotal(RUN, "refused", 1, 1, 1)]


def test_drops_are_totalled_by_run_and_reason_over_restarts(tmp_path):
    first = Bench(tmp_path)
    first.put(4, 7)
    for claimed in first.outbox.claim_live(Kind.SAMPLE, 2):
        first.outbox.refuse(claimed, "too large")
    first.put(9)
    first.flush()
    first.outbox.close()
    second = Bench(tmp_path, run_id="00000002")
    second.outbox.refuse(second.backlog()[0], "too large")
    second.put(2)
    second.outbox.refuse(second.outbox.claim_live(Kind.SAMPLE)[0], "too large")
    totals = [
        DropTotal(RUN, "refused", 3, 4, 9),
        DropTotal("00000002", "refused", 1, 2, 2),
    ]
    assert second.outbox.drop_totals() == totals
    second.flush()
    second.outbox.close()
    assert Bench(tmp_path, run_id="00000003").outbox.drop_totals() == totals


def test_a_row_that_somebody_else_deleted_waits_no_more_and_the_books_tell(bench, caplog):
    bench.put(*range(1, 11))
    bench.flush()
    with sqlite3.connect(bench.path) as db:
        db.execute("DELETE FROM samples WHERE sequence IN (3, 4)")
    claimed = bench.backlog()
    assert [one.sequence for one in claimed] == [1, 2, *range(5, 11)]
    assert bench.outbox.waiting() == 8
    assert bench.outbox.tally().imbalance() == 2
    assert "2 samples are gone from the outbox's file" in caplog.text
    bench.outbox.acknowledge(claimed)
    bench.flush()
    bench.outbox.close()
    again = Bench(bench.path.parent, run_id="00000002")
    assert (again.outbox.waiting(), again.outbox.tally().imbalance()) == (0, 0)


def test_the_log_stays_small_however_much_is_written(bench):
    largest = 0
    for block in range(60):
        bench.put(*range(block * 100, block * 100 + 100), size=500)
        bench.flush()
        largest = max(largest, (bench.path.parent / "outbox.db-wal").stat().st_size)
    assert largest < 1_200_000


def test_a_commit_that_fails_changes_nothing(bench):
    bench.put(1)
    bench.flush()
    with pytest.raises(Exception, match="UNIQUE"):
        bench.store.commit(Batch(inserts=[(5, message(5)), (5, message(6))]))
    assert bench.on_disk() == [1]
    bench.put(2)
    bench.flush()
    assert bench.on_disk() == [1, 2]


def test_a_message_acknowledged_during_its_own_commit_is_not_sent_again(bench):
    bench.put(1, 2)
    claimed = bench.outbox.claim_live(Kind.SAMPLE, 2)
    commit = bench.store.commit

    def slow_commit(batch):
        commit(batch)
        bench.outbox.acknowledge(claimed[:1])

    bench.store.commit = slow_commit
    bench.flush()
    bench.store.commit = commit
    bench.outbox.give_back(claimed[1:])
    assert sequences(bench.backlog()) == [2]
    bench.flush()
    assert bench.on_disk() == [2]
    assert bench.outbox.tally().imbalance() == 0


def test_an_older_schema_is_migrated_and_keeps_its_rows(tmp_path):
    from sqlite_utils import Database  # noqa: PLC0415  the migration's own tool

    from agent.outbox.schema import CURRENT_VERSION, MIGRATIONS  # noqa: PLC0415  inner part

    db = Database(tmp_path / "outbox.db")
    MIGRATIONS[0](db)
    db.execute("INSERT INTO samples VALUES (1, ?, 9, NULL, ?)", ["0000000a", b"{}"])
    db.execute("PRAGMA user_version = 1")
    db.conn.commit()
    db.close()
    bench = Bench(tmp_path)
    assert sequences(bench.backlog()) == [9]
    with sqlite3.connect(bench.path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone()[0] == CURRENT_VERSION


def test_live_messages_on_disk_stay_in_the_live_lane_while_a_batch_gathers(bench):
    bench.outbox.hold_live_s = 10.0
    bench.put(1, 2)
    bench.flush()
    assert bench.on_disk() == [1, 2]
    assert bench.backlog() == []
    bench.outbox.leave_live_to_disk()
    assert bench.outbox.claim_live(Kind.SAMPLE, 9) == []
    assert sequences(bench.backlog()) == [1, 2]


def test_an_event_on_a_full_disk_never_makes_room_for_samples(tmp_path):
    bench = Bench(tmp_path)
    bench.store._disk_is_low = lambda: True
    bench.put(1, kind=Kind.EVENT)
    bench.flush(2)
    bench.put(*range(2, 40), size=300)
    bench.flush(10)
    assert bench.on_disk(Kind.EVENT) == [1]
    assert bench.outbox.tally().imbalance() == 0
    bench.outbox.close()
