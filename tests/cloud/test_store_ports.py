"""One suite for every port, run on every implementation."""

import io
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.clock import from_milliseconds, milliseconds
from cloud.ports import (
    Alert,
    AlertKind,
    Condition,
    DeadLetter,
    Position,
    ReceivedEvent,
    Vehicle,
)
from cloud.stores.emf import EmfMetrics
from cloud.stores.histogram import bucket_of, percentile, value_of
from contract import Location, decode_event
from tests.fakes import kinesis
from tests.fakes.kinesis import enriched_sample

_fresh = itertools.count()
NOON = datetime(2025, 1, 15, 12, 0, 0, tzinfo=UTC)


def enriched(row, received_at=NOON, zone="u0yjjd1"):
    return enriched_sample(row, received_at, zone)


def position(second=0, lat=50.1, **more):
    return Position(
        vehicle_id=more.pop("vehicle_id", "van-1"),
        timestamp=NOON + timedelta(seconds=second),
        location=Location(lat=lat, lon=8.7),
        run_id=kinesis.RUN,
        sequence=1,
        **more,
    )


def test_the_hot_store_keeps_a_sample_once_and_whole(installation):
    row = kinesis.full_sample(future={"x": [1, None]})
    installation.stores.hot.put_samples([enriched(row), enriched(row)])
    installation.stores.hot.put_samples([enriched(row)])
    (stored,) = installation.history("12345")
    assert stored == {
        "kind": "sample",
        "sequence": 1,
        "payload": row,
        "vehicle_type": "electric_van",
        "geohash_zone": "u0yjjd1",
        "event_type": None,
    }


def test_the_hot_store_keeps_events_beside_samples(installation):
    event = decode_event(json.dumps(kinesis.event(sequence=2, details={"distance_km": 1.5})))
    installation.stores.hot.put_events([ReceivedEvent(event, NOON)] * 2)
    installation.stores.hot.put_samples([enriched(kinesis.sample(sequence=1), zone=None)])
    first, second = installation.history("van-1")
    assert (first["kind"], first["geohash_zone"]) == ("sample", None)
    assert (second["kind"], second["event_type"]) == ("event", "trip_started")
    assert second["payload"]["details"] == {"distance_km": 1.5}


def test_the_hot_store_takes_more_than_one_request_holds(installation):
    rows = [enriched(kinesis.sample(sequence=n)) for n in range(1, 61)]
    installation.stores.hot.put_samples(rows)
    assert sorted(one["sequence"] for one in installation.history("van-1")) == list(range(1, 61))


def test_the_hot_store_takes_any_number_that_the_contract_takes(installation):
    signals = {"tiny": 1e-300, "huge": 1e300, "long": 2**80, "text": "ü\u2028", "none": ""}
    row = kinesis.sample(location=kinesis.at(1e-200, -0.0), signals=signals)
    installation.stores.hot.put_samples([enriched(row)])
    (stored,) = installation.history("van-1")
    assert stored["payload"]["signals"] == signals


def test_nothing_is_a_valid_amount(installation):
    installation.stores.hot.put_samples([])
    installation.stores.hot.put_events([])
    assert list(installation.stores.positions.put_newest([])) == []
    installation.stores.metrics.observe_all("position_latency_ms", [])


def test_a_position_moves_forward_only(installation):
    store = installation.stores.positions
    assert store.put_if_newer(position(10, 50.10))
    assert not store.put_if_newer(position(10, 50.99))
    assert not store.put_if_newer(position(9.999, 50.98))
    assert installation.position("van-1")["lat"] == 50.10
    assert store.put_if_newer(position(10.001, 50.11, charging=True, battery_percent=7.5))
    stored = installation.position("van-1")
    assert stored["lat"] == 50.11
    assert stored["timestamp"] == "2025-01-15T12:00:10.001Z"
    assert stored["charging"] is True
    assert stored["battery_percent"] == 7.5
    assert "heading" not in stored


def test_several_positions_tell_which_were_stored(installation):
    store = installation.stores.positions
    store.put_if_newer(position(10, vehicle_id="a"))
    stored = store.put_newest([position(5, vehicle_id="a"), position(5, vehicle_id="b")])
    assert [one.vehicle_id for one in stored] == ["b"]


def test_a_position_at_the_origin_of_the_map_can_be_stored(installation):
    assert installation.stores.positions.put_if_newer(position(lat=1e-300))
    assert installation.position("van-1")["lat"] == pytest.approx(0, abs=1e-200)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_whatever_the_order_the_newest_position_stays(installation, seconds):
    vehicle_id = f"any-{next(_fresh)}"
    best = None
    for second in seconds:
        moved = installation.stores.positions.put_if_newer(position(second, vehicle_id=vehicle_id))
        known = installation.position(vehicle_id)["timestamp"]
        best = second if best is None else max(best, second)
        assert known == f"2025-01-15T12:00:{best:02d}.000Z"
        assert moved or second <= best


def condition(second=0, **changes):
    return Condition(
        **{
            "vehicle_id": "van-1",
            "kind": AlertKind.BATTERY_LOW,
            "raised": False,
            "evaluated_at": NOON + timedelta(seconds=second),
            **changes,
        }
    )


ALERT = Alert("abc", "van-1", AlertKind.BATTERY_LOW, NOON, None, "12 %")


def test_a_condition_and_its_alert_come_back_as_they_were_saved(installation):
    alerts = installation.stores.alerts
    assert alerts.condition("van-1", AlertKind.BATTERY_LOW) is None
    assert alerts.alert("van-1", "abc") is None
    raised = condition(raised=True, alert_id="abc", streak=2, unnotified=True)
    assert alerts.save(raised, ALERT)
    assert alerts.condition("van-1", AlertKind.BATTERY_LOW) == raised
    assert alerts.alert("van-1", "abc") == ALERT
    assert alerts.condition("van-1", AlertKind.OUTSIDE_OPERATING_AREA) is None
    assert alerts.condition("van-2", AlertKind.BATTERY_LOW) is None
    resolved = replace(ALERT, resolved_at=NOON + timedelta(seconds=5))
    assert alerts.save(condition(5), resolved)
    assert alerts.alert("van-1", "abc") == resolved


def test_an_older_evaluation_changes_neither_condition_nor_alert(installation):
    alerts = installation.stores.alerts
    assert alerts.save(condition(10), None)
    assert not alerts.save(condition(9.999, raised=True, alert_id="abc"), ALERT)
    assert not alerts.save(condition(9.999, raised=True), None)
    assert alerts.condition("van-1", AlertKind.BATTERY_LOW) == condition(10)
    assert alerts.alert("van-1", "abc") is None
    assert alerts.save(condition(10, streak=1), ALERT)
    assert alerts.condition("van-1", AlertKind.BATTERY_LOW) == condition(10, streak=1)


def test_the_notifier_tells_of_opening_and_of_the_end(installation):
    notifier, alerts = installation.stores.notifier, installation.stores.alerts
    alerts.save(condition(), ALERT)
    notifier.notify(ALERT)
    notifier.notify(replace(ALERT, resolved_at=NOON + timedelta(minutes=1), detail="ü" * 300))
    assert installation.told() == ["battery_low opened", "battery_low resolved"]


def test_the_archive_replaces_an_object_of_the_same_key(installation):
    archive = installation.stores.archive
    archive.put("samples/year=2025/a.parquet", b"one")
    archive.put("samples/year=2025/a.parquet", b"two")
    archive.put("samples/year=2026/a.parquet", b"")
    assert installation.objects() == {
        "samples/year=2025/a.parquet": b"two",
        "samples/year=2026/a.parquet": b"",
    }


def test_a_dead_letter_is_kept_once_with_its_reason(installation):
    letter = DeadLetter("telemetry/van-1", b"\x00\xff" * 9, "location.lat", "too large", NOON)
    installation.stores.dead_letters.put(letter)
    installation.stores.dead_letters.put(letter)
    installation.stores.dead_letters.put(replace(letter, topic=None, payload=b"x" * 500_000))
    assert sorted(installation.letters(), key=str) == [
        {"topic": "telemetry/van-1", "field": "location.lat", "reason": "too large"},
        {"topic": None, "field": "location.lat", "reason": "too large"},
    ]


def test_the_register_knows_its_vehicles_and_no_others(installation):
    register = installation.stores.register
    assert register.find("van-1") == Vehicle("van-1", "electric_van", "Van 1")
    assert register.find("van-9") is None


def test_the_areas_in_force_are_those_of_the_installation(installation):
    areas = installation.stores.areas.current()
    assert areas.outside_by_m(50.1, 8.7) < 0
    assert areas.outside_by_m(50.21, 8.7) == pytest.approx(1112, rel=0.01)


def test_metrics_go_to_the_log_in_the_embedded_format(on_aws):
    stream = io.StringIO()
    metrics = EmfMetrics(on_aws.clock, stream)
    metrics.observe_all("position_latency_ms", [1.0] * 150)
    metrics.observe("letters", 2, kind="batch")
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert (len(first["position_latency_ms"]), len(second["position_latency_ms"])) == (100, 50)
    (directive,) = first["_aws"]["CloudWatchMetrics"]
    assert directive["Metrics"] == [{"Name": "position_latency_ms", "Unit": "Milliseconds"}]
    assert third["kind"] == "batch"
    assert third["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["kind"]]


@given(st.lists(st.floats(0.02, 1e7), min_size=1, max_size=60), st.integers(1, 100))
def test_percentiles_are_within_one_per_cent_of_the_nearest_rank(values, percent):
    counts = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    assert percentile(counts, percent) == pytest.approx(exact, rel=0.01)


def test_percentiles_of_nothing_and_of_negative_latencies():
    assert percentile({}, 50) is None
    assert value_of(bucket_of(-3.0)) == 0


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_come_back_exactly(value_ms):
    assert milliseconds(from_milliseconds(value_ms)) == value_ms
