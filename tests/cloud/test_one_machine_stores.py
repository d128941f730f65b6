"""What only one machine has: the queries, the counts, many threads and processes."""

import json
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.accounting.ranges import gaps
from cloud.errors import ConfigError, StoreError
from cloud.handlers import archive, detect_anomalies, enrich, track_position
from cloud.stores.cache import CachedRegister
from cloud.stores.database import Database
from cloud.stores.files import FileArchive
from cloud.stores.queries import Queries
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import SqliteStores
from contract import encode_batch_rows
from tests.fakes import kinesis
from tests.fakes.clock import FakeClock
from tests.fakes.kinesis import Flaky, failed, lambda_event, selected, selected_batch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queries(on_one_machine):
    opened = Queries.open(on_one_machine.stores.data_dir, on_one_machine.stores.register)
    yield opened
    opened.close()


def test_the_report_accounts_for_everything_that_arrived(on_one_machine, queries):
    stores = on_one_machine.stores
    handlers = [
        module.build(stores) for module in (enrich, detect_anomalies, track_position, archive)
    ]
    rows = [
        selected(kinesis.sample(sequence=n, location=kinesis.at(50.1, 8.7), battery={"percent": 9}))
        for n in (1, 2, 5, 9)
    ]
    again = selected(kinesis.sample(sequence=2), received_at_ms=kinesis.RECEIVED_MS + 1000)
    other = selected(kinesis.sample(sequence=1, run_id="aaaaaaaa"))
    events = [selected(kinesis.event(sequence=3)), selected(kinesis.event(sequence=4))]
    batch = selected_batch(encode_batch_rows([kinesis.sample("van-2", n) for n in (1, 2)]), "van-2")
    data = lambda_event(*rows, again, other, *events, batch, b"poison")
    for _ in range(2):  # the stream's own retry is no delivery
        for handle in handlers:
            assert failed(handle(data, None)) == []
    stores.count_received({"van-1": (7, 3500), "van-3": (1, 10)})
    stores.count_received({"van-1": (1, 500)})
    stores.put_status(
        "van-1",
        {"vehicle_id": "van-1", "state": "online", "mode": "in_trip", "backlog_messages": 12},
    )
    report = queries.report()
    json.dumps(report)
    one, two, three = report["vehicles"]
    assert one == {
        "vehicle_id": "van-1",
        "samples_stored": 5,
        "events_stored": 2,
        "samples_duplicated": 1,
        "deliveries": 8,
        "missing": {kinesis.RUN: 3, "aaaaaaaa": 0},
        "runs": {
            kinesis.RUN: {"min_sequence": 1, "max_sequence": 9, "stored": 6},
            "aaaaaaaa": {"min_sequence": 1, "max_sequence": 1, "stored": 1},
        },
        "bytes_received": 4000,
        "state": "online",
        "mode": "in_trip",
        "backlog_messages": 12,
        "account": {
            "runs": 2,
            "samples": 5,
            "events": 2,
            "received": 7,
            "missing": 3,
            "waiting": 0,
            "dropped": 0,
            "unexplained": 3,
            "late": 0,
            "duplicates": 1,
            "causes": {"unexplained": 3},
        },
    }
    assert (two["vehicle_id"], two["samples_stored"], two["state"]) == ("van-2", 2, None)
    assert (three["vehicle_id"], three["samples_stored"], three["bytes_received"]) == (
        "van-3",
        0,
        10,
    )
    assert report["latency_ms"]["count"] == 1
    assert report["latency_ms"]["p50"] == report["latency_ms"]["p99"]
    (alert,) = report["alerts"]
    assert (alert["kind"], alert["resolved_at"], alert["detail"]) == ("battery_low", None, "9 %")
    assert report["archive_rows"] == 9
    assert report["dead_letters"] == 1
    assert gaps(queries.ledger.ranges("van-1", kinesis.RUN), 9)[0][:2] == (6, 8)


def test_an_empty_installation_reports_nothing(queries):
    assert queries.report() == {
        "vehicles": [],
        "latency_ms": {"p50": None, "p95": None, "p99": None, "count": 0},
        "alerts": [],
        "archive_rows": 0,
        "dead_letters": 0,
    }
    assert queries.vehicles() == []


@given(st.sets(st.integers(1, 60), min_size=1))
def test_missing_sequences_are_exactly_the_gaps(tmp_path_factory, stored):
    stores = SqliteStores.open(tmp_path_factory.mktemp("gaps"))
    handle = enrich.build(stores)
    handle(lambda_event(*(selected(kinesis.sample(sequence=n)) for n in stored)), None)
    queries = Queries.open(stores.data_dir)
    found = gaps(queries.ledger.ranges("van-1", kinesis.RUN), max(stored))
    missing = {n for gap in found for n in range(gap.first, gap.last + 1)}
    assert missing == set(range(1, max(stored) + 1)) - stored
    (vehicle,) = queries.report()["vehicles"]
    assert vehicle["missing"] == {kinesis.RUN: len(missing)}
    queries.close()
    stores.close()


def test_the_map_sees_every_vehicle_as_it_is_now(on_one_machine, queries):
    stores = on_one_machine.stores
    row = kinesis.sample(location=kinesis.at(50.1, 8.7), battery={"percent": 9})
    for module in (detect_anomalies, track_position):
        module.build(stores)(lambda_event(selected(row)), None)
    stores.put_status("van-1", {"state": "offline"})
    stores.put_status("van-1", {"state": "online", "mode": "normal", "software_version": "0.1.0"})
    stores.put_status("van-0", {"state": "offline"})
    silent, van = queries.vehicles()
    assert (silent["vehicle_id"], silent["position"], silent["open_alerts"]) == ("van-0", None, [])
    assert (van["name"], van["vehicle_type"], van["state"]) == ("Van 1", "electric_van", "online")
    assert (van["position"]["lat"], van["position"]["battery_percent"]) == (50.1, 9)
    assert [one["kind"] for one in van["open_alerts"]] == ["battery_low"]
    assert queries.alerts(open_only=True) == queries.alerts() == van["open_alerts"]
    assert [one["state"] for one in queries.statuses()] == ["offline", "online"]


def test_the_trail_is_in_order_of_time_with_late_samples_in_their_place(on_one_machine, queries):
    handle = enrich.build(on_one_machine.stores)
    for n in (1, 2, 6, 3):
        row = kinesis.sample(
            sequence=n, timestamp=f"2025-01-15T14:00:0{n}.000Z", location=kinesis.at(50 + n, 8)
        )
        handle(lambda_event(selected(row)), None)
    since = datetime(2025, 1, 15, 14, 0, 2, tzinfo=UTC)
    assert [lat for _, lat, _ in queries.trail("van-1", since=since)] == [52, 53, 56]
    assert len(queries.trail("van-1", since=since - timedelta(hours=1), every_s=5)) == 2


def test_the_history_lists_every_identity_with_its_deliveries(on_one_machine, queries):
    handle = enrich.build(on_one_machine.stores)
    handle(lambda_event(selected(kinesis.sample(sequence=2)), selected(kinesis.event())), None)
    later = selected(kinesis.sample(sequence=2), received_at_ms=kinesis.RECEIVED_MS + 1)
    handle(lambda_event(later), None)
    first, second = queries.history("van-1")
    message = second.pop("message")
    assert (message["vehicle_id"], message["sequence"]) == ("van-1", 2)
    assert message["run_id"] == kinesis.RUN
    assert (first["kind"], first["sequence"], first["deliveries"]) == ("event", 1, 1)
    assert second == {
        "kind": "sample",
        "run_id": kinesis.RUN,
        "sequence": 2,
        "timestamp": "2025-01-15T14:32:18.123Z",
        "received_at": "2025-01-15T14:32:20.000Z",
        "deliveries": 2,
    }


def test_a_long_history_is_read_in_pages(on_one_machine, queries):
    handle = enrich.build(on_one_machine.stores)
    rows = [kinesis.sample(sequence=n) for n in range(1, 5002)]
    for start in (0, 4000):
        batch = encode_batch_rows(rows[start : start + 4000])
        handle(lambda_event(selected_batch(batch)), None)
    assert [one["sequence"] for one in queries.history("van-1")] == list(range(1, 5002))


def test_a_directory_without_data_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no data in .*nowhere"):
        Queries.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_is_no_database_or_a_newer_one_is_refused(tmp_path):
    (tmp_path / "milepost.db").write_bytes(b"no database at all, but long enough to be read" * 50)
    with pytest.raises(ConfigError, match=r"milepost\.db"):
        SqliteStores.open(tmp_path)
    newer = tmp_path / "newer"
    SqliteStores.open(newer).close()
    connection = sqlite3.connect(newer / "milepost.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="newer version"):
        SqliteStores.open(newer)


def test_a_failed_migration_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "x.db"
    Database(path, [lambda c: c.execute("CREATE TABLE a (x)")], create=True).close()

    def breaks(connection):
        connection.execute("CREATE TABLE b (x)")
        connection.execute("NOT SQL")

    with pytest.raises(ConfigError):
        Database(path, [lambda c: None, breaks], create=True)
    again = Database(path, [lambda c: None, lambda c: None], create=True)
    assert again.read("SELECT name FROM sqlite_master") == [("a",)]
    assert again.read("PRAGMA user_version") == [(2,)]
    again.close()


def test_a_write_that_fails_is_a_store_error_and_stores_nothing(on_one_machine):
    stores = on_one_machine.stores
    rows = [("a", 1, 1), ("a", 1, 1)]
    with pytest.raises(StoreError), stores.database.write() as connection:
        connection.executemany("INSERT INTO traffic VALUES (?, ?, ?)", rows)
    assert stores.database.read("SELECT * FROM traffic") == []


def test_a_full_disk_is_a_store_error_and_the_rest_goes_on(on_one_machine):
    stores = on_one_machine.stores
    handle = enrich.build(stores)
    pages = stores.database.read("PRAGMA page_count")[0][0]
    stores.database.read(f"PRAGMA max_page_count = {pages + 2}")
    data = lambda_event(
        *(selected(kinesis.sample(sequence=n, pad="x" * 900)) for n in range(1, 99))
    )
    assert failed(handle(data, None)) == [kinesis.number(0)]
    stores.database.read("PRAGMA max_page_count = 1000000")
    assert failed(handle(data, None)) == []
    assert len(on_one_machine.history("van-1")) == 98


def test_four_consumers_write_while_others_read(on_one_machine, queries):
    stores = on_one_machine.stores
    events = [
        lambda_event(
            *(
                selected(
                    kinesis.sample(
                        sequence=n,
                        timestamp=f"2025-01-15T14:{n // 60:02d}:{n % 60:02d}.000Z",
                        location=kinesis.at(50.1, 8.7),
                        battery={"percent": 9 if n % 2 else 60},
                    ),
                    received_at_ms=kinesis.RECEIVED_MS + 10_000_000,
                )
                for n in range(start, start + 20)
            ),
            first=start,
        )
        for start in range(1, 400, 20)
    ]
    problems = []

    def consume(module):
        handle = module.build(stores)
        try:
            for one in events:
                problems.extend(failed(handle(one, None)))
        except Exception as error:  # noqa: BLE001  told to the test's thread
            problems.append(error)

    threads = [
        threading.Thread(target=consume, args=(module,), name=module.__name__)
        for module in (enrich, detect_anomalies, track_position, archive)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        queries.report()
        queries.vehicles()
    for thread in threads:
        thread.join()
    assert problems == []
    report = queries.report()
    assert report["vehicles"][0]["samples_stored"] == 400
    assert report["archive_rows"] == 400
    assert len(report["alerts"]) == 200


def test_several_processes_open_and_fill_one_directory(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from cloud.handlers import enrich\n"
        "from cloud.stores.sqlite import SqliteStores\n"
        "from tests.fakes.kinesis import lambda_event, sample, selected\n"
        "stores = SqliteStores.open(pathlib.Path(sys.argv[1]))\n"
        "handle = enrich.build(stores)\n"
        "for n in range(1, 101):\n"
        "    answer = handle(lambda_event(selected(sample(sys.argv[2], n))), None)\n"
        "    assert answer == {'batchItemFailures': []}, answer\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "data"), f"v{n}"], cwd=ROOT)
        for n in range(3)
    ]
    assert [one.wait(timeout=60) for one in running] == [0, 0, 0]
    queries = Queries.open(tmp_path / "data")
    report = queries.report()
    queries.close()
    assert [one["samples_stored"] for one in report["vehicles"]] == [100, 100, 100]


def test_closing_twice_is_nothing_and_a_closed_store_says_so(tmp_path):
    stores = SqliteStores.open(tmp_path)
    stores.close()
    stores.close()
    with pytest.raises(StoreError):
        stores.put_status("van-1", {})


@pytest.mark.parametrize("key", ["../out.parquet", "/etc/x", "", "a/../../b"])
def test_no_key_leads_out_of_the_archive(tmp_path, key):
    with pytest.raises(StoreError, match="no place"):
        FileArchive(tmp_path / "archive").put(key, b"x")
    assert not list(tmp_path.iterdir())


def test_an_archive_that_cannot_be_written_is_a_store_error(tmp_path):
    (tmp_path / "archive").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot write"):
        FileArchive(tmp_path / "archive").put("a/b.parquet", b"x")


def test_a_damaged_parquet_file_is_named(tmp_path):
    FileArchive(tmp_path).put("a/b.parquet", b"damaged")
    with pytest.raises(StoreError, match=r"b\.parquet"):
        FileArchive(tmp_path).rows()


def test_migrations_are_only_ever_appended():
    assert [one.__name__ for one in MIGRATIONS][:1] == ["create_tables"]


# ---------------------------------------------------------------- the cached register


def test_the_register_is_asked_once_until_the_answer_runs_out(on_one_machine):
    clock = FakeClock()
    register = Flaky(on_one_machine.stores.register)
    cached = CachedRegister(register, clock, ttl_s=300, negative_ttl_s=30)
    for _ in range(3):
        assert cached.find("van-1").vehicle_type == "electric_van"
        assert cached.find("van-9") is None
    assert len(register.calls) == 2
    clock.advance(31)
    cached.find("van-1")
    cached.find("van-9")
    assert [args for _, args in register.calls[2:]] == [("van-9",)]
    clock.advance(300)
    cached.find("van-1")
    assert len(register.calls) == 4


def test_the_cache_is_bounded_and_forgets_the_one_asked_for_longest_ago(on_one_machine):
    register = Flaky(on_one_machine.stores.register)
    cached = CachedRegister(register, FakeClock(), max_entries=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        cached.find(name)
    assert [args[0] for _, args in register.calls] == ["a", "b", "c", "b"]


def test_a_register_that_fails_is_bridged_by_what_was_known(on_one_machine):
    clock = FakeClock()
    register = Flaky(on_one_machine.stores.register)
    cached = CachedRegister(register, clock, ttl_s=10)
    cached.find("van-1")
    register.broken = True
    clock.advance(11)
    assert cached.find("van-1").vehicle_type == "electric_van"
    with pytest.raises(StoreError):
        cached.find("van-2")
