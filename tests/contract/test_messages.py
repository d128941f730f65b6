"""The messages and their JSON form."""

import json
from pathlib import Path

import pytest

from contract import (
    ContractError,
    Status,
    decode_event,
    decode_sample,
    decode_status,
    encode,
)
from contract.schema import MODELS, schema_text
from tests.fakes.seed import SEED

ROOT = Path(__file__).resolve().parent.parent.parent

MINIMAL = {
    key: SEED[key] for key in ("vehicle_id", "run_id", "sequence", "timestamp", "time_quality")
}


def changed(**changes):
    return json.dumps(SEED | changes)


def test_the_seed_message_comes_back_as_it_was():
    assert json.loads(encode(decode_sample(json.dumps(SEED)))) == SEED


def test_absent_groups_stay_absent():
    assert json.loads(encode(decode_sample(json.dumps(MINIMAL)))) == MINIMAL | {"schema_version": 1}


def test_a_number_as_vehicle_id_becomes_text():
    assert decode_sample(changed(vehicle_id=12345)).vehicle_id == "12345"


def test_unknown_fields_pass_and_are_kept():
    newer = SEED | {"tyres": {"front_left_kpa": 240}, "location": SEED["location"] | {"floor": 2}}
    assert json.loads(encode(decode_sample(json.dumps(newer)))) == newer


def test_another_zone_becomes_utc_and_microseconds_are_cut():
    sample = decode_sample(changed(timestamp="2025-01-15T15:32:18.123999+01:00"))
    assert json.loads(encode(sample))["timestamp"] == "2025-01-15T14:32:18.123Z"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"location": {"lat": 191, "lon": 8}}, "location.lat"),
        ({"location": {"lat": 50}}, "location.lon"),
        ({"location": {"lat": "50", "lon": 8}}, "location.lat"),
        ({"battery": {"percent": 101}}, "battery.percent"),
        ({"battery": {"charging": 0}}, "battery.charging"),
        ({"motion": {"speed_kmh": -1}}, "motion.speed_kmh"),
        ({"sequence": 0}, "sequence"),
        ({"sequence": 2**53}, "sequence"),
        ({"sequence": 1.5}, "sequence"),
        ({"vehicle_id": "a/b"}, "vehicle_id"),
        ({"vehicle_id": "+"}, "vehicle_id"),
        ({"vehicle_id": True}, "vehicle_id"),
        ({"vehicle_id": ""}, "vehicle_id"),
        ({"run_id": "not hex!"}, "run_id"),
        ({"timestamp": "2025-01-15T14:32:18.123"}, "timestamp"),
        ({"timestamp": "1969-12-31T23:59:59Z"}, "timestamp"),
        ({"timestamp": 1736951538}, "timestamp"),
        ({"time_quality": "sundial"}, "time_quality"),
        ({"schema_version": 2}, "schema_version"),
        ({"signals": {f"s{n}": n for n in range(257)}}, "signals"),
        ({"diagnostics": {"error_codes": ["P0001"] * 65}}, "diagnostics.error_codes"),
    ],
)
def test_what_breaks_the_contract_names_the_field(changes, field):
    with pytest.raises(ContractError) as caught:
        decode_sample(changed(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize("missing", sorted(MINIMAL))
def test_a_missing_identity_field_is_named(missing):
    with pytest.raises(ContractError) as caught:
        decode_sample(json.dumps({key: SEED[key] for key in SEED if key != missing}))
    assert caught.value.field == missing


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b"[" * 50_000, b'{"a":NaN}'],
)
def test_bytes_that_are_no_sample_raise_the_one_error(payload):
    with pytest.raises(ContractError):
        decode_sample(payload)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks_are_refused(number):
    text = changed().replace('"lat": 50.1105', f'"lat": {number}')
    with pytest.raises(ContractError) as caught:
        decode_sample(text)
    assert caught.value.field in {"location.lat", "payload"}


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "[1, Infinity]", '[{"a": 1e999}]'])
def test_numbers_that_json_lacks_are_refused_in_unknown_fields_too(number):
    with pytest.raises(ContractError, match=r"tyre.*not finite"):
        decode_sample(changed(tyre=0).replace('"tyre": 0', f'"tyre": {number}'))


def test_text_that_spells_such_a_number_passes():
    assert decode_sample(changed(signals={"note": "NaN"})).signals == {"note": "NaN"}


def test_a_huge_payload_is_refused_before_it_is_parsed():
    with pytest.raises(ContractError, match="131073 bytes"):
        decode_sample(b" " * (128 * 1024 + 1))


def test_messages_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        decode_sample(json.dumps(SEED)).sequence = 1


def test_an_event_of_an_unknown_type_passes():
    event = decode_event(json.dumps(MINIMAL | {"event_type": "tyre_burst"}))
    assert event.event_type == "tyre_burst"


def test_an_event_needs_a_well_formed_type():
    with pytest.raises(ContractError) as caught:
        decode_event(json.dumps(MINIMAL | {"event_type": "Tyre burst!"}))
    assert caught.value.field == "event_type"


def test_a_status_says_where_the_run_before_ended():
    status = decode_status(
        json.dumps(
            {key: MINIMAL[key] for key in MINIMAL if key != "sequence"}
            | {
                "state": "online",
                "mode": "in_trip",
                "backlog_messages": 12,
                "dropped_messages": {"expired": 3},
                "previous_run": {"run_id": "aabbccdd", "last_sequence": 99},
            }
        )
    )
    assert isinstance(status, Status)
    assert status.previous_run.last_sequence == 99


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_exported_schema_is_up_to_date(name):
    committed = (ROOT / "docs" / "schema" / f"{name}.schema.json").read_text()
    assert committed == schema_text(name), "run: make schema"
