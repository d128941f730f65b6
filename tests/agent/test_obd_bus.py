"""OBD-II and UDS against an ECU on a bus: what is asked, when, and what of it is sent."""

import errno
import socket
import time
import uuid

import can
import pytest

from agent.config import ObdSettings
from agent.config.obd import DtcMode
from agent.errors import SourceError
from agent.host import SystemClock
from agent.inputs import Inbox, SourceChanged
from agent.sources.can.python_can import open_bus, reason
from agent.sources.obd.questions import Dtc, Questions, Value, Vin
from agent.sources.obd.services import Answer
from agent.sources.obd.source import ObdSource
from agent.sources.readings import Readings
from simulator.ecu.engine import EngineState, held
from simulator.ecu.node import EcuNode, EcuOptions
from simulator.ecu.obd import parse_code
from tests.fakes.can_buses import FlakyBus
from tests.fakes.scripted_ecu import ScriptedEcu

QUICK = {"spacing_s": 0.02, "answer_timeout_s": 0.2, "dtc_interval_s": 1}


def wait_for(condition, what, within_s=30):
    end_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end_s, what
        time.sleep(0.02)
    return found


class Bench:
    """A bus, ECUs and the source, on ``virtual``; everything ends with the test."""

    def __init__(self):
        self.channel = uuid.uuid4().hex
        self.clock = SystemClock()
        self.inbox = Inbox()
        self.parts = []

    def ecu(self, *, engine=None, **options):
        node = EcuNode(
            EcuOptions(**options), interface="virtual", channel=self.channel, engine=engine
        )
        node.start()
        self.parts.append(node)
        return node

    def bus(self):
        bus = can.Bus(interface="virtual", channel=self.channel)
        self.parts.append(bus)
        return bus

    def scripted(self, script, **options):
        """An ECU of one value, the speed, and of what ``script`` says."""
        bus = can.Bus(interface="virtual", channel=self.channel)
        has_speed = {"0100": ["0641000008000000"], "010D": ["03410D3200000000"]}
        ecu = ScriptedEcu(bus, {**has_speed, **script}, **options)
        self.parts.append(ecu)
        return ecu

    def source(self, *, mapped=(), ignition=lambda now_s: None, **config):
        settings = ObdSettings.model_validate(
            {"interface": "virtual", "channel": self.channel, **QUICK, **config}
        )
        source = ObdSource(settings, self.inbox, self.clock, mapped=mapped, ignition=ignition)
        source.start()
        self.parts.append(source)
        return source

    def read(self, source):
        return source.read(self.clock.monotonic_s())

    def changes(self):
        found = []
        while (item := self.inbox.get(0)) is not None:
            assert isinstance(item, SourceChanged)
            found.append((item.available, item.reason))
        return found

    def close(self):
        for part in reversed(self.parts):
            part.shutdown() if isinstance(part, can.BusABC) else part.stop()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


DRIVING = held(EngineState(speed_kmh=83, rpm=1850.25, coolant_degc=88, fuel_percent=62))


@pytest.mark.parametrize("ids", ["11bit", "29bit"])
def test_values_codes_and_vin_of_a_running_engine_arrive_as_contract_fields(bench, ids):
    bench.ecu(
        engine=DRIVING,
        extended=ids == "29bit",
        stored=[parse_code("P0301"), parse_code("U0100")],
        pending=[parse_code("P0420"), parse_code("C1234"), parse_code("B0001")],
    )
    source = bench.source(ids=ids)
    values = wait_for(
        lambda: (
            (found := bench.read(source)).get("signals.vin")
            and len(found.get("diagnostics.error_codes", ())) == 5
            and len(found) == 9
            and found
        ),
        "all values",
    )
    assert values == {
        "motion.speed_kmh": 83,
        "signals.engine_rpm": 1850.25,
        "signals.engine_load_pct": pytest.approx(18, abs=0.2),
        "signals.coolant_temperature_c": 88,
        "signals.fuel_level_pct": pytest.approx(62, abs=0.2),
        "battery.voltage": 14.1,
        "diagnostics.odometer_km": 2458,
        "diagnostics.error_codes": ("B0001", "C1234", "P0301", "P0420", "U0100"),
        "signals.vin": "WMPST000000000001",
    }
    assert source.account()["state"] == "ask"
    assert bench.changes() == []


@pytest.fixture
def filtering(monkeypatch):
    """What asks for SocketCAN gets a bus that filters as the kernel would; the filters set."""
    filters = []
    real = can.Bus

    def open_bus(interface, channel, **options):
        assert interface == "socketcan"
        bus = real(interface="virtual", channel=channel, **options)
        set_filters = bus.set_filters
        monkeypatch.setattr(
            bus, "set_filters", lambda wanted: filters.append(wanted) or set_filters(wanted)
        )
        return bus

    def by_interface(**options):
        chosen = open_bus if options["interface"] == "socketcan" else real
        return chosen(**options)

    monkeypatch.setattr(can, "Bus", by_interface)
    return filters


@pytest.mark.parametrize("ids", ["11bit", "29bit"])
def test_behind_the_kernels_filters_only_answers_pass_and_other_traffic_is_still_noticed(
    bench, filtering, ids
):
    extended = ids == "29bit"
    bench.ecu(engine=DRIVING, extended=extended)
    uds = {"request_id": 0x7E1, "response_id": 0x7E9}
    source = bench.source(ids=ids, interface="socketcan", uds=[] if extended else [uds])
    wait_for(
        lambda: len(bench.read(source)) >= 8 and "signals.vin" in bench.read(source), "all values"
    )
    answers = (
        [{"can_id": 0x18DAF100, "can_mask": 0x1FFFFF00, "extended": True}]
        if extended
        else [
            {"can_id": 0x7E8, "can_mask": 0x7F8, "extended": False},
            {"can_id": 0x7E9, "can_mask": 0x7FF, "extended": False},
        ]
    )
    assert filtering[0] == answers
    assert None in filtering, "opened to look for traffic"
    assert source.account()["reason"] in {"bus_awake", "engine_runs"}


SPEED_ONLY = {
    "preset": "none",
    "pids": {"motion.speed_kmh": {"pid": 0x0D, "interval_s": 0.2}},
    "vin": False,
    "dtc_modes": [],
}
IN_USE = {"ignition": lambda now_s: True}


def speed_is_told(bench, source):
    return wait_for(lambda: bench.read(source).get("motion.speed_kmh") == 50, "the speed")


def test_two_ecus_give_their_codes_and_each_value_comes_from_the_one_that_has_it(bench):
    bench.ecu(engine=DRIVING, pids=(0x0C, 0x0D), stored=[parse_code("P0301")])
    bench.ecu(
        number=1,
        engine=held(EngineState(coolant_degc=91)),
        pids=(0x05, 0x42),
        vin=None,
        stored=[parse_code(text) for text in ("U0100", "C0035", "B1000", "P0700")],
    )
    source = bench.source()
    values = wait_for(lambda: len(found := bench.read(source)) == 6 and found, "both ECUs' values")
    assert values["signals.coolant_temperature_c"] == 91
    assert values["motion.speed_kmh"] == 83
    wait_for(lambda: len(bench.read(source)["diagnostics.error_codes"]) == 5, "the codes of both")
    assert source.account()["ecus"] == ["7E8", "7E9"]


def test_a_code_that_is_erased_is_gone_with_the_next_reading(bench):
    answers = iter([["0643010301000000"]])
    bench.scripted({"03": lambda: next(answers, ["0243000000000000"])})
    source = bench.source(**{**SPEED_ONLY, "dtc_modes": ["stored"]}, **IN_USE)
    codes = lambda: bench.read(source).get("diagnostics.error_codes")  # noqa: E731
    wait_for(lambda: codes() == ("P0301",), "the code")
    wait_for(lambda: codes() == (), "erased")


def test_response_pending_is_waited_for(bench):
    bench.ecu(engine=DRIVING, answer_after_s=0.6)
    source = bench.source(answer_timeout_s=0.15)
    wait_for(lambda: bench.read(source).get("motion.speed_kmh") == 83, "the slow answer")
    assert source.account()["answered"] == source.account()["requests"]


def test_an_ecu_that_stays_pending_is_given_up_and_the_others_are_asked_on(bench, monkeypatch):
    monkeypatch.setattr("agent.sources.obd.link.PENDING_TIMEOUT_S", 1)
    pending = ["037F0378AAAAAAAA"]
    bench.scripted({"03": pending})
    source = bench.source(**{**SPEED_ONLY, "dtc_modes": ["stored"]}, **IN_USE)
    speed_is_told(bench, source)
    wait_for(lambda: source.requests > source.answered, "given up after P2*")
    asked = source.answered
    wait_for(lambda: source.answered > asked, "asked on")


def test_a_refused_pid_is_dropped_and_the_rest_goes_on(bench):
    ecu = bench.ecu(engine=DRIVING, refused_pids=[0x05, 0x2F])
    source = bench.source()
    wait_for(lambda: bench.read(source).get("battery.voltage") == 14.1, "the others")
    wait_for(lambda: source.account()["refused"] >= 2, "the refusals")
    assert "signals.coolant_temperature_c" not in bench.read(source)
    assert ecu.counts.requests > 0


VIN_FRAMES = ["1014490201574D50", "2153543030303030", "2230303030303031"]
"""49 02 01 WMPST000000000001, by hand."""


@pytest.mark.parametrize(
    ("vin_answer", "error"),
    [
        ([VIN_FRAMES[0], "FC", VIN_FRAMES[2], VIN_FRAMES[1]], "WrongSequenceNumberError"),
        ([VIN_FRAMES[0], "FC", VIN_FRAMES[1], 1.3], "ConsecutiveFrameTimeoutError"),
        ([VIN_FRAMES[0], "FC", VIN_FRAMES[1], VIN_FRAMES[1]], "WrongSequenceNumberError"),
        ([VIN_FRAMES[1]], "UnexpectedConsecutiveFrameError"),
        (["F014490201574D50"], "InvalidCanDataError"),
    ],
    ids=["wrong-order", "ecu-reset", "repeated", "no-first-frame", "garbage"],
)
def test_a_broken_multi_frame_answer_is_no_vin_and_the_next_one_is(
    bench, monkeypatch, vin_answer, error
):
    monkeypatch.setattr("agent.sources.obd.questions.DISCOVER_S", 0.5)
    answers = iter([vin_answer])
    whole = [VIN_FRAMES[0], "FC", *VIN_FRAMES[1:]]
    ecu = bench.scripted({"0902": lambda: next(answers, whole)})
    source = bench.source(**{**SPEED_ONLY, "vin": True}, **IN_USE)
    wait_for(lambda: bench.read(source).get("signals.vin"), "the VIN of the second asking")
    assert bench.read(source)["signals.vin"] == "WMPST000000000001"
    assert source._link.transport_errors[error] >= 1
    assert ecu.asked.count(b"\x09\x02") == 2
    speed_is_told(bench, source)


def test_frames_of_two_ecus_that_answer_at_once_may_interleave(bench):
    other = [(0x7E9, "100843030301C100"), (0x7E9, "2180350000000000")]
    mixed = ["1008430303010420", other[0], "FC", "21C1230000000000", other[1]]
    bench.scripted({"03": mixed})
    source = bench.source(**{**SPEED_ONLY, "dtc_modes": ["stored"]}, **IN_USE)
    wait_for(
        lambda: (
            bench.read(source).get("diagnostics.error_codes")
            == ("B0035", "P0301", "P0420", "U0100", "U0123")
        ),
        lambda: bench.read(source),
    )


def test_flow_control_goes_to_the_one_ecu_and_never_to_all(bench):
    ecu = bench.scripted({"0902": [VIN_FRAMES[0], "FC", *VIN_FRAMES[1:]]})
    source = bench.source(**{**SPEED_ONLY, "vin": True}, **IN_USE)
    wait_for(lambda: bench.read(source).get("signals.vin"), "the VIN")
    controls = [(to, data.hex()) for to, data in ecu.frames if data[0] >> 4 == 3]
    assert controls == [(0x7E0, "3000000000000000")]
    requests = [len(data) for _, data in ecu.frames]
    assert set(requests) == {8}, "ISO 15765-4 wants eight bytes"


def test_another_testers_conversation_is_left_alone(bench):
    ecu = bench.scripted({})
    other = bench.bus()
    source = bench.source(**SPEED_ONLY, **IN_USE)
    speed_is_told(bench, source)
    before = len([data for _, data in ecu.frames if data[0] >> 4 == 3])
    for _ in range(5):
        # its answers come between our requests, mostly
        other.send(
            can.Message(
                arbitration_id=0x7E8, data=bytes.fromhex("0641009E3A801100"), is_extended_id=False
            )
        )
        time.sleep(0.05)
    time.sleep(0.5)
    assert len([data for _, data in ecu.frames if data[0] >> 4 == 3]) == before
    assert bench.read(source) == {"motion.speed_kmh": 50}


def test_an_ecu_that_answers_nothing_in_use_is_a_fault_that_is_told_once(bench, monkeypatch):
    monkeypatch.setattr("agent.sources.obd.questions.DISCOVER_S", 0.2)
    source = bench.source(**SPEED_ONLY, **IN_USE, spacing_s=0.01, answer_timeout_s=0.05)
    changes = wait_for(bench.changes, "the fault", 60)
    assert changes == [(False, "no ECU answers although the vehicle is in use")]
    bench.scripted({})
    speed_is_told(bench, source)
    assert bench.changes() == [(True, "")]


def test_bus_off_is_told_and_asking_goes_on_after_it(bench):
    bench.scripted({})
    source = bench.source(**SPEED_ONLY, **IN_USE)
    speed_is_told(bench, source)
    bus = bench.bus()
    bus.send(can.Message(is_error_frame=True, arbitration_id=0x40))
    changes = wait_for(bench.changes, "bus-off")
    assert "bus-off" in changes[0][1]
    before = source.answered
    wait_for(lambda: source.answered > before, "asked again")
    assert [available for available, _ in [*changes, *bench.changes()]] == [False, True]


def test_an_interface_that_is_missing_at_boot_is_tried_again(bench):
    source = bench.source(
        **SPEED_ONLY, interface="socketcan", channel="nosuchcan0", ignition=lambda now_s: True
    )
    changes = wait_for(bench.changes, "the fault")
    assert changes[0][0] is False
    assert "cannot open" in changes[0][1]
    assert source.read(bench.clock.monotonic_s()) == {}


class NoSuchInterface(socket.socket):
    """A CAN socket of a kernel that has CAN, but not the interface."""

    def __init__(self):
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)

    def setsockopt(self, *option):
        pass

    def bind(self, address):
        raise OSError(errno.ENODEV, f"No such device {address}")


def test_a_missing_interface_is_told_by_us_alone_and_with_what_to_do(monkeypatch, caplog):
    monkeypatch.setattr("can.interfaces.socketcan.socketcan.create_socket", NoSuchInterface)
    with pytest.raises(SourceError, match="there is no interface can0; `ip link` lists them"):
        open_bus(ObdSettings.model_validate({}))
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (can.CanOperationError("gone", errno.ENODEV), "there is no interface can0; `ip link`"),
        (can.CanOperationError("Network is down", errno.ENETDOWN), "`ip link set can0 up`"),
        (can.CanOperationError("odd"), "odd"),
    ],
)
def test_what_the_kernel_says_of_an_interface_is_told_with_what_to_do(error, told):
    assert told in reason(error, ObdSettings.model_validate({}))


def test_an_interface_that_goes_down_while_the_vehicle_sleeps_is_noticed(bench):
    interface, kind = FlakyBus.install(missing=0, frames=(), breaks=False)
    bench.source(**SPEED_ONLY, interface=interface, ignition=lambda now_s: False)
    time.sleep(0.5)
    assert bench.changes() == []
    kind.breaks = True
    changes = wait_for(bench.changes, "the loss")
    assert [available for available, _ in changes] == [False]
    time.sleep(3)
    assert bench.changes() == [], "a bus that is down has not recovered"
    kind.breaks = False
    assert wait_for(bench.changes, "the recovery") == [(True, "")]


# asleep


def test_nothing_is_sent_to_a_vehicle_that_sleeps_and_the_ecu_stays_asleep(bench):
    ecu = bench.ecu(engine=held(EngineState(ignition=False, rpm=0)), stays_awake_s=0)
    listener = bench.bus()
    source = bench.source(quiet_s=1)
    time.sleep(4)
    assert listener.recv(0) is None
    assert ecu.counts.asleep
    assert (ecu.counts.requests, ecu.counts.unheard) == (0, 0)
    assert source.account()["reason"] == "bus_silent"
    assert bench.changes() == []


def test_asking_ends_with_the_engine_so_that_the_ecu_falls_asleep(bench, monkeypatch):
    monkeypatch.setattr("agent.sources.obd.awake.RUNNING_S", 3)
    state = {"now": EngineState(speed_kmh=30, rpm=1500)}
    ecu = bench.ecu(engine=lambda elapsed_s: state["now"], stays_awake_s=2)
    source = bench.source(quiet_s=1, engine_off_s=5, probe_s=3600)
    wait_for(lambda: bench.read(source).get("motion.speed_kmh") == 30, "asked")
    state["now"] = EngineState(ignition=False, rpm=0, speed_kmh=0)
    wait_for(lambda: ecu.counts.asleep, "the ECU sleeps although it was asked before", 60)
    wait_for(lambda: source.account()["reason"] == "bus_silent", "and is left alone")
    asked = ecu.counts.requests, ecu.counts.unheard
    time.sleep(2.5)
    assert (ecu.counts.requests, ecu.counts.unheard) == asked
    state["now"] = EngineState(speed_kmh=20, rpm=1200)
    wait_for(lambda: bench.read(source).get("motion.speed_kmh") == 20, "asked again", 30)


def test_the_ignition_that_a_can_signal_tells_goes_before_everything(bench):
    ignition = {"now": False}
    ecu = bench.ecu(engine=DRIVING)
    source = bench.source(ignition=lambda now_s: ignition["now"])
    source.set_in_trip(in_trip=True)
    time.sleep(1.5)
    assert ecu.counts.requests == 0
    assert source.account()["reason"] == "ignition_off"
    ignition["now"] = True
    wait_for(lambda: bench.read(source).get("motion.speed_kmh") == 83, "asked")


def test_whether_the_engine_runs_is_asked_before_codes_and_vin():
    questions = Questions(ObdSettings.model_validate({}), Readings())
    questions.begin(0.0)
    discover, _ = questions.next()
    questions.request(discover, 0.0)
    has_rpm_and_speed = bytes.fromhex("00180000")
    questions.answered(discover, [Answer(0x7E8, has_rpm_and_speed)], 0.0)
    asked = []
    for _ in range(5):
        question, _ = questions.next()
        questions.request(question, 0.0)
        asked.append(question)
    assert asked == [Value(0x0C), Value(0x0D), Dtc(DtcMode.STORED), Dtc(DtcMode.PENDING), Vin()]


def test_behind_a_gateway_asking_begins_with_the_trip(bench):
    ecu = bench.ecu(engine=DRIVING, traffic_every_s=0)
    source = bench.source(quiet_s=1)
    time.sleep(2)
    assert ecu.counts.requests == 0
    source.set_in_trip(in_trip=True)
    wait_for(lambda: bench.read(source).get("motion.speed_kmh") == 83, "asked")
    source.set_in_trip(in_trip=False)
    time.sleep(0.5)
    assert source.account()["reason"] == "engine_runs"


# UDS


def test_codes_are_read_by_uds_where_configured(bench):
    bench.ecu(
        engine=DRIVING,
        stored=[parse_code("B1234-11"), parse_code("P0301")],
        pending=[parse_code("U0100-87")],
    )
    asked = {"request_id": 0x7E0, "response_id": 0x7E8, "interval_s": 1}
    off = {"preset": "none", "vin": False, "dtc_modes": []}
    source = bench.source(**off, uds=[asked])
    wait_for(
        lambda: bench.read(source) == {"diagnostics.error_codes": ("B1234-11", "P0301")},
        "confirmed codes",
    )
    everything = bench.source(**off, uds=[{**asked, "status_mask": 0x0C}])
    wait_for(
        lambda: (
            bench.read(everything).get("diagnostics.error_codes")
            == ("B1234-11", "P0301", "U0100-87")
        ),
        "pending ones too",
    )


def test_a_uds_server_that_refuses_the_service_is_not_asked_again(bench):
    ecu = bench.scripted({"190208": ["037F1911AAAAAAAA"]})
    asked = {"request_id": 0x7E0, "response_id": 0x7E8, "interval_s": 1}
    source = bench.source(**SPEED_ONLY, uds=[asked], **IN_USE)
    speed_is_told(bench, source)
    time.sleep(2.5)
    assert ecu.asked.count(bytes.fromhex("190208")) == 1
    assert "diagnostics.error_codes" not in bench.read(source)
