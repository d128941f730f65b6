"""CAN: values as cantools decodes them, the newest of each, and a bus that comes and goes."""

import json
import math
import random
import re
import subprocess
import sys
import time
import uuid
from itertools import islice
from pathlib import Path

import can
import cantools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import CanSettings
from agent.errors import ConfigError, DbcError
from agent.host import SystemClock
from agent.inputs import Inbox, SourceChanged
from agent.sources.can import source as can_bus
from agent.sources.can.ids import by_id
from agent.sources.can.python_can import check_interface
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.source import CanSource
from agent.sources.dbc.compile import compile_in_process, compile_tables
from agent.sources.dbc.table import from_json, selected, to_json
from tests.fakes.can_buses import FlakyBus
from tests.fakes.can_frames import frame, frames_of

HAND_MADE = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Pack: 8 ECU
 SG_ Percent : 0|8@1+ (0.5,0) [0|100] "%" ECU
 SG_ Current : 15|16@0- (0.1,-10) [0|0] "A" ECU
 SG_ State : 24|3@1+ (1,0) [0|7] "" ECU
 SG_ Valid : 27|1@1+ (1,0) [0|1] "" ECU
 SG_ Whole : 32|12@1- (3,-7) [0|0] "" ECU
 SG_ Wide : 51|12@0- (-0.25,1) [0|0] "" ECU
BO_ 257 Floats: 12 ECU
 SG_ Small : 0|32@1- (1,0) [0|0] "" ECU
 SG_ Big : 39|64@0- (2.5,1) [0|0] "" ECU
BO_ 258 Other: 8 ECU
 SG_ Percent : 0|8@1+ (1,0) [0|100] "%" ECU
 SG_ Fault1 : 8|1@1+ (1,0) [0|1] "" ECU
 SG_ Fault2 : 16|8@1+ (1,0) [0|0] "" ECU
VAL_ 256 State 0 "Off" 1 "Charging" 7 "Not available";
VAL_ 258 Fault2 3 "OverTemperature";
SIG_VALTYPE_ 257 Small : 1;
SIG_VALTYPE_ 257 Big : 2;
"""


@pytest.fixture
def dbc(tmp_path):
    path = tmp_path / "hand_made.dbc"
    path.write_text(HAND_MADE)
    return path


def make_map(signals, *dbc, **bus):
    config = CanSettings.model_validate(
        {"interface": "virtual", "dbc": list(dbc), "signals": signals, **bus}
    )
    return SignalMap(config, compile_in_process(config.dbc, references(config)))


@pytest.mark.needs_traces
@pytest.mark.parametrize("name", ["canmod-gps.dbc", "CSS-Electronics-OBD2-v1.4.dbc"])
def test_values_of_the_recorded_car_equal_those_that_cantools_prints(traces, tmp_path, name):
    recorded = traces / "can/dev01_car_gps_obd_start.candump"
    log = tmp_path / "part.candump"
    # 009 is the acceleration, four fifths of the log: one in 50 of it is as good
    lines = [
        line
        for number, line in enumerate(recorded.read_text().splitlines())
        if " 009#" not in line or number % 50 == 0
    ]
    log.write_text("\n".join(lines) + "\n")
    printed = subprocess.run(
        [
            Path(sys.executable).with_name("cantools"),
            "decode",
            "--single-line",
            traces / "can" / name,
        ],
        stdin=log.open(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    decoded = {}
    for line in printed:
        frame, _, values = line.partition(" :: ")
        pairs = re.findall(r"(\w+): (.*?)(?=, \w+: |\)$)", values.partition("(")[2])
        if frame:
            decoded[frame.split(") ")[0] + frame.split(" ")[2]] = pairs
    names = sorted({signal for pairs in decoded.values() for signal, _ in pairs})
    assert len(names) > 10
    signals = make_map({f"signals.{one}": one for one in names}, traces / "can" / name)
    compared = 0
    frames = frames_of(log)
    for line in lines:
        at, one = next(frames)
        expected = decoded[f"{line.split()[0].rstrip(')')}{line.split()[2]}"]
        signals.take([one], at)
        if expected:
            got = signals.read(at)
        for signal, text in expected:
            value = str(got[f"signals.{signal}"])
            assert text == value or text.startswith(value + " "), (line, signal)
            compared += 1
    assert compared > 10_000


@pytest.mark.needs_traces
def test_random_frames_of_every_dbc_give_what_cantools_gives(traces):
    compared = 0
    for path in sorted((traces / "can").glob("*.dbc")):
        if "unfixed" in path.name:
            continue
        database = cantools.database.load_file(path)
        compared += compare_with_cantools(path, database, rounds=6)
    assert compared > 3_000


def compare_with_cantools(path, database, rounds, payloads=None):
    rng = random.Random(7)
    references = [
        f"{message.name}.{signal.name}"
        for message in database.messages
        for signal in message.signals
    ]
    tables = compile_in_process([path], references)
    compared = 0
    for message in database.messages:
        for _ in range(rounds):
            payload = payloads(message) if payloads else rng.randbytes(message.length)
            try:
                expected = database.decode_message(message.name, payload)
            except cantools.database.DecodeError:
                continue
            for signal in message.signals:
                table = from_json(
                    json.loads(json.dumps(to_json(tables[f"{message.name}.{signal.name}"])))
                )
                assert selected(table.selectors, payload) == (signal.name in expected)
                if signal.name not in expected:
                    continue
                raw = table.field.raw(payload)
                want = expected[signal.name]
                if math.isnan(raw):
                    assert math.isnan(want)
                    continue
                got = table.choice(raw)
                got = table.number(raw) if got is None else got
                assert str(got) == str(want), (message.name, signal.name)
                compared += 1
    return compared


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=12, max_size=12))
def test_floats_signs_byte_orders_and_value_tables_equal_cantools(tmp_path_factory, payload):
    path = tmp_path_factory.getbasetemp() / "hand_made.dbc"
    if not path.exists():
        path.write_text(HAND_MADE)
    database = cantools.database.load_string(HAND_MADE, "dbc")
    assert compare_with_cantools(path, database, 1, lambda message: payload[: message.length])


def test_scale_range_and_validity_apply_in_the_units_of_the_contract(dbc):
    signals = make_map(
        {
            "battery.percent": {"signal": "Pack.Percent", "max": 100, "valid_if": "Valid"},
            "battery.current": {"signal": "Current", "scale": -1.0, "offset": 0.5},
            "battery.charging": {"signal": "State", "max": 1},
            "signals.state": "State",
            "signals.whole": "Whole",
        },
        dbc,
    )
    assert signals.read(0.0) == {}
    pack = cantools.database.load_file(dbc).get_message_by_name("Pack")

    def pack_with(**values):
        defaults = {"Percent": 50, "Current": 2, "State": 1, "Valid": 1, "Whole": -7, "Wide": 1}
        signals.take([frame(256, pack.encode({**defaults, **values}, strict=False))], 0.0)
        return signals.read(0.0)

    values = pack_with()
    assert values["battery.percent"] == 50
    assert values["battery.current"] == pytest.approx(-1.5)
    assert values["battery.charging"] is True
    assert values["signals.state"] == "Charging"
    assert (values["signals.whole"], type(values["signals.whole"])) == (-7, int)
    assert "battery.percent" not in pack_with(Valid=0)
    assert "battery.percent" not in pack_with(Percent=120)
    assert "battery.charging" not in pack_with(State=7)
    assert pack_with(State=0)["battery.charging"] is False


def test_a_named_value_is_not_taken_for_a_measurement(dbc):
    signals = make_map({"battery.percent": "State", "signals.state": "State"}, dbc)
    signals.take([frame(256, bytes([0, 0, 0, 7, 0, 0, 0, 0]))], 0.0)
    assert signals.read(0.0) == {}
    signals.take([frame(256, bytes([0, 0, 0, 1, 0, 0, 0, 0]))], 0.0)
    assert signals.read(0.0) == {"signals.state": "Charging"}
    signals.take([frame(256, bytes([0, 0, 0, 5, 0, 0, 0, 0]))], 0.0)
    assert signals.read(0.0) == {"battery.percent": 5, "signals.state": 5}


def test_not_available_is_absent_for_a_flag_and_for_codes_too(dbc):
    signals = make_map(
        {"battery.charging": "State", "diagnostics.error_codes": ["State", "Fault1"]}, dbc
    )
    signals.take([frame(256, [0, 0, 0, 7, 0, 0, 0, 0])], 0.0)
    assert signals.read(0.0) == {}
    signals.take([frame(256, [0, 0, 0, 1, 0, 0, 0, 0]), frame(258, [0, 1] + [0] * 6)], 0.0)
    assert signals.read(0.0) == {
        "battery.charging": True,
        "diagnostics.error_codes": ("Charging", "Fault1"),
    }


def test_raw_values_that_the_config_calls_not_available_are_absent(dbc):
    percent = {"signal": "Pack.Percent", "not_available_raw": [254, 255]}
    signals = make_map({"battery.percent": percent}, dbc)
    for raw, values in ((253, {"battery.percent": 126.5}), (254, {}), (255, {})):
        signals.take([frame(256, [raw] + [0] * 7)], 0.0)
        assert signals.read(0.0) == values


def test_a_signal_named_invalid_of_one_bit_is_a_state(tmp_path):
    path = tmp_path / "gps.dbc"
    path.write_text(
        HAND_MADE.replace(
            "VAL_ 258 Fault2", 'VAL_ 256 Valid 0 "Invalid" 1 "Valid";\nVAL_ 258 Fault2'
        )
    )
    signals = make_map({"signals.valid": "Valid"}, path)
    signals.take([frame(256, bytes(8))], 0.0)
    assert signals.read(0.0) == {"signals.valid": "Invalid"}


def test_the_same_message_in_two_files_is_no_ambiguity(dbc):
    copy = dbc.with_name("copy.dbc")
    copy.write_text(HAND_MADE)
    assert make_map({"battery.percent": "Pack.Percent"}, dbc, copy).filters()
    copy.write_text(HAND_MADE.replace("(0.5,0)", "(0.25,0)"))
    with pytest.raises(DbcError, match="2 messages have a signal") as caught:
        make_map({"battery.percent": "Pack.Percent"}, dbc, copy)
    assert "leave one of them out" in caught.value.hint


def test_two_messages_of_one_id_and_of_different_lengths_are_both_read(tmp_path):
    path = tmp_path / "twice.dbc"
    path.write_text(
        'VERSION ""\nBU_: E\nBO_ 256 Short: 2 E\n SG_ A : 7|16@0+ (1,0) [0|0] "" E\n'
        'BO_ 256 Long: 4 E\n SG_ B : 23|16@0+ (1,0) [0|0] "" E\n'
    )
    signals = make_map({"signals.a": "A", "signals.b": "B"}, path)
    signals.take([frame(256, [1, 2])], 0.0)
    assert signals.read(0.0) == {"signals.a": 0x0102}
    signals.take([frame(256, [3, 4, 5, 6])], 0.0)
    assert signals.read(0.0) == {"signals.a": 0x0304, "signals.b": 0x0506}


def test_options_of_python_can_are_refused_where_it_is_not_used(dbc):
    with pytest.raises(ValueError, match="options are python-can's"):
        make_map({"signals.x": "State"}, dbc, interface="socketcan", options={"fd": True})


def test_error_codes_are_the_signals_that_are_not_zero(dbc):
    signals = make_map({"diagnostics.error_codes": ["Fault1", "Fault2"]}, dbc)
    assert signals.read(0.0) == {}
    for data, codes in (
        ([0, 0, 0], ()),
        ([0, 1, 3], ("Fault1", "OverTemperature")),
        ([0, 0, 9], ("Fault2:9",)),
    ):
        signals.take([frame(258, bytes(data + [0] * 5))], 0.0)
        assert signals.read(0.0) == {"diagnostics.error_codes": codes}


def test_a_value_that_is_not_renewed_is_left_out(dbc):
    signals = make_map(
        {
            "battery.percent": "Pack.Percent",
            "signals.slow": {"signal": "Other.Percent", "stale_after_s": 60.0},
        },
        dbc,
        stale_after_s=2.0,
    )
    signals.take([frame(256, bytes(8))], 100.0)
    signals.take([frame(258, bytes(8))], 100.0)
    assert set(signals.read(102.0)) == {"battery.percent", "signals.slow"}
    assert set(signals.read(102.1)) == {"signals.slow"}
    assert signals.received_s("battery.percent") == 100.0
    assert signals.read(161.0) == {}


def test_frames_that_are_too_short_or_not_mapped_are_counted_not_decoded(dbc):
    signals = make_map({"battery.percent": "Pack.Percent"}, dbc)
    signals.take([frame(256, b"\x64")], 0.0)
    signals.take([frame(256, bytes(8), extended=True)], 0.0)
    signals.take([frame(999, bytes(8))], 0.0)
    assert (signals.slots.frames, signals.slots.kept, signals.slots.dropped) == (1, 0, 1)
    assert signals.read(0.0) == {}
    assert signals.filters() == [by_id(256, extended=False)]


@pytest.mark.needs_traces
def test_answers_under_one_id_do_not_push_each_other_out(traces):
    signals = make_map(
        {
            "signals.rpm": "S1_PID_0C_EngineRPM",
            "signals.coolant_c": "S1_PID_05_EngineCoolantTemp",
            "signals.fuel_pct": "S1_PID_2F_FuelTankLevel",
        },
        traces / "can/CSS-Electronics-OBD2-v1.4.dbc",
    )
    recorded = frames_of(traces / "can/dev01_car_gps_obd_start.candump")
    for at, one in islice(recorded, 200):
        signals.take([one], at)
    assert set(signals.read(at)) == {"signals.rpm", "signals.coolant_c", "signals.fuel_pct"}


def test_a_signal_that_the_dbc_lacks_is_named_with_near_matches(dbc):
    with pytest.raises(DbcError) as caught:
        compile_tables([dbc], ["Pack.Curent"])
    assert 'no message has the mapped signal "Pack.Curent"' in caught.value.message
    assert str(dbc) in caught.value.message
    assert '"Pack.Current"' in caught.value.hint
    assert isinstance(caught.value, ConfigError)


def test_a_signal_of_several_messages_must_be_written_in_full(dbc):
    with pytest.raises(DbcError) as caught:
        compile_tables([dbc], ["Percent"])
    assert '"Pack.Percent" or "Other.Percent"' in caught.value.hint


def test_a_missing_dbc_says_so(tmp_path):
    with pytest.raises(DbcError, match=r"absent\.dbc: No such file"):
        compile_tables([tmp_path / "absent.dbc"], ["X"])


def test_an_interface_that_python_can_does_not_know_is_refused(dbc):
    config = CanSettings.model_validate(
        {"interface": "soketcan", "dbc": [dbc], "signals": {"signals.x": "State"}}
    )
    with pytest.raises(ConfigError) as caught:
        check_interface(config)
    assert "socketcan" in caught.value.hint


def wait_for(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def make_source(dbc, **bus):
    config = CanSettings.model_validate(
        {"dbc": [dbc], "signals": {"battery.percent": "Pack.Percent"}, **bus}
    )
    signals = SignalMap(config, compile_in_process(config.dbc, references(config)))
    inbox = Inbox()
    return CanSource(config, signals, inbox, SystemClock()), inbox


def test_frames_of_a_bus_are_read(dbc):
    channel = uuid.uuid4().hex
    source, inbox = make_source(dbc, interface="virtual", channel=channel)
    source.start()
    with can.Bus(interface="virtual", channel=channel) as sender:
        percent = iter(range(1_000_000))

        def seen():
            data = bytes([next(percent) % 100, 0, 0, 0, 0, 0, 0, 0])
            sender.send(can.Message(arbitration_id=256, is_extended_id=False, data=data))
            return source.read(time.monotonic())

        wait_for(seen)
    source.stop()
    source.stop()
    account = source.account()
    assert account["frames"] == account["decoded"] > 0
    assert account["channel"] == channel
    assert inbox.get(0) is None


def test_a_source_that_was_never_started_can_be_stopped(dbc):
    make_source(dbc, interface="virtual")[0].stop()


def test_a_missing_interface_and_receive_errors_are_survived_and_told_once(dbc, caplog):
    good = can.Message(arbitration_id=256, is_extended_id=False, data=bytes([120] + [0] * 7))
    error = can.Message(is_error_frame=True)
    interface, bus = FlakyBus.install(missing=1, frames=[good, error, good])
    source, inbox = make_source(dbc, interface=interface, channel="can9")
    source.start()
    try:
        wait_for(lambda: bus.opened >= 3)
        wait_for(lambda: source.account()["frames"] >= 4)
        assert source.read(time.monotonic()) == {"battery.percent": 60.0}
    finally:
        source.stop()
    told = inbox.get(0)
    assert isinstance(told, SourceChanged)
    assert not told.available
    assert "no such device can9" in told.reason
    # it opens and breaks again and again: that is one loss, not many
    assert inbox.get(0) is None
    assert [record.getMessage() for record in caplog.records].count(
        "CAN bus can9 (" + interface + ") lost: cannot open: no such device can9"
    ) == len(caplog.records)
    assert source.account()["state"] == "down"
    assert source.account()["error_frames"] >= 1


def test_a_bus_that_holds_counts_as_recovered(dbc, caplog, monkeypatch):
    monkeypatch.setattr(can_bus, "HELD_S", 0.2)
    caplog.set_level("INFO")
    interface, bus = FlakyBus.install(missing=1, frames=[], breaks=False)
    source, inbox = make_source(dbc, interface=interface, channel="can9")
    source.start()
    try:
        wait_for(lambda: source.account()["state"] == "error-active")
        wait_for(lambda: "recovered" in caplog.text)
    finally:
        source.stop()
    told = [inbox.get(0), inbox.get(0), inbox.get(0)]
    assert [item and item.available for item in told] == [False, True, None]
    assert bus.opened == 2


EXTENDED_MUX = """VERSION ""
BS_:
BU_: ECU
BO_ 512 Service: 8 ECU
 SG_ Group M : 0|8@1+ (1,0) [0|0] "" ECU
 SG_ Sub m1M : 8|8@1+ (1,0) [0|0] "" ECU
 SG_ Plain m0 : 8|16@1+ (1,0) [0|0] "" ECU
 SG_ Deep m2 : 23|16@0- (0.5,0) [0|0] "" ECU
 SG_ Ranged m5 : 16|8@1+ (1,0) [0|0] "" ECU
SG_MUL_VAL_ 512 Sub Group 1-3;
SG_MUL_VAL_ 512 Plain Group 0-0;
SG_MUL_VAL_ 512 Deep Sub 2-2;
SG_MUL_VAL_ 512 Ranged Sub 5-6, 9-9;
"""


def test_extended_multiplexing_equals_cantools(tmp_path):
    path = tmp_path / "mux.dbc"
    path.write_text(EXTENDED_MUX)
    database = cantools.database.load_file(path)
    rng = random.Random(9)
    assert compare_with_cantools(
        path,
        database,
        rounds=300,
        payloads=lambda _: bytes([rng.randrange(4), rng.randrange(10)]) + rng.randbytes(6),
    )


def test_each_page_of_a_nested_multiplexer_keeps_its_newest_value(tmp_path):
    path = tmp_path / "mux.dbc"
    path.write_text(EXTENDED_MUX)
    names = ("Plain", "Deep", "Ranged")
    signals = make_map({f"signals.{name}": name for name in names}, path)
    for data in ([0, 7, 1], [2, 2, 0, 8], [3, 9, 77], [1, 2, 0, 4], [1, 4, 99, 99], [9, 9, 9]):
        signals.take([frame(512, data + [0] * (8 - len(data)))], 0.0)
    assert signals.read(0.0) == {"signals.Plain": 263, "signals.Deep": 2.0, "signals.Ranged": 77}
