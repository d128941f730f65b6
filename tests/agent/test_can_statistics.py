"""``stat``: the smallest, largest or mean value since the last sample, every frame counted."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.config import CanSettings
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.slots import HISTORY_LIMIT
from agent.sources.dbc.compile import compile_in_process
from tests.fakes.can_frames import frame

DBC = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Pack: 8 ECU
 SG_ Current : 0|16@1- (0.1,0) [0|0] "A" ECU
 SG_ Valid : 16|1@1+ (1,0) [0|1] "" ECU
 SG_ State : 24|3@1+ (1,0) [0|7] "" ECU
BO_ 257 Gate: 1 ECU
 SG_ Open : 0|1@1+ (1,0) [0|1] "" ECU
BO_ 258 Muxed: 8 ECU
 SG_ Page M : 0|8@1+ (1,0) [0|0] "" ECU
 SG_ A m0 : 8|8@1+ (1,0) [0|0] "" ECU
 SG_ B m1 : 8|8@1+ (1,0) [0|0] "" ECU
VAL_ 256 State 7 "Not available";
"""


@pytest.fixture(scope="module")
def dbc(tmp_path_factory):
    path = tmp_path_factory.mktemp("dbc") / "pack.dbc"
    path.write_text(DBC)
    return path


def make_map(dbc, signals, **bus):
    config = CanSettings.model_validate({"dbc": [dbc], "signals": signals, **bus})
    return SignalMap(config, compile_in_process(config.dbc, references(config)))


def all_stats(signal="Current", **entry):
    return {
        f"signals.{stat}": {"signal": signal, "stat": stat, **entry}
        for stat in ("last", "min", "max", "mean")
    }


def current(raw, valid=1):
    return frame(256, [raw & 255, raw >> 8 & 255, valid, 0, 0, 0, 0, 0])


@settings(max_examples=60, deadline=None)
@given(
    raws=st.lists(st.integers(-32768, 32767), min_size=1, max_size=60),
    cuts=st.integers(1, 9),
    scale=st.sampled_from([1.0, -2.0]),
)
def test_they_are_those_of_all_frames_since_the_last_sample(dbc, raws, cuts, scale):
    signals = make_map(dbc, all_stats(scale=scale, offset=0.5))
    for start in range(0, len(raws), cuts):
        part = raws[start : start + cuts]
        # the engine reads more often than it samples
        signals.take([current(part[0])], 0.0)
        signals.read(0.0)
        signals.take([current(raw) for raw in part[1:]], 0.0)
        values = signals.read(0.0)
        amps = [raw * 0.1 * scale + 0.5 for raw in part]
        assert values["signals.last"] == amps[-1]
        assert values["signals.min"] == min(amps)
        assert values["signals.max"] == max(amps)
        assert values["signals.mean"] == pytest.approx(statistics.fmean(amps), abs=1e-9)
        signals.sampled()


def test_without_a_frame_since_the_last_sample_the_newest_value_counts(dbc):
    signals = make_map(dbc, all_stats(), stale_after_s=5.0)
    signals.take([current(10), current(30)], 0.0)
    assert signals.read(0.0)["signals.mean"] == 2.0
    signals.sampled()
    assert signals.read(1.0) == dict.fromkeys(signals.read(1.0), 3.0)
    assert len(signals.read(1.0)) == 4
    assert signals.read(6.0) == {}


def test_a_frame_that_comes_between_reading_and_sampling_belongs_to_the_next_interval(dbc):
    signals = make_map(dbc, all_stats())
    signals.take([current(10)], 0.0)
    signals.read(0.0)
    signals.take([current(50)], 0.0)
    signals.sampled()
    signals.take([current(30)], 0.0)
    assert signals.read(0.0)["signals.mean"] == 4.0


def test_values_that_are_out_of_range_or_not_valid_are_not_counted(dbc):
    signals = make_map(dbc, all_stats(min=-5.0, max=5.0, valid_if="Valid"))
    frames = [current(10), current(990), current(20, valid=0), current(30)]
    signals.take(frames, 0.0)
    values = signals.read(0.0)
    assert (values["signals.min"], values["signals.max"]) == (1.0, 3.0)
    assert values["signals.mean"] == 2.0


def test_a_named_value_is_not_averaged(dbc):
    signals = make_map(dbc, all_stats("State"))
    frames = [frame(256, [0, 0, 0, raw, 0, 0, 0, 0]) for raw in (1, 7, 3)]
    signals.take(frames, 0.0)
    assert signals.read(0.0)["signals.max"] == 3


def test_validity_from_another_message_holds_for_what_came_before_it_is_read(dbc):
    signals = make_map(dbc, all_stats(valid_if="Open"))
    signals.take([current(10)], 0.0)
    assert signals.read(0.0) == {}
    signals.take([frame(257, [1]), current(30)], 0.0)
    assert signals.read(0.0)["signals.mean"] == 3.0


def test_the_pages_of_a_multiplexed_message_are_counted_apart(dbc):
    mapping = {
        "signals.a": {"signal": "A", "stat": "max"},
        "signals.b": {"signal": "B", "stat": "mean"},
    }
    signals = make_map(dbc, mapping)
    pages = [(0, 9), (1, 20), (0, 5), (1, 40)]
    signals.take([frame(258, [page, value] + [0] * 6) for page, value in pages], 0.0)
    assert signals.read(0.0) == {"signals.a": 9, "signals.b": 30}


def test_an_engine_that_does_not_read_costs_bounded_memory_and_is_accounted(dbc):
    signals = make_map(dbc, all_stats())
    signals.take([current(10)] * (HISTORY_LIMIT + 7), 0.0)
    assert signals.slots.dropped == 7
    assert signals.read(0.0)["signals.mean"] == 1.0


def test_flags_and_codes_take_no_statistic(dbc):
    for field in ("battery.charging", "diagnostics.error_codes"):
        with pytest.raises(ValidationError, match="takes no stat"):
            make_map(dbc, {field: {"signal": "State", "stat": "mean"}})
