"""The simulator's ECUs, asked and heard by clients that nobody here wrote."""

import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import can
import cantools
import isotp
import j1939 as can_j1939
import pytest
import udsoncan
from click.testing import CliRunner
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from agent.config import J1939Settings, ObdSettings
from agent.host import SystemClock
from agent.inputs import Inbox
from agent.sources.j1939.source import J1939Source
from agent.sources.obd.source import ObdSource
from simulator.cli import cli
from simulator.ecu import j1939, uds
from simulator.ecu.engine import EngineState, driven, held, rpm_at
from simulator.ecu.node import DEFAULT_VIN, EcuNode, EcuOptions
from simulator.ecu.obd import parse_code
from simulator.ecu.truck import TruckNode, TruckOptions


def wait_for(condition, what, within_s=30):
    end_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end_s, what
        time.sleep(0.02)
    return found


@pytest.fixture
def channel():
    return uuid.uuid4().hex


@pytest.fixture
def started():
    """Start parts; the last one ends first."""
    parts = []

    def start(part):
        part.start()
        parts.append(part)
        return part

    yield start
    for part in reversed(parts):
        part.stop()


DRIVING = EngineState(speed_kmh=83.4, rpm=1850.3, coolant_degc=88.2, odometer_km=2458.37)


@pytest.fixture
def uds_client(channel):
    bus = can.Bus(interface="virtual", channel=channel)
    stack = isotp.CanStack(
        bus, address=isotp.Address(txid=0x7E0, rxid=0x7E8), params={"blocking_send": True}
    )
    # its own timings wait a second and more for nothing
    config = {**udsoncan.configs.default_client_config, "request_timeout": 20, "p2_timeout": 5}
    with Client(PythonIsoTpConnection(stack), config=config) as client:
        yield client
    bus.shutdown()


def test_a_uds_client_reads_the_codes_with_their_status(channel, started, uds_client):
    codes = [parse_code(text) for text in ("B1234-11", "P0301", "U0100-87", "C0035")]
    started(
        EcuNode(
            EcuOptions(stored=codes[:3], pending=codes[3:]), interface="virtual", channel=channel
        )
    )
    confirmed = uds_client.get_dtc_by_status_mask(0x08).service_data
    assert [(dtc.id, dtc.status.get_byte_as_int()) for dtc in confirmed.dtcs] == [
        (0x923411, 0x09),
        (0x030100, 0x09),
        (0xC10087, 0x09),
    ]
    assert confirmed.status_availability.get_byte_as_int() == uds.STATUS_AVAILABLE
    everything = uds_client.get_dtc_by_status_mask(0xFF).service_data
    assert everything.dtcs[-1].id == 0x403500
    count = uds_client.get_number_of_dtc_by_status_mask(0x04).service_data
    assert count.dtc_count == 1
    uds_client.change_session(
        udsoncan.services.DiagnosticSessionControl.Session.extendedDiagnosticSession
    )
    uds_client.tester_present()


def test_a_uds_client_is_refused_what_the_server_lacks(channel, started, uds_client):
    started(EcuNode(interface="virtual", channel=channel))
    with pytest.raises(udsoncan.exceptions.NegativeResponseException) as refused:
        uds_client.ecu_reset(1)
    assert refused.value.response.code == 0x11
    with pytest.raises(udsoncan.exceptions.NegativeResponseException) as refused:
        uds_client.get_supported_dtc()
    assert refused.value.response.code == 0x12


def test_a_uds_client_waits_for_a_slow_server(channel, started, uds_client):
    options = EcuOptions(answer_after_s=0.4, stored=[parse_code("P0301")])
    started(EcuNode(options, interface="virtual", channel=channel))
    assert len(uds_client.get_dtc_by_status_mask(0x08).service_data.dtcs) == 1


def ask(bus, data, frame_id=0x7DF):
    bus.send(can.Message(arbitration_id=frame_id, data=data.ljust(8, b"\0"), is_extended_id=False))
    while (message := bus.recv(5)) is not None:
        if message.arbitration_id in range(0x7E8, 0x7F0):
            return message
    return None


@pytest.mark.needs_traces
def test_every_value_decodes_as_a_published_dbc_says(traces, channel, started):
    css = cantools.database.load_file(traces / "can/CSS-Electronics-OBD2-v1.4.dbc")
    pids = (0x04, 0x05, 0x0C, 0x0D, 0x2F, 0x42, 0x5B)
    started(
        EcuNode(EcuOptions(pids=pids), interface="virtual", channel=channel, engine=held(DRIVING))
    )
    with can.Bus(interface="virtual", channel=channel) as bus:
        values = {}
        for pid in pids:
            answer = ask(bus, bytes([2, 1, pid]))
            values |= css.decode_message(0x7E8, answer.data, decode_choices=False)
    assert values["S1_PID_0D_VehicleSpeed"] == 83
    assert values["S1_PID_0C_EngineRPM"] == 1850.25
    assert values["S1_PID_05_EngineCoolantTemp"] == 88
    assert values["S1_PID_42_ControlModuleVolt"] == 14.1
    assert values["S1_PID_2F_FuelTankLevel"] == pytest.approx(62, abs=0.2)


def test_a_request_to_all_that_it_does_not_know_is_not_answered(channel, started):
    ecu = started(EcuNode(EcuOptions(vin=None), interface="virtual", channel=channel))
    with can.Bus(interface="virtual", channel=channel) as bus:
        assert bytes(ask(bus, b"\x02\x01\x05").data)[:3] == bytes.fromhex("034105")
        bus.send(can.Message(arbitration_id=0x7DF, data=b"\x02\x09\x02", is_extended_id=False))
        wait_for(lambda: ecu.counts.requests == 2, "it was heard")
        assert bytes(ask(bus, b"\x02\x09\x02", 0x7E0).data)[:4] == bytes.fromhex("037F0912")
    assert ecu.counts.answers == 2


def test_an_answer_whose_flow_control_never_comes_is_given_up_and_the_next_is_whole(
    channel, started
):
    started(EcuNode(interface="virtual", channel=channel))
    with can.Bus(interface="virtual", channel=channel) as bus:
        assert bytes(ask(bus, b"\x02\x09\x02").data)[:2] == b"\x10\x14"
        # no flow control: N_Bs is a second
        wait_for(lambda: (ask(bus, b"\x02\x01\x05") or can.Message()).data[:1] == b"\x03", "on")
        assert bytes(ask(bus, b"\x02\x09\x02").data)[:2] == b"\x10\x14"
        bus.send(can.Message(arbitration_id=0x7E0, data=b"\x30\0\0".ljust(8), is_extended_id=False))
        rest = []
        while len(rest) < 2:
            message = bus.recv(5)
            if message.arbitration_id == 0x7E8:
                rest.append(message.data[0])
        assert rest == [0x21, 0x22]


def test_a_request_wakes_it_and_keeps_it_awake_for_its_time(channel, started):
    options = EcuOptions(stays_awake_s=1, traffic_every_s=0.1)
    off = held(EngineState(ignition=False, rpm=0))
    ecu = started(EcuNode(options, interface="virtual", channel=channel, engine=off))
    wait_for(lambda: ecu.counts.asleep, "it falls asleep")
    with can.Bus(interface="virtual", channel=channel) as bus:
        assert bus.recv(0.5) is None
        bus.send(can.Message(arbitration_id=0x7DF, data=b"\x02\x01\x05", is_extended_id=False))
        wait_for(lambda: not ecu.counts.asleep, "it wakes")
        assert ecu.counts.unheard == 1
        assert bus.recv(2).arbitration_id == 0x0B4
        wait_for(lambda: ecu.counts.asleep, "it falls asleep again")


# J1939


@pytest.fixture
def foreign(channel):
    """can-j1939's stack on the same bus."""
    stack = can_j1939.ElectronicControlUnit()
    stack.connect(interface="virtual", channel=channel)
    yield stack
    stack.stop()
    stack.disconnect()


@pytest.mark.parametrize("faults", [[], [(110, 3)], [(524_000, 31), (110, 0), (100, 1), (639, 9)]])
def test_another_stack_hears_the_faults_that_the_truck_tells(channel, started, foreign, faults):
    heard = []
    application = can_j1939.ControllerApplication(
        can_j1939.Name(identity_number=1, function=129), 0xF8, bypass_address_claim=True
    )
    foreign.add_ca(controller_application=application)
    application.start()
    dm1 = can_j1939.Dm1(application)
    dm1.subscribe(lambda sa, lamps, dtcs, at: heard.append((sa, lamps, dtcs)))
    options = TruckOptions(address=3, faults=[j1939.Fault(spn, fmi, 5) for spn, fmi in faults])
    started(TruckNode(options, interface="virtual", channel=channel))
    address, lamps, dtcs = wait_for(lambda: heard and heard[0], "a DM1")
    assert address == 3
    expected = faults or [(0, 0)]
    assert [(dtc["spn"], dtc["fmi"]) for dtc in dtcs][: len(expected)] == expected
    on, off = can_j1939.DtcLamp.ON, can_j1939.DtcLamp.OFF
    severe = any(fmi < 2 for _, fmi in faults)
    assert (lamps["awl"], lamps["rsl"]) == (on if faults else off, on if severe else off)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_the_agent_hears_the_faults_that_another_stack_tells(channel, started, foreign, count):
    faults = [{"spn": 520_192 + number, "fmi": number, "oc": 1} for number in range(count)]
    application = can_j1939.ControllerApplication(
        can_j1939.Name(identity_number=1, function=0), 0x21, bypass_address_claim=True
    )
    foreign.add_ca(controller_application=application)
    application.start()
    dm1 = can_j1939.Dm1(application)

    def told(cookie=None):
        lamps = {"pl": can_j1939.DtcLamp.ON_FAST_FLASH, "rsl": can_j1939.DtcLamp.OFF}
        return lamps, [dict(fault) for fault in faults]

    clock = SystemClock()
    settings = J1939Settings.model_validate({"interface": "virtual", "channel": channel})
    source = started(J1939Source(settings, Inbox(), clock))
    wait_for(lambda: source._bus is not None, "open")
    dm1.start_send(told, cycletime=1)
    codes = wait_for(
        lambda: source.read(clock.monotonic_s()).get("diagnostics.error_codes"), "the faults"
    )
    assert codes == tuple(sorted(f"SPN {one['spn']} FMI {one['fmi']}" for one in faults))
    assert source.read(clock.monotonic_s())["signals.protect_lamp"] is True


@pytest.mark.needs_traces
def test_the_broadcasts_decode_as_a_published_dbc_says(traces, channel, started):
    dbc = cantools.database.load_file(traces / "can/CSS-SAE-J1939-DEMO.dbc")
    by_group = {message.frame_id >> 8 & 0x3FFFF: message for message in dbc.messages}
    values = {}
    with can.Bus(interface="virtual", channel=channel) as bus:
        started(TruckNode(interface="virtual", channel=channel, engine=held(DRIVING)))
        while len(values) < 2:
            message = bus.recv(5)
            known = by_group.get(message.arbitration_id >> 8 & 0x3FFFF)
            if known is not None:
                values |= known.decode(message.data)
    assert values["EngineSpeed"] == 1850.25
    assert values["WheelBasedVehicleSpeed"] == pytest.approx(83.4, abs=1 / 256)


# what the vehicle does


def test_the_drive_goes_from_standing_to_driving_to_a_cold_engine():
    at = driven()
    states = [at(second) for second in range(0, 2_000, 5)]
    assert not states[0].ignition
    assert states[0].rpm == 0
    assert max(state.speed_kmh for state in states) > 40
    running = [state for state in states if state.ignition]
    assert all(state.rpm >= 800 for state in running)
    assert not states[-1].ignition
    odometer = [state.odometer_km for state in states]
    assert odometer == sorted(odometer)
    assert rpm_at(0) < rpm_at(7) < 3_000


# the commands, between processes


def multicast():
    """A bus of one's own on this machine."""
    group = f"239.74.{uuid.uuid4().int % 200 + 20}.{uuid.uuid4().int % 200 + 20}"
    return {"interface": "udp_multicast", "channel": group, "options": {"hop_limit": 0}}


@pytest.fixture
def command():
    children = []

    def run(*arguments):
        program = [sys.executable, "-m", "simulator", "ecu", *arguments]
        children.append(
            subprocess.Popen(program, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
        )
        return children[-1]

    yield run
    for child in children:
        child.terminate()
        child.wait(20)
        child.stdout.close()


def test_the_agent_asks_the_ecu_of_another_process(command, started):
    bus = multicast()
    child = command("obd", "--channel", bus["channel"], "--speed-kmh", "50", "--dtc", "P0301")
    clock = SystemClock()
    settings = ObdSettings.model_validate(bus)
    source = started(ObdSource(settings, Inbox(), clock))
    values = wait_for(
        lambda: (
            {"signals.vin", "motion.speed_kmh"}
            <= (found := source.read(clock.monotonic_s())).keys()
            and found.get("diagnostics.error_codes")
            and found
        ),
        "its answers",
        60,
    )
    assert values["motion.speed_kmh"] == 50
    assert values["signals.vin"] == DEFAULT_VIN
    assert values["diagnostics.error_codes"] == ("P0301",)
    source.stop()
    child.terminate()
    said, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    assert b"requests" in said


def test_the_agent_hears_the_truck_of_another_process(command, started):
    bus = multicast()
    clock = SystemClock()
    source = started(J1939Source(J1939Settings.model_validate(bus), Inbox(), clock))
    command("j1939", "--channel", bus["channel"], "--fault", "110:3", "--fault", "100:1")
    wait_for(
        lambda: (
            source.read(clock.monotonic_s()).get("diagnostics.error_codes")
            == ("SPN 100 FMI 1", "SPN 110 FMI 3")
        ),
        "both faults, in packets",
        60,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["obd", "--dtc", "X0301"], "write P0301 or B1234-11"),
        (["j1939", "--fault", "110"], "write SPN:FMI"),
        (["j1939", "--fault", "600000:3"], "goes to 524287"),
        (["obd", "--channel", "nosuch", "--interface", "socketcan", "--for", "1"], "ip link"),
        (["obd", "--can-option", "port"], "NAME=VALUE"),
    ],
)
def test_a_mistake_on_the_command_line_says_what_to_do(arguments, says):
    result = CliRunner().invoke(cli, ["ecu", *arguments])
    assert result.exit_code != 0
    assert says in result.output


def test_the_helps_have_examples_that_are_accepted():
    for name in ("obd", "j1939"):
        text = CliRunner().invoke(cli, ["ecu", name, "--help"]).output
        examples = [line.split("  ")[0] for line in map(str.strip, text.splitlines())]
        examples = [line for line in examples if line.startswith("milepost-sim")]
        assert len(examples) > 2
        for example in examples:
            words = example.split()[1:]
            words = [word for word in words if word not in {"--interface", "socketcan"}]
            words = [f"test-{uuid.uuid4().hex}" if word == "vcan0" else word for word in words]
            run = [*words, "--interface", "virtual", "--for", "0.2"]
            result = CliRunner().invoke(cli, run)
            assert result.exit_code == 0, (example, result.output)
    assert threading.active_count() < 50
