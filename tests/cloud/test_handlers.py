"""The handlers with real event shapes, on every implementation of the stores."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import ConfigError, StoreError
from cloud.geo import geohash_zone
from cloud.handlers import archive, detect_anomalies, enrich, track_position
from cloud.handlers.archive_schema import SAMPLES, Row, to_parquet, unknown_fields
from contract import decode_sample, encode_batch_rows
from tests.fakes import kinesis
from tests.fakes.kinesis import Flaky, failed, lambda_event, selected, selected_batch
from tests.fakes.seed import SEED


def tick(sequence, second, vehicle_id="van-1", **groups):
    return kinesis.sample(vehicle_id, sequence, f"2025-01-15T14:32:{second:06.3f}Z", **groups)


def place(lat, lon=8.7, **more):
    return {"location": kinesis.at(lat, lon, **more)}


# ---------------------------------------------------------------- enrich


def test_enrich_adds_zone_and_type_and_stores_samples_and_events(installation):
    handle = enrich.build(installation.stores)
    rows = [tick(1, 1, **place(57.64911, 10.40744)), tick(2, 2)]
    data = [*map(selected, rows), selected(kinesis.event(sequence=3))]
    batch = [tick(n, 3, "van-9", **place(50.1105, 8.6821)) for n in (1, 2)]
    data.append(selected_batch(encode_batch_rows(batch), "van-9"))
    assert failed(handle(lambda_event(*data), None)) == []
    first, second, event = sorted(installation.history("van-1"), key=lambda one: one["sequence"])
    assert first["payload"] == rows[0]
    assert (first["vehicle_type"], first["geohash_zone"]) == ("electric_van", "u4pruyd")
    assert (second["geohash_zone"], event["kind"]) == (None, "event")
    assert [one["vehicle_type"] for one in installation.history("van-9")] == ["unknown"] * 2
    assert installation.letters() == []


def test_the_same_event_twice_changes_nothing(installation):
    data = lambda_event(
        selected(tick(1, 1, **place(50.1), battery={"percent": 5})),
        selected(kinesis.event(sequence=2)),
        b"poison",
    )
    handlers = [
        module.build(installation.stores)
        for module in (enrich, detect_anomalies, track_position, archive)
    ]
    for handle in handlers:
        assert failed(handle(data, None)) == []

    def everything():
        return [
            installation.history("van-1"),
            installation.position("van-1"),
            installation.letters(),
            installation.told(),
            installation.objects(),
        ]

    before = everything()
    for handle in handlers:
        assert failed(handle(data, None)) == []
    assert everything() == before
    assert before[3] == ["battery_low opened"]
    assert len(before[2]) == 1


def test_only_enrich_keeps_dead_letters(installation):
    data = lambda_event(
        selected(tick(1, 1, **place(191))),
        selected(tick(2, 1), "van-2"),
        selected_batch(encode_batch_rows([tick(3, 1), tick(4, 1, **place(-91))])),
        selected(tick(5, 1)),
    )
    for module in (detect_anomalies, track_position, archive):
        assert failed(module.build(installation.stores)(data, None)) == []
    assert installation.letters() == []
    assert failed(enrich.build(installation.stores)(data, None)) == []
    assert sorted((one["topic"], one["field"]) for one in installation.letters()) == [
        ("telemetry/van-1", "location.lat"),
        ("telemetry/van-1/batch", "batch.1.location.lat"),
        ("telemetry/van-2", "vehicle_id"),
    ]
    assert [one["sequence"] for one in installation.history("van-1")] == [3, 5]


@pytest.mark.parametrize("port", ["hot", "dead_letters", "register"])
def test_a_failed_store_brings_the_records_again_and_then_all_is_stored(installation, port):
    flaky = Flaky(getattr(installation.stores, port), broken=True)
    handle = enrich.build(replace(installation.stores, **{port: flaky}))
    data = lambda_event(selected(tick(1, 1)), b"poison", selected(tick(2, 1)), first=7)
    assert failed(handle(data, None)) == [kinesis.number(7)]
    flaky.broken = False
    assert failed(handle(data, None)) == []
    assert [one["sequence"] for one in installation.history("van-1")] == [1, 2]
    assert len(installation.letters()) == 1


def test_a_failure_late_in_a_large_event_names_the_first_record_not_stored(on_one_machine):
    class FailsSecond:
        calls = 0

        def put_samples(self, samples):
            self.calls += 1
            if self.calls == 2:
                raise StoreError("disk full")
            on_one_machine.stores.hot.put_samples(samples)

    handle = enrich.build(replace(on_one_machine.stores, hot=FailsSecond()))
    data = lambda_event(*(selected(tick(n, 1)) for n in range(1, 1501)))
    assert failed(handle(data, None)) == [kinesis.number(1000)]
    assert len(on_one_machine.history("van-1")) == 1000


# ---------------------------------------------------------------- positions


def test_the_position_follows_the_newest_sample_and_measures_its_latency(on_one_machine):
    stores = on_one_machine.stores
    handle = track_position.build(stores)
    on_one_machine.clock.step_utc(
        (datetime(2025, 1, 15, 14, 32, 20, tzinfo=UTC) - on_one_machine.clock.utc()).total_seconds()
    )
    rows = [tick(1, 17, **place(50.1)), tick(3, 19, **place(50.3)), tick(2, 18, **place(50.2))]
    handle(lambda_event(*map(selected, rows)), None)
    assert on_one_machine.position("van-1")["lat"] == 50.3
    handle(lambda_event(selected(tick(9, 18.5, **place(50.9)))), None)
    assert on_one_machine.position("van-1")["lat"] == 50.3
    buckets = stores.database.read("SELECT SUM(count), COUNT(*) FROM metric_buckets")
    assert buckets == [(1, 1)]


def test_the_position_has_what_the_map_shows(installation):
    row = kinesis.full_sample()
    track_position.build(installation.stores)(lambda_event(selected(row)), None)
    shown = installation.position("12345")
    assert (shown["speed_kmh"], shown["heading"], shown["battery_percent"]) == (18.5, 245, 68)
    assert (shown["charging"], shown["trip_id"]) == (False, SEED["vehicle_status"]["trip_id"])


def test_a_sample_from_the_future_or_without_a_place_does_not_move_the_vehicle(installation):
    handle = track_position.build(installation.stores)
    rows = [
        tick(1, 1, **place(50.1)),
        kinesis.sample(sequence=2, timestamp="2030-01-01T00:00:00Z", **place(50.2)),
        tick(3, 3),
    ]
    handle(lambda_event(*map(selected, rows)), None)
    assert installation.position("van-1")["lat"] == 50.1


def test_positions_that_could_not_be_stored_come_again(installation):
    positions = Flaky(installation.stores.positions, broken=True)
    handle = track_position.build(replace(installation.stores, positions=positions))
    data = lambda_event(
        b"poison", selected(tick(1, 1, "b", **place(50.1))), selected(tick(1, 1, "a", **place(50)))
    )
    assert failed(handle(data, None)) == [kinesis.number(1)]
    positions.broken = False
    assert failed(handle(data, None)) == []
    assert installation.position("a")["lat"] == 50


def test_a_lost_metric_does_not_bring_records_again(installation):
    metrics = Flaky(installation.stores.metrics, broken=True)
    handle = track_position.build(replace(installation.stores, metrics=metrics))
    assert failed(handle(lambda_event(selected(tick(1, 1, **place(50)))), None)) == []
    assert installation.position("van-1")["lat"] == 50


# ---------------------------------------------------------------- archive


def read_archive(installation, dataset):
    tables = [
        pq.read_table(io.BytesIO(content))
        for key, content in sorted(installation.objects().items())
        if key.startswith(dataset)
    ]
    return [row for table in tables for row in table.to_pylist()]


def test_the_archive_is_partitioned_by_the_hour_of_the_sample(installation):
    rows = [
        kinesis.sample(sequence=1, timestamp="2025-01-15T13:59:59.999Z"),
        kinesis.sample(sequence=2, timestamp="2025-01-15T14:00:00.000Z"),
        kinesis.sample(sequence=3, timestamp="2024-12-31T23:30:00.000Z"),
    ]
    data = lambda_event(*map(selected, rows), selected(kinesis.event(sequence=4)))
    assert failed(archive.build(installation.stores)(data, None)) == []
    name = f"shardId-000000000000-{kinesis.number(0)}.parquet"
    assert set(installation.objects()) == {
        f"samples/year=2025/month=01/day=15/hour=13/{name}",
        f"samples/year=2025/month=01/day=15/hour=14/{name}",
        f"samples/year=2024/month=12/day=31/hour=23/{name}",
        f"events/year=2025/month=01/day=15/hour=14/{name}",
    }


def test_every_field_of_a_sample_is_read_back(installation):
    row = kinesis.full_sample(new={"x": 1})
    row["battery"]["cycles"] = 12
    archive.build(installation.stores)(lambda_event(selected(row)), None)
    (stored,) = read_archive(installation, "samples")
    assert json.loads(stored.pop("signals")) == row["signals"]
    assert json.loads(stored.pop("unknown_fields")) == {"new": {"x": 1}, "battery": {"cycles": 12}}
    assert stored == {
        "vehicle_id": "12345",
        "run_id": kinesis.RUN,
        "sequence": 1,
        "timestamp": datetime(2025, 1, 15, 14, 32, 18, 123000, tzinfo=UTC),
        "time_quality": "gps",
        "received_at": datetime(2025, 1, 15, 14, 32, 20, tzinfo=UTC),
        "schema_version": 1,
        "lat": 50.1105,
        "lon": 8.6821,
        "altitude_m": 112.5,
        "accuracy_m": 5.2,
        "fix_time": None,
        "fix_mode": "3d",
        "satellites": 9,
        "hdop": 0.9,
        "battery_percent": 68.0,
        "battery_voltage_v": 48.2,
        "battery_current_a": 3.5,
        "battery_temperature_c": 32.1,
        "battery_charging": False,
        "speed_kmh": 18.5,
        "heading_deg": 245.0,
        "acceleration_x_mps2": 0.2,
        "acceleration_y_mps2": -0.1,
        "acceleration_z_mps2": 9.8,
        "locked": False,
        "in_use": True,
        "trip_id": SEED["vehicle_status"]["trip_id"],
        "odometer_km": 2458.0,
        "last_maintenance_km": 2100.0,
        "error_codes": ["P0420"],
    }


def test_events_have_a_dataset_of_their_own(installation):
    row = kinesis.event(
        sequence=7, event_type="dropped", trip_id="t", details={"count": 3, "reason": "age"}
    )
    archive.build(installation.stores)(lambda_event(selected(row)), None)
    (stored,) = read_archive(installation, "events")
    assert (stored["event_type"], stored["trip_id"], stored["sequence"]) == ("dropped", "t", 7)
    assert json.loads(stored["details"]) == {"count": 3, "reason": "age"}
    assert read_archive(installation, "samples") == []


@pytest.mark.parametrize("kind", ["budget_near", "budget_reached", "budget_restored"])
def test_a_budgets_event_goes_through_every_handler(installation, kind):
    details = {"budget": "data", "stage": "reached", "cap_mb": 20.0, "used_mb": 20.004}
    row = kinesis.event(sequence=7, event_type=kind, details=details | {"day": "2026-03-01"})
    event = lambda_event(selected(row))
    for handler in (archive, detect_anomalies, enrich, track_position):
        assert handler.build(installation.stores)(event, None) == {"batchItemFailures": []}
    (stored,) = read_archive(installation, "events")
    assert stored["event_type"] == kind
    assert json.loads(stored["details"]) == details | {"day": "2026-03-01"}


def test_a_retried_batch_replaces_what_it_wrote_even_when_it_has_grown(installation):
    handle = archive.build(installation.stores)
    rows = [selected(tick(n, n)) for n in range(1, 6)]
    handle(lambda_event(*rows[:3]), None)
    handle(lambda_event(*rows), None)
    assert [one["sequence"] for one in read_archive(installation, "samples")] == [1, 2, 3, 4, 5]


def test_an_archive_that_fails_between_two_hours_leaves_no_duplicates(on_one_machine):
    stores = on_one_machine.stores

    class FullAfterOne:
        left = 1

        def put(self, key, content):
            if not self.left:
                Flaky(stores.archive, broken=True).put(key, content)
            self.left -= 1
            stores.archive.put(key, content)

    rows = [
        kinesis.sample(sequence=n, timestamp=f"2025-01-15T{12 + n}:00:00.000Z") for n in (1, 2, 3)
    ]
    data = lambda_event(*map(selected, rows), first=3)
    handle = archive.build(replace(stores, archive=FullAfterOne()))
    assert failed(handle(data, None)) == [kinesis.number(3)]
    assert stores.archive.rows() == 1
    assert failed(archive.build(stores)(data, None)) == []
    assert stores.archive.rows() == 3


def test_the_archive_on_disk_is_a_dataset_with_partition_columns(on_one_machine):
    stores = on_one_machine.stores
    handle = archive.build(stores)
    rows = [
        kinesis.sample(sequence=n, timestamp=f"2025-01-15T{n:02d}:30:00.000Z", **place(50.0 + n))
        for n in range(24)
        if n
    ]
    handle(lambda_event(*map(selected, rows[:12])), None)
    handle(lambda_event(*map(selected, rows[12:]), first=12), None)
    dataset = ds.dataset(stores.data_dir / "archive" / "samples", partitioning="hive")
    assert dataset.count_rows() == 23
    found = dataset.to_table(filter=(ds.field("day") == 15) & (ds.field("hour") >= 20))
    assert sorted(found["sequence"].to_pylist()) == [20, 21, 22, 23]
    fragments = list(dataset.get_fragments(filter=ds.field("hour") == 7))
    assert len(fragments) == 1
    column = fragments[0].metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_an_event_without_anything_valid_writes_no_object(installation):
    assert failed(archive.build(installation.stores)(lambda_event(b"?"), None)) == []
    assert failed(archive.build(installation.stores)({"Records": []}, None)) == []
    assert installation.objects() == {}


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "location": st.fixed_dictionaries(
                    {"lat": st.floats(-90, 90), "lon": st.floats(-180, 180)},
                    optional={"altitude": st.none() | st.floats(-100, 9000)},
                ),
                "battery": st.fixed_dictionaries({}, optional={"percent": st.floats(0, 100)}),
                "signals": st.dictionaries(
                    st.text(min_size=1, max_size=5).filter(lambda t: t.isprintable()),
                    st.booleans() | st.integers() | st.text(max_size=9),
                    max_size=4,
                ),
                "extra": st.none() | st.lists(st.integers(), max_size=2),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_samples_survive_parquet(groups):
    samples = [
        decode_sample(json.dumps(kinesis.sample(sequence=n, **one)))
        for n, one in enumerate(groups, start=1)
    ]
    now = datetime(2025, 1, 1, tzinfo=UTC)
    content = to_parquet([Row(one, now) for one in samples], SAMPLES)
    for row, one in zip(pq.read_table(io.BytesIO(content)).to_pylist(), samples, strict=True):
        assert row["sequence"] == one.sequence
        assert row["lat"] == (None if one.location is None else one.location.lat)
        assert json.loads(row["signals"] or "{}") == (one.signals or {})
        assert json.loads(row["unknown_fields"] or "{}") == unknown_fields(one)


# ---------------------------------------------------------------- entry points


@pytest.mark.parametrize("module", [enrich, detect_anomalies, track_position, archive])
def test_an_entry_point_names_the_variable_that_it_lacks(module, monkeypatch, aws):
    module.handler._handler = None
    with pytest.raises(ConfigError, match=r"the environment lacks [A-Z_]+"):
        module.handler(lambda_event(selected(tick(1, 1))), None)


def test_the_entry_points_compose_themselves_from_the_environment(on_aws, aws, monkeypatch):
    for variable, value in aws.items():
        monkeypatch.setenv(variable, value)
    data = lambda_event(selected(tick(1, 1, **place(50.5), battery={"percent": 3})))
    for module in (enrich, detect_anomalies, track_position, archive):
        module.handler._handler = None
        try:
            assert failed(module.handler(data, None)) == []
        finally:
            module.handler._handler = None
    assert len(on_aws.history("van-1")) == 1
    assert on_aws.position("van-1")["lat"] == 50.5
    assert on_aws.told() == ["battery_low opened"]
    assert len(on_aws.objects()) == 1


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_on_earth_has_a_zone(lat, lon):
    zone = geohash_zone(lat, lon)
    assert len(zone) == 7
    assert set(zone) <= set("0123456789bcdefghjkmnpqrstuvwxyz")
