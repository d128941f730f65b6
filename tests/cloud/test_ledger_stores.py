"""The ledger's stores: one suite on SQLite and DynamoDB, then what each has alone."""

import itertools
import json
import sqlite3

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.accounting.ledger import Arrival, Change, RunEnd, RunHead, Told, apply
from cloud.accounting.ranges import BLOCK, Ranges
from cloud.accounting.reconcile import reconcile
from cloud.errors import StoreError
from cloud.handlers import enrich
from cloud.stores.aws import aws_stores
from cloud.stores.dynamodb_ledger import DynamoLedgerStore
from cloud.stores.schema import create_tables
from cloud.stores.sqlite import SqliteStores
from contract import DropTotal, encode_batch_rows
from tests.fakes import kinesis
from tests.fakes.kinesis import Flaky, failed, lambda_event, selected, selected_batch

_fresh = itertools.count()
RUN = kinesis.RUN
NOW_MS = kinesis.RECEIVED_MS


def arrivals(*sequences, received_ms=NOW_MS):
    return [Arrival(n, NOW_MS - 1000 + n, received_ms, is_event=False) for n in sequences]


def change(*sequences, vehicle_id="van-1", run_id=RUN, **more):
    return Change(vehicle_id, run_id, NOW_MS, arrivals(*sequences), **more)


def status(**more):
    return {
        "schema_version": 1,
        "vehicle_id": "van-1",
        "run_id": RUN,
        "state": "online",
        "timestamp": "2025-01-15T14:32:19.000Z",
        "time_quality": "gps",
        **more,
    }


def sequences(ledger, vehicle_id="van-1", run_id=RUN):
    return [n for one in ledger.ranges(vehicle_id, run_id) for n in range(one.first, one.last + 1)]


def accounts(ledger, vehicle_id="van-1"):
    return reconcile(ledger.heads(vehicle_id), lambda run: ledger.ranges(vehicle_id, run))


def test_a_ledger_keeps_what_was_recorded(installation):
    ledger = installation.stores.ledger
    told = Told(NOW_MS, NOW_MS, "online", 9, 2)
    drops = [DropTotal(run_id="bbbbbbbb", reason="thinned", total_messages=4)]
    ledger.record([change(1, 2, 5, told=[told], drops=drops)])
    ledger.record([change(7, end=RunEnd(9, 0.0, "cccccccc")), change(1, run_id="dddddddd")])
    ledger.record([change(1, vehicle_id="van-2")])
    heads = {head.run_id: head for head in ledger.heads("van-1")}
    assert set(heads) == {RUN, "dddddddd"}
    assert (heads[RUN].received, heads[RUN].highest, heads[RUN].told) == (4, 7, told)
    assert heads[RUN].end == RunEnd(9, 0.0, "cccccccc")
    assert heads[RUN].drops["bbbbbbbb"]["thinned"].messages == 4
    assert sequences(ledger) == [1, 2, 5, 7]
    assert sequences(ledger, run_id="dddddddd") == [1]
    assert ledger.heads("nobody") == []
    assert sequences(ledger, "nobody") == []


def test_a_ledger_spans_many_blocks_in_one_change(installation):
    ledger = installation.stores.ledger
    wanted = [1, *(n * BLOCK + 3 for n in range(60))]
    ledger.record([change(*wanted)])
    assert sequences(ledger) == sorted(wanted)
    (head,) = ledger.heads("van-1")
    assert head.received == len(wanted)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(BLOCK - 9, BLOCK + 9), min_size=1), max_size=6),
)
def test_a_ledger_is_what_the_pure_one_is(installation, batches):
    vehicle = next(_fresh)
    ledger, head, blocks = installation.stores.ledger, RunHead(RUN), {0: Ranges(), 1: Ranges()}
    for number, batch in enumerate(batches):
        one = Change(
            str(vehicle), RUN, NOW_MS + number, arrivals(*batch, received_ms=NOW_MS + number)
        )
        ledger.record([one])
        apply(head, blocks, one)
    assert ledger.heads(str(vehicle)) == ([head] if batches else [])
    assert list(ledger.ranges(str(vehicle), RUN)) == [*blocks[0], *blocks[1]]


def test_enrich_books_samples_events_batches_and_statuses(installation):
    handle = enrich.build(installation.stores)
    dropped = {
        "reason": "expired",
        "messages": 1,
        "total_messages": 1,
        "run_id": RUN,
        "first_sequence": 6,
        "last_sequence": 6,
    }
    batch = selected_batch(encode_batch_rows([kinesis.sample(sequence=n) for n in (3, 4)]))
    data = lambda_event(
        selected(kinesis.sample(sequence=1)),
        selected(kinesis.event(sequence=2, event_type="dropped", details=dropped)),
        batch,
        selected(kinesis.sample(sequence=7)),
        selected(
            status(
                last_sequence=9,
                backlog_messages=2,
                previous_run={"run_id": "bbbbbbbb", "last_sequence": 3, "unflushed_s": 0.0},
                drops=[{"run_id": "bbbbbbbb", "reason": "thinned", "total_messages": 2}],
            )
        ),
    )
    for _ in range(2):
        assert failed(handle(data, None)) == []
    old, new = accounts(installation.stores.ledger)
    assert (old.head.run_id, old.causes()) == ("bbbbbbbb", {"thinned": 2, "unexplained": 1})
    assert (new.head.samples, new.head.events, new.head.duplicates) == (4, 1, 0)
    assert new.causes() == {"expired": 1, "waiting": 2, "unexplained": 1}
    assert installation.letters() == []


def test_a_broken_status_is_passed_over_and_the_rest_is_booked(installation):
    handle = enrich.build(installation.stores)
    broken = selected(status(backlog_messages=-1))
    foreign = selected(status(), topic_vehicle_id="van-2")
    assert failed(handle(lambda_event(broken, foreign, selected(kinesis.sample())), None)) == []
    assert sequences(installation.stores.ledger) == [1]
    assert accounts(installation.stores.ledger, "van-2") == []


def test_a_ledger_that_fails_brings_the_records_again_and_counts_them_once(installation):
    stores = installation.stores
    flaky = Flaky(stores.ledger, broken=True)
    handle = enrich.Enrich(
        stores.hot, flaky, stores.register, stores.dead_letters, installation.clock
    )
    data = lambda_event(*(selected(kinesis.sample(sequence=n)) for n in (1, 2)))
    assert failed(handle(data, None)) == [kinesis.number(0)]
    flaky.broken = False
    assert failed(handle(data, None)) == []
    (head,) = stores.ledger.heads("van-1")
    assert (head.received, head.duplicates) == (2, 0)


def test_two_functions_that_change_a_run_at_once_lose_nothing(on_aws):
    client = boto3.client("dynamodb")

    class Interrupted:
        """Another function's change comes between the first reading and writing."""

        def __getattr__(self, name):
            return getattr(client, name)

        def transact_write_items(self, **request):
            nonlocal interrupted
            if not interrupted:
                interrupted = True
                on_aws.stores.ledger.record([change(1, 2, 3)])
            return client.transact_write_items(**request)

    interrupted = False
    DynamoLedgerStore(Interrupted(), "runs", on_aws.clock).record([change(3, 4)])
    assert sequences(on_aws.stores.ledger) == [1, 2, 3, 4]
    (head,) = on_aws.stores.ledger.heads("van-1")
    assert head.received == 4


def test_a_table_that_is_not_there_is_a_store_error(on_aws, aws):
    ledger = aws_stores({**aws, "RUNS_TABLE": "nowhere"}, on_aws.clock).ledger
    with pytest.raises(StoreError, match="nowhere"):
        ledger.record([change(1)])
    with pytest.raises(StoreError, match="nowhere"):
        ledger.heads("van-1")


def test_a_history_from_before_the_ledger_is_booked_when_it_is_opened(tmp_path):
    connection = sqlite3.connect(tmp_path / "milepost.db")
    create_tables(connection)
    connection.executemany(
        "INSERT INTO history (vehicle_id, run_id, sequence, kind, timestamp_ms, received_ms,"
        " last_received_ms, deliveries, payload) VALUES ('van-1', ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                RUN,
                n,
                "event" if n == 2 else "sample",
                NOW_MS,
                NOW_MS + 70_000,
                NOW_MS,
                deliveries,
                json.dumps({"time_quality": quality}),
            )
            for n, deliveries, quality in ((1, 1, "gps"), (2, 3, "gps"), (5, 1, "unsynced"))
        ],
    )
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    stores = SqliteStores.open(tmp_path)
    (head,) = stores.ledger.heads("van-1")
    assert (head.samples, head.events, head.duplicates, head.untimed) == (2, 1, 2, 1)
    assert head.late(60) == 2
    assert sequences(stores.ledger) == [1, 2, 5]
    stores.close()
