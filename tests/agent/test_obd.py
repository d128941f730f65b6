"""OBD-II and UDS as bytes, tables and plans: no bus, no thread, no clock."""

import dataclasses
import re

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ObdSettings
from agent.config.obd import PRESETS, IdWidth, ObdPreset
from agent.engine.merge import merged
from agent.sources.obd import addresses, codes, pids, services
from agent.sources.obd.awake import Awake
from agent.sources.obd.plan import Plan
from agent.sources.obd.policy import TABLE, Asking, Evidence, decide, spacing_s
from agent.sources.obd.questions import Discover, Questions, Supported, Value, Vin
from agent.sources.obd.services import Answer, parse_answer
from agent.sources.readings import Readings
from simulator.ecu import obd as peer

# values

FRAME = re.compile(r"\((?P<at>[\d.]+)\) \w+ 7E8#(?P<data>[0-9A-F]{16})")


@pytest.fixture
def css(traces):
    return cantools.database.load_file(traces / "can/CSS-Electronics-OBD2-v1.4.dbc")


def close(value, expected):
    """The CSS tables round 100/255 to five digits."""
    return value == pytest.approx(expected, rel=2e-5, abs=1e-9)


@pytest.mark.needs_traces
def test_the_recorded_cars_answers_decode_as_cantools_decodes_them(traces, css):
    compared = dict.fromkeys(pids.PIDS, 0)
    unknown = set()
    for line in (traces / "can/dev01_car_gps_obd_start.candump").read_text().splitlines():
        parts = FRAME.match(line)
        if parts is None:
            continue
        frame = bytes.fromhex(parts["data"])
        length, payload = frame[0], frame[1 : 1 + frame[0]]
        assert length == len(payload)
        assert payload[0] == 0x41
        number = payload[1]
        answer = parse_answer(bytes([0x01, number]), 0x7E8, payload)
        decoded = css.decode_message(0x7E8, frame, decode_choices=False)
        (expected,) = (value for name, value in decoded.items() if f"_PID_{number:02X}_" in name)
        if number not in pids.PIDS:
            unknown.add(number)
            continue
        assert close(pids.PIDS[number].decode(answer.data), expected), line
        compared[number] += 1
    assert sum(compared.values()) > 5_000
    assert {number for number, count in compared.items() if count} >= {
        *(0x04, 0x05, 0x0B, 0x0C, 0x0D, 0x11, 0x2F, 0x33, 0x42)
    }
    assert not unknown - {0x01, 0x03}


@pytest.mark.needs_traces
def test_every_known_pid_decodes_as_in_the_published_dbc_over_its_whole_range(css):
    message = css.get_message_by_frame_id(0x7E8)
    compared = set()
    for number, pid in pids.PIDS.items():
        signals = [
            one
            for one in message.signals
            if one.name.startswith(f"S1_PID_{number:02X}_") and one.start == 31
        ]
        for signal in signals:
            for raw in range(0, 256**pid.answer_bytes, 1 if pid.answer_bytes == 1 else 257):
                data = raw.to_bytes(pid.answer_bytes, "big")
                frame = (bytes([2 + len(data), 0x41, number]) + data).ljust(8, b"\xaa")
                expected = css.decode_message(0x7E8, frame, decode_choices=False)[signal.name]
                assert pid.decode(data) == pytest.approx(expected, rel=2e-5, abs=1e-9), signal.name
                if pid.answer_bytes == 4 and raw > 300_000:
                    break
            compared.add(number)
    assert compared >= pids.PIDS.keys() - {0xA6}


def test_the_odometer_of_pid_a6_is_in_tenths_of_a_kilometre():
    assert pids.PIDS[0xA6].decode(bytes.fromhex("00060004")) == pytest.approx(39322.0)


def test_an_answer_that_is_too_short_has_no_value():
    assert pids.PIDS[0x0C].decode(b"\x1a") is None
    assert pids.plain(0xA4, 2).decode(b"\x01\x02\x03") == 0x0102


def test_the_bitmap_of_supported_pids_is_read_from_its_first_bit():
    # the example of SAE J1979: BE 1F A8 13
    found = list(pids.supported(0, bytes.fromhex("BE1FA813")))
    told = "01 03 04 05 06 07 0C 0D 0E 0F 10 11 13 15 1C 1F 20"
    assert " ".join(f"{one:02X}" for one in found) == told


@given(st.sets(st.integers(1, 0xFF).filter(lambda one: one % 0x20)))
def test_every_set_of_pids_is_discovered_from_an_ecus_bitmaps(having):
    found = set()
    base = 0
    while True:
        step = set(pids.supported(base, peer.supported(base, having)))
        found |= {one for one in step if one % 0x20}
        base += 0x20
        if base not in step:
            break
    assert found == having


# codes


def test_codes_are_written_as_on_a_testers_screen():
    assert codes.code_text(0x03, 0x01) == "P0301"
    assert codes.code_text(0x43, 0x0F) == "C030F"
    assert codes.code_text(0x92, 0x34) == "B1234"
    assert codes.code_text(0xC1, 0x00) == "U0100"
    assert codes.code_text(0x3A, 0xBC) == "P3ABC"


def test_the_count_of_codes_is_believed_only_as_far_as_there_are_bytes():
    assert codes.obd_codes(bytes.fromhex("0203010420")) == ("P0301", "P0420")
    assert codes.obd_codes(b"\x00") == ()
    assert codes.obd_codes(bytes.fromhex("01030100000000")) == ("P0301",), "padding is no code"
    assert codes.obd_codes(bytes.fromhex("030301")) is None
    assert codes.obd_codes(b"") is None


def test_uds_codes_carry_their_failure_type_and_only_those_of_the_mask_count():
    data = bytes.fromhex("2F9234110903010008C100870400000008")
    assert codes.uds_codes(data, 0x08) == ("B1234-11", "P0301")
    assert codes.uds_codes(data, 0x04) == ("U0100-87",)
    assert codes.uds_codes(b"\xff", 0x08) == ()
    assert codes.uds_codes(data[:-1], 0x08) is None


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFF))
def test_every_code_is_read_as_it_is_written(pair, failure):
    text = codes.code_text(pair >> 8, pair & 0xFF)
    written = text + (f"-{failure:02X}" if failure else "")
    code = peer.parse_code(written)
    assert (code.high << 8 | code.low, code.failure) == (pair, failure)


@pytest.mark.parametrize(
    ("data", "vin"),
    [
        ("01" + b"1D4GP00R55B123456".hex(), "1D4GP00R55B123456"),
        ("01" + "000000" + b"1D4GP00R55B123456".hex(), "1D4GP00R55B123456"),
        ("01" + b"1D4GP00R55B123456".hex() + "aaaaaa", "1D4GP00R55B123456"),
        ("01" + b"1D4GP00R55B12345".hex(), None),
        ("01" + b"1D4GP00R55B12345O".hex(), None),
        ("01" + "ff" * 17, None),
        ("", None),
    ],
)
def test_a_vin_is_seventeen_characters_wherever_the_padding_is(data, vin):
    assert codes.vin_text(bytes.fromhex(data)) == vin


REQUESTS = ("0100", "010C", "03", "07", "0A", "0902", "190208")


@given(st.binary(max_size=64), st.sampled_from(REQUESTS))
def test_arbitrary_answers_raise_nothing(payload, asked):
    answer = parse_answer(bytes.fromhex(asked), 0x7E8, payload)
    data = answer.data if answer else payload
    codes.vin_text(data)
    codes.obd_codes(data)
    codes.uds_codes(data, 0x08)
    list(pids.supported(0, data))
    for pid in pids.PIDS.values():
        pid.decode(data)


# services and addresses


def test_an_answer_to_another_question_is_none():
    asked = bytes.fromhex("010C")
    assert parse_answer(asked, 1, bytes.fromhex("410C1AF8")) == Answer(1, b"\x1a\xf8")
    assert parse_answer(asked, 1, bytes.fromhex("410D1A")) is None
    assert parse_answer(asked, 1, bytes.fromhex("7F0112")) == Answer(1, refusal=0x12)
    assert parse_answer(asked, 1, bytes.fromhex("7F0312")) is None
    assert parse_answer(asked, 1, bytes.fromhex("7F01")) is None
    assert parse_answer(b"\x03", 1, bytes.fromhex("4300")) == Answer(1, b"\x00")
    assert parse_answer(asked, 1, b"") is None


@pytest.mark.parametrize(
    ("ids", "request_id", "answer_id", "physical"),
    [
        (IdWidth.BITS_11, 0x7DF, 0x7EA, 0x7E2),
        (IdWidth.BITS_29, 0x18DB33F1, 0x18DAF128, 0x18DA28F1),
    ],
)
def test_everyone_is_asked_and_each_is_answered_to_alone(ids, request_id, answer_id, physical):
    target = addresses.everyone(ids)
    extended = ids is IdWidth.BITS_29
    assert target.request_id == request_id
    assert not target.is_one
    assert target.is_answer(answer_id, extended=extended)
    assert not target.is_answer(answer_id, extended=not extended)
    assert not target.is_answer(request_id, extended=extended)
    assert target.flow_control_id(answer_id) == physical
    assert addresses.one(answer_id).is_one
    assert addresses.one(answer_id).request_id == physical


@pytest.mark.parametrize(
    ("frame_id", "extended", "expected"),
    [
        (0x7DF, False, True),
        (0x7E0, False, True),
        (0x7EF, False, True),
        (0x7F0, False, False),
        (0x0B4, False, False),
        (0x7DF, True, False),
        (0x18DB33F1, True, True),
        (0x18DA10F1, True, True),
        (0x18DAF110, True, True),
        (0x18FEF100, True, False),
    ],
)
def test_a_testers_conversation_does_not_show_that_a_vehicle_is_awake(frame_id, extended, expected):
    assert addresses.is_diagnostic(frame_id, extended=extended) is expected


# when to ask

ASLEEP = Evidence(
    ignition=None,
    in_trip=False,
    running=False,
    running_ago_s=1000,
    traffic_ago_s=None,
    quiet_s=10,
    engine_off_s=60,
)


@pytest.mark.parametrize(
    ("known", "reason", "asking"),
    [
        ({}, "bus_silent", Asking.LISTEN),
        ({"ignition": False, "in_trip": True, "traffic_ago_s": 0}, "ignition_off", Asking.LISTEN),
        ({"ignition": True}, "ignition_on", Asking.ASK),
        ({"in_trip": True}, "in_trip", Asking.ASK),
        ({"running": True}, "engine_runs", Asking.ASK),
        ({"traffic_ago_s": 10, "running_ago_s": 1}, "bus_silent", Asking.LISTEN),
        ({"traffic_ago_s": 9, "running_ago_s": 59}, "bus_awake", Asking.ASK),
        ({"traffic_ago_s": 9, "running_ago_s": 60}, "engine_off", Asking.PROBE),
    ],
)
def test_the_table_says_when_an_ecu_may_be_asked(known, reason, asking):
    assert decide(dataclasses.replace(ASLEEP, **known)) == (reason, asking)


def test_every_row_of_the_table_is_in_the_documentation(request):
    text = (request.config.rootpath / "docs/obd.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| .* \| (listen|ask|one probe every `probe_s`) \| `(\w+)` \|$", text, re.MULTILINE
    )
    words = {Asking.LISTEN: "listen", Asking.ASK: "ask", Asking.PROBE: "one probe every `probe_s`"}
    assert rows == [(words[asking], reason) for reason, _, asking in TABLE]


def awake_at(now_s, **config):
    return Awake(ObdSettings.model_validate(config), now_s)


def test_a_parked_vehicle_goes_from_asking_to_probing_to_listening():
    awake = awake_at(0)
    states = []
    for now_s in range(600):
        if now_s < 200:  # the bus sleeps a while after the engine stops
            awake.saw_traffic(now_s)
        if now_s < 50:
            awake.saw_running(now_s)
        awake.observe(now_s, ignition=None, in_trip=False)
        if not states or states[-1][1:] != (awake.asking, awake.reason):
            states.append((now_s, awake.asking, awake.reason))
    assert states == [
        (0, Asking.ASK, "engine_runs"),
        (60, Asking.ASK, "bus_awake"),
        (109, Asking.PROBE, "engine_off"),
        (209, Asking.LISTEN, "bus_silent"),
    ]


def test_each_waking_has_its_own_time_for_the_engine_to_start():
    awake = awake_at(0)
    awake.observe(1000, ignition=None, in_trip=False)
    assert awake.asking is Asking.LISTEN
    awake.saw_traffic(5000)
    assert awake.observe(5000, ignition=None, in_trip=False)
    assert (awake.asking, awake.reason) == (Asking.ASK, "bus_awake")
    awake.saw_traffic(5060)
    assert not awake.observe(5060, ignition=None, in_trip=False)
    assert awake.asking is Asking.PROBE


def test_requests_are_spaced_wider_and_wider_while_nobody_answers():
    assert [spacing_s(0.1, missed) for missed in (0, 1, 2, 5)] == [0.1, 0.2, 0.4, 3.2]
    assert spacing_s(0.1, 50) == 30
    assert spacing_s(60, 3) == 60


# what to ask


def test_intervals_do_not_drift_and_missed_ones_are_not_made_up_for():
    plan = Plan()
    plan.add("fast", 1, 100)
    plan.add("slow", 10, 100)
    asked = []
    for now_s in (100, 100.1, 101.3, 102.01, 107.5, 108.2, 109, 110, 110.4):
        key, due_s = plan.next()
        assert due_s <= now_s
        plan.asked(key, now_s)
        asked.append((key, due_s))
    assert asked == [
        ("fast", 100),
        ("slow", 100),
        ("fast", 101),
        ("fast", 102),
        ("fast", 103),  # four were missed while an ECU was slow
        ("fast", 108),
        ("fast", 109),
        ("fast", 110),
        ("slow", 110),
    ]


def questions(mapped=(), **config):
    readings = Readings()
    made = Questions(ObdSettings.model_validate(config), readings, mapped)
    made.begin(0)
    return made, readings


def drain(made, now_s=0.0, answers=lambda request: []):
    """Ask what is due until nothing is; what was asked."""
    asked = []
    while (upcoming := made.next()) is not None and upcoming[1] <= now_s:
        question = upcoming[0]
        request = made.request(question, now_s)
        asked.append(request)
        given = answers(request)
        if given:
            made.answered(question, given, now_s)
        else:
            made.missed(question, now_s)
    return asked


def answering(bitmaps):
    def answer(request):
        if request.data[:1] == b"\x01" and request.data[1] in bitmaps:
            return [Answer(0x7E8, bytes.fromhex(bitmaps[request.data[1]]))]
        return []

    return answer


def test_only_what_an_ecu_has_is_asked_for_and_of_that_ecu():
    made, _ = questions(dtc_modes=[], vin=False)
    # 0C and 0D, and more after 20; 2F, and more after 40; nothing there that is wanted
    asked = drain(made, answers=answering({0x00: "00180001", 0x20: "00020001", 0x40: "00000000"}))
    told = sorted((request.target.request_id, request.data.hex()) for request in asked)
    assert told == [
        (0x7DF, "0100"),
        *((0x7E0, one) for one in ("010c", "010d", "0120", "012f", "0140")),
    ]


def test_what_a_can_signal_fills_is_not_asked_for_unless_it_is_named():
    made, _ = questions(mapped={"motion.speed_kmh"}, dtc_modes=[], vin=False)
    asked = drain(made, answers=answering({0: "00180000"}))
    assert "010d" not in [request.data.hex() for request in asked]
    made, _ = questions(
        mapped={"motion.speed_kmh"}, pids={"motion.speed_kmh": 0x0D}, dtc_modes=[], vin=False
    )
    asked = drain(made, answers=answering({0: "00180000"}))
    assert "010d" in [request.data.hex() for request in asked]


def test_a_refused_pid_is_asked_again_only_if_the_refusal_is_of_the_moment():
    for refusal, again in ((0x12, False), (0x31, False), (0x22, True), (0x21, True)):
        made, _ = questions(preset="none", pids={"motion.speed_kmh": 0x0D}, dtc_modes=[], vin=False)
        drain(made, answers=answering({0: "00080000"}))

        def refuse(request, refusal=refusal):
            return [Answer(0x7E8, refusal=refusal)]

        assert len(drain(made, 1, refuse)) == 1
        assert len(drain(made, 2, refuse)) == again, hex(refusal)


def test_a_question_that_nobody_knows_is_left_after_three_times_while_others_are_answered():
    made, _ = questions(preset="none", pids={"motion.speed_kmh": 0x0D}, dtc_modes=["permanent"])
    answers = answering({0: "00080000", 0x0D: "32"})
    asked = [
        request.data.hex() for now_s in range(0, 400, 1) for request in drain(made, now_s, answers)
    ]
    assert asked.count("0902") == 3
    assert asked.count("0a") == 3
    assert asked.count("010d") == 400


def test_the_first_of_two_ecus_that_have_a_value_counts():
    made, readings = questions(
        preset="none", pids={"motion.speed_kmh": 0x0D}, dtc_modes=[], vin=False
    )
    made.answered(
        Discover(),
        [Answer(0x7E9, bytes.fromhex("00080000")), Answer(0x7E8, bytes.fromhex("00080000"))],
        0,
    )
    assert made.request(Value(0x0D), 0).target == addresses.one(0x7E8)
    assert made.answered(Value(0x0D), [Answer(0x7E8, b"\x32"), Answer(0x7E9, b"\x31")], 0)
    assert readings.read(0)["motion.speed_kmh"] == 50
    assert not made.answered(Value(0x0D), [Answer(0x7E8, b"\x00")], 1)


def test_a_pid_the_agent_does_not_know_is_read_as_its_bytes_say():
    made, readings = questions(
        preset="none",
        pids={"signals.gear": {"pid": 0xA4, "bytes": 1, "scale": 0.5, "offset": -1}},
        dtc_modes=[],
        vin=False,
    )
    made.answered(Value(0xA4), [Answer(0x7E8, bytes.fromhex("0C0203E8"))], 0)
    assert readings.read(0) == {"signals.gear": 5}


def test_the_engine_speed_may_tell_that_the_vehicle_is_in_use():
    made, readings = questions(pids={"vehicle_status.in_use": 0x0C}, dtc_modes=[], vin=False)
    for answer, in_use in (("0d70", True), ("0000", False)):
        made.answered(Value(0x0C), [Answer(0x7E8, bytes.fromhex(answer))], 0)
        assert readings.read(0)["vehicle_status.in_use"] is in_use
    assert readings.read(0)["signals.engine_rpm"] == 0


def test_values_go_stale_and_codes_and_the_vin_are_held():
    made, readings = questions(dtc_modes=["stored"])
    made.answered(Value(0x0D), [Answer(0x7E8, b"\x32")], 0)
    made.answered(Vin(), [Answer(0x7E8, b"\x01WMPST000000000001")], 0)
    readings.put_codes("ecu", ("P0301",))
    assert readings.read(9)["motion.speed_kmh"] == 50
    assert readings.read(11) == {
        "signals.vin": "WMPST000000000001",
        "diagnostics.error_codes": ("P0301",),
    }
    assert readings.received_s("motion.speed_kmh") == 0


def test_a_reading_of_codes_that_got_lost_is_made_up_for_soon():
    made, readings = questions(preset="none", dtc_modes=["stored"], vin=False)
    drain(made, answers=answering({0: "00000000"}))
    codes_at = [
        now_s
        for now_s in range(1, 140)
        for _ in drain(made, now_s, lambda request: [Answer(0x7E8, b"\x00")])
    ]
    assert codes_at == [5, 65, 125]
    assert readings.read(0) == {"diagnostics.error_codes": ()}


def test_a_part_of_the_bitmap_that_got_no_answer_is_asked_for_again():
    made, _ = questions(
        preset="none", pids={"diagnostics.odometer_km": 0xA6}, dtc_modes=[], vin=False
    )
    made.answered(Discover(), [Answer(0x7E8, bytes.fromhex("00000001"))], 0)
    assert made.next()[0] == Supported(0x7E8, 0x20)
    made.request(Supported(0x7E8, 0x20), 0)
    made.missed(Supported(0x7E8, 0x20), 0)
    assert made.next() == (Supported(0x7E8, 0x20), 5)


# config


@pytest.mark.parametrize("preset", ObdPreset)
def test_every_preset_names_known_pids_and_fields(preset):
    settings = ObdSettings(preset=preset)
    checked = ObdSettings.model_validate({"pids": settings.wanted()})
    assert checked.pids == PRESETS[preset]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"pids": {"motion.sped_kmh": 0x0D}}, 'did you mean "motion.speed_kmh"'),
        ({"pids": {"diagnostics.error_codes": 0x01}}, "dtc_modes"),
        ({"pids": {"signals.x": 0x20}}, "lists PIDs"),
        ({"pids": {"signals.x": 0xA4}}, "give its bytes"),
        ({"uds": [{"request_id": 0x7E0, "response_id": 0x18DAF110}]}, "11 bits or both 29"),
        ({"uds": [{"request_id": 0x7E0, "response_id": 0x7E0}]}, "must differ"),
        ({"ids": "12bit"}, "'11bit' or '29bit'"),
    ],
)
def test_a_mistake_in_the_section_is_named(table, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        ObdSettings.model_validate(table)


def test_pids_may_be_written_as_tables_in_tables():
    nested = ObdSettings.model_validate({"pids": {"motion": {"speed_kmh": {"pid": 0x0D}}}})
    assert nested.pids == ObdSettings.model_validate({"pids": {"motion.speed_kmh": 0x0D}}).pids


# several readers


class Told:
    def __init__(self, **values):
        self.values = {name.replace("__", "."): value for name, value in values.items()}

    def read(self, now_s):
        return self.values

    def received_s(self, name):
        return None


def test_codes_of_all_sources_add_up_and_of_other_values_the_last_counts():
    obd = Told(diagnostics__error_codes=("P0301", "P0420"), motion__speed_kmh=50)
    truck = Told(diagnostics__error_codes=("SPN 110 FMI 3", "P0301"))
    bus = Told(motion__speed_kmh=51.5)
    assert merged([obd, truck, bus], 0) == {
        "diagnostics.error_codes": ("P0301", "P0420", "SPN 110 FMI 3"),
        "motion.speed_kmh": 51.5,
    }


def test_a_sample_holds_no_more_codes_than_the_contract_allows():
    many = Told(diagnostics__error_codes=tuple(f"P{number:04X}" for number in range(100)))
    assert len(merged([many, many], 0)["diagnostics.error_codes"]) == 64


def test_refusals_that_are_for_ever_are_those_of_the_standard():
    assert sorted(services.NEVER) == [0x11, 0x12, 0x31, 0x7F]
