"""Which frames are a mapped message: by id, or by J1939 PGN from any source address."""

import random

import cantools
import pytest

from agent.config import CanSettings
from agent.sources.can.ids import (
    EXTENDED,
    REMOTE,
    IdFilter,
    by_id,
    by_pgn,
    grouped,
    pgn,
    source_address,
)
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.dbc.compile import compile_in_process
from tests.fakes.can_frames import frame, frames_of

J1939 = """VERSION ""
BS_:
BU_: Vector__XXX
BO_ 2364540158 EEC1: 8 Vector__XXX
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" Vector__XXX
 SG_ Starter : 48|4@1+ (1,0) [0|15] "" Vector__XXX
 SG_ Flag : 52|2@1+ (1,0) [0|3] "" Vector__XXX
BO_ 2565931006 TSC1: 8 Vector__XXX
 SG_ Requested : 8|16@1+ (0.125,0) [0|8031.875] "rpm" Vector__XXX
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";
BA_DEF_DEF_ "VFrameFormat" "J1939PG";
"""
EEC1 = 0x0CF00400
TSC1 = 0x18F00000


def make_map(dbc, signals, **bus):
    config = CanSettings.model_validate({"dbc": [dbc], "signals": signals, **bus})
    return SignalMap(config, compile_in_process(config.dbc, references(config)))


@pytest.fixture
def dbc(tmp_path):
    path = tmp_path / "truck.dbc"
    path.write_text(J1939)
    return path


def rpm(value):
    raw = int(value / 0.125)
    return [255, 255, 255, raw & 255, raw >> 8, 255, 0, 255]


@pytest.mark.parametrize(
    ("identifier", "group", "address"),
    [(0x0CF00400, 61444, 0), (0x18FEF117, 65265, 0x17), (0x18EA0BF9, 59904, 0xF9)],
)
def test_pgn_and_source_address_are_read_from_the_id(identifier, group, address):
    assert (pgn(identifier), source_address(identifier)) == (group, address)


@pytest.mark.needs_traces
def test_the_recorded_truck_decodes_as_cantools_does_for_the_same_pgn(traces):
    dbc = traces / "can/CSS-SAE-J1939-DEMO.dbc"
    names = ["EngineSpeed", "WheelBasedVehicleSpeed"]
    signals = make_map(dbc, {f"signals.{name}": name for name in names})
    messages = {
        pgn(message.frame_id): message for message in cantools.database.load_file(dbc).messages
    }
    compared = absent = 0
    for at, one in frames_of(traces / "can/dev02_truck_j1939_idle.candump"):
        signals.take([one], at)
        message = messages.get(pgn(one[0]))
        if message is None:
            continue
        for name, value in message.decode(one[2]).items():
            got = signals.read(at).get(f"signals.{name}")
            # cantools knows nothing of "not available": all ones
            if got is None:
                absent += 1
                assert value > message.get_signal_by_name(name).maximum
            else:
                compared += 1
                assert got == value
    assert compared > 50
    assert absent == 0


def test_a_message_declared_as_j1939_comes_from_any_source_address_and_priority(dbc):
    signals = make_map(dbc, {"signals.engine_rpm": "EngineSpeed"})
    for identifier in (EEC1, EEC1 | 0x17, 0x18F00400 | 3):
        speed = 100.0 + identifier % 100
        signals.take([frame(identifier, rpm(speed), extended=True)], 0.0)
        assert signals.read(0.0)["signals.engine_rpm"] == speed
    signals.take([frame(0x0CF00500, rpm(999), extended=True)], 0.0)
    signals.take([frame(0x400, rpm(999))], 0.0)
    assert signals.read(0.0)["signals.engine_rpm"] == speed
    assert signals.slots.frames == 3


def test_one_source_address_can_be_asked_for(dbc):
    mapping = {"signals.engine_rpm": {"signal": "EngineSpeed", "source_address": 1}}
    signals = make_map(dbc, mapping)
    signals.take([frame(EEC1, rpm(800), extended=True)], 0.0)
    assert signals.read(0.0) == {}
    signals.take([frame(EEC1 | 1, rpm(900), extended=True)], 0.0)
    assert signals.read(0.0) == {"signals.engine_rpm": 900.0}


def test_the_config_decides_against_the_dbc(dbc):
    by_number = make_map(dbc, {"signals.engine_rpm": "EngineSpeed"}, match="id")
    by_number.take([frame(EEC1, rpm(800), extended=True)], 0.0)
    assert by_number.read(0.0) == {}
    by_number.take([frame(0x0CF004FE, rpm(800), extended=True)], 0.0)
    assert by_number.read(0.0) == {"signals.engine_rpm": 800.0}
    plain = dbc.with_name("plain.dbc")
    plain.write_text(J1939.replace("J1939PG", "Other"))
    by_group = make_map(plain, {"signals.engine_rpm": "EngineSpeed"}, match="pgn")
    by_group.take([frame(EEC1 | 7, rpm(800), extended=True)], 0.0)
    assert by_group.read(0.0) == {"signals.engine_rpm": 800.0}


@pytest.mark.parametrize(
    ("data", "there"),
    [
        ([255] * 8, set()),
        ([255, 255, 255, 0, 0xFB, 255, 0xFF, 255], set()),
        ([255, 255, 255, 0xFF, 0xFA, 255, 0x2E, 255], {"rpm", "starter"}),
        ([255, 255, 255, 0, 0, 255, 0x1F, 255], {"rpm", "flag"}),
        ([255, 255, 255, 0, 0, 255, 0x00, 255], {"rpm", "flag", "starter"}),
    ],
)
def test_what_j1939_calls_not_available_or_an_error_is_absent(dbc, data, there):
    signals = make_map(
        dbc,
        {"signals.rpm": "EngineSpeed", "signals.starter": "Starter", "signals.flag": "Flag"},
    )
    signals.take([frame(EEC1, data, extended=True)], 0.0)
    assert {name.removeprefix("signals.") for name in signals.read(0.0)} == there


def test_an_addressed_group_is_taken_whatever_its_destination():
    ids = by_pgn(0x18EA00FE)
    assert ids.passes(0x18EA_2117 | EXTENDED)
    assert not ids.passes(0x18EB_2117 | EXTENDED)


def test_filters_pass_data_frames_of_the_id_alone():
    ids = by_id(0x123, extended=False)
    assert ids.passes(0x123)
    assert not ids.passes(0x123 | REMOTE)
    assert not ids.passes(0x123 | EXTENDED)
    assert not by_id(0x123, extended=True).passes(0x123)


def test_more_filters_than_the_kernel_takes_are_widened_to_blocks():
    rng = random.Random(5)
    ids = [by_id(rng.randrange(0x800), extended=False) for _ in range(900)]
    ids += [by_id(rng.randrange(0x1FFF_FFFF), extended=True) for _ in range(900)]
    filters = grouped(ids)
    assert 100 < len(filters) <= 512
    for one in ids:
        assert any(wide.passes(one.wanted) for wide in filters)
    assert grouped(ids[:100]) == sorted(set(ids[:100]))
    assert not any(wide.passes(REMOTE) for wide in filters)
    assert grouped([]) == []
    assert grouped([IdFilter(1, 0x7FF), IdFilter(2, 0x7FF)], 1)[0].passes(1)
