"""The batch format: lossless, small, and never surprised by bytes."""

import contextlib
import json
import math
import random
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract import (
    ContractError,
    decode_batch,
    decode_batch_rows,
    encode_batch,
    encode_batch_rows,
)
from contract.batch_codec import _DICTIONARY, MAGIC, MAX_SAMPLES
from contract.fields import format_timestamp
from tests.contract.test_messages import MINIMAL, SEED

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["2025-01-15T14:32:18.123Z", "2025-13-45T99:99:99.999Z"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
rows = st.lists(
    st.dictionaries(
        st.sampled_from(["vehicle_id", "sequence", "location", "signals", "x", ""]),
        values,
        max_size=5,
    ),
    min_size=1,
    max_size=12,
)


def drive(count, interval_s=1.0, seed=1):
    """A plausible noisy drive at one sample a second, every group filled."""
    chance = random.Random(seed)
    lat, lon, heading, speed_kmh = 50.11, 8.68, 90.0, 30.0
    satellites = 9
    start = datetime(2026, 1, 1, tzinfo=UTC)
    taken = []
    for index in range(count):
        speed_kmh = max(0.0, speed_kmh + chance.gauss(0, 1))
        heading = (heading + chance.gauss(0, 3)) % 360
        lat += speed_kmh / 3.6 / 111_320 * math.cos(math.radians(heading)) * interval_s
        lon += speed_kmh / 3.6 / 71_000 * math.sin(math.radians(heading)) * interval_s
        satellites = min(12, max(5, satellites + chance.choice([-1, 0, 0, 0, 0, 0, 0, 1])))
        moment = start + timedelta(seconds=index * interval_s, milliseconds=chance.randint(0, 3))
        taken.append(
            SEED
            | {
                "sequence": 9000 + index,
                "timestamp": format_timestamp(moment),
                "location": {
                    "lat": round(lat, 7),
                    "lon": round(lon, 7),
                    "altitude": round(112 + chance.gauss(0, 0.5), 1),
                    "accuracy": round(5 + chance.random(), 1),
                    "fix_time": format_timestamp(moment.replace(microsecond=0)),
                    "fix_mode": "3d",
                    "satellites": satellites,
                    "hdop": round(9 / satellites, 2),
                },
                "battery": {
                    "percent": round(68 - index / 100, 1),
                    "voltage": round(48.2 + chance.gauss(0, 0.1), 1),
                    "current": round(3.5 + chance.gauss(0, 1), 1),
                    "temperature": 32.1,
                    "charging": False,
                },
                "motion": {"speed_kmh": round(speed_kmh, 1), "heading": round(heading, 1)},
                "signals": {"engine_rpm": 2150 + chance.randint(-30, 30), "fuel_level_pct": 75},
            }
        )
    return taken


def identical(left, right):
    """Equal, and equal in type: ``1``, ``1.0`` and ``true`` differ in JSON."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@given(rows)
@example([{"x": 0.0}, {"x": -0.0}])
@example([{"x": 1}, {"x": 1.0}, {"x": True}])
@example([{"x": {}}, {"x": {"a": 1}}, {}])
@example([{"x": 2**53 - 1}, {"x": -(2**53 - 1)}])
@example([{"location": {"lat": 0.1 + 0.2}}, {"location": {"lat": 5e-324}}])
def test_any_json_objects_come_back_identical(objects):
    assert identical(decode_batch_rows(encode_batch_rows(objects)), objects)


def test_samples_come_back_equal():
    samples = decode_batch(encode_batch_rows(drive(25)))
    assert decode_batch(encode_batch(samples)) == samples


@pytest.mark.parametrize(("count", "goal_bytes"), [(10, 60), (60, 40)])
def test_a_sample_costs_at_most_its_goal(count, goal_bytes):
    assert len(encode_batch_rows(drive(count))) / count <= goal_bytes


@given(st.binary(max_size=300))
def test_random_bytes_raise_only_the_contract_error(data):
    for payload in (data, MAGIC + data, MAGIC + deflated(data)):
        with pytest.raises(ContractError):
            decode_batch(payload)


@given(st.data())
def test_damaged_batches_raise_only_the_contract_error_or_decode(data):
    payload = bytearray(zlib_body(encode_batch_rows(drive(5))))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ContractError):
        decode_batch(MAGIC + deflated(bytes(payload)))


@pytest.mark.parametrize("keep", range(0, 300, 7))
def test_a_truncated_batch_is_refused(keep):
    payload = encode_batch_rows(drive(30))
    with pytest.raises(ContractError):
        decode_batch(payload[:keep])


def test_a_decompression_bomb_is_refused():
    with pytest.raises(ContractError, match="inflates to over"):
        decode_batch(MAGIC + deflated(b"\0" * 64_000_000))


def test_a_batch_that_claims_too_many_cells_is_refused():
    body = b"\x90\x4e" + b"\x80\x08"  # 10,000 samples of 1,024 fields
    with pytest.raises(ContractError, match="claims 10000 samples of 1024 fields"):
        decode_batch(MAGIC + deflated(body))


def test_bytes_after_the_end_are_refused():
    with pytest.raises(ContractError, match="after its end"):
        decode_batch(encode_batch_rows([MINIMAL]) + b"x")


def test_one_bad_sample_costs_only_itself_when_rows_are_read():
    objects = drive(3)
    objects[1] = objects[1] | {"location": {"lat": 191, "lon": 8}}
    payload = encode_batch_rows(objects)
    assert len(decode_batch_rows(payload)) == 3
    with pytest.raises(ContractError) as caught:
        decode_batch(payload)
    assert caught.value.field == "batch.1.location.lat"


@pytest.mark.parametrize("count", [0, MAX_SAMPLES + 1])
def test_the_number_of_samples_is_bounded(count):
    with pytest.raises(ContractError, match="samples"):
        encode_batch_rows([MINIMAL] * count)


def deflated(body):
    deflate = zlib.compressobj(9, wbits=-15, zdict=_DICTIONARY)
    return deflate.compress(body) + deflate.flush()


def zlib_body(payload):
    return zlib.decompressobj(-15, zdict=_DICTIONARY).decompress(payload[len(MAGIC) :])
