"""J1939: multi-packet messages, DM1 faults, lamps, VIN and hours; on a bus and as bytes."""

import re
import time
import uuid
from collections import Counter

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import J1939Settings
from agent.host import SystemClock
from agent.inputs import Inbox, SourceChanged
from agent.sources.j1939 import dm1, frames
from agent.sources.j1939.claim import AddressClaim, make_name
from agent.sources.j1939.source import J1939Source
from agent.sources.j1939.transport import BroadcastReceiver
from simulator.ecu import j1939 as peer
from simulator.ecu.truck import TruckNode, TruckOptions


def announce(size, packets, group=frames.DM1):
    return (
        bytes([32])
        + size.to_bytes(2, "little")
        + bytes([packets, 0xFF])
        + group.to_bytes(3, "little")
    )


def take(receiver, source, group, data, now_s=0.0):
    return receiver.take(frames.Header(group, source), data, now_s)


def test_an_id_is_taken_apart_and_put_together():
    assert frames.parse_id(0x0CF00400) == frames.Header(frames.EEC1, 0)
    assert frames.parse_id(0x18FECA21) == frames.Header(frames.DM1, 0x21)
    assert frames.parse_id(0x18EAFFF9) == frames.Header(frames.REQUEST, 0xF9, 0xFF)
    assert frames.parse_id(0x18EC0021) == frames.Header(frames.TRANSPORT, 0x21, 0x00)
    assert frames.make_id(frames.REQUEST, 0xF9) == 0x18EAFFF9
    assert frames.make_id(frames.DM1, 0x21) == 0x18FECA21


def test_messages_of_two_sources_may_come_in_any_mixture():
    receiver = BroadcastReceiver()
    take(receiver, 0, frames.TRANSPORT, announce(10, 2))
    take(receiver, 3, frames.TRANSPORT, announce(14, 2, frames.VEHICLE_ID))
    assert take(receiver, 3, frames.TRANSPORT_DATA, b"\x01abcdefg") is None
    assert take(receiver, 0, frames.TRANSPORT_DATA, b"\x011234567") is None
    assert take(receiver, 0, frames.TRANSPORT_DATA, b"\x02890\xff\xff\xff\xff") == (
        frames.DM1,
        b"1234567890",
    )
    assert take(receiver, 3, frames.TRANSPORT_DATA, b"\x02hijklmn") == (
        frames.VEHICLE_ID,
        b"abcdefghijklmn",
    )
    assert not receiver.given_up


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda one: take(one, 0, frames.TRANSPORT_DATA, b"\x03zzzzzzz"), "wrong_sequence"),
        (lambda one: take(one, 0, frames.TRANSPORT_DATA, b"\x011234567"), "wrong_sequence"),
        (lambda one: take(one, 0, frames.TRANSPORT_DATA, b"\x02zzzzzzz", 4.0), "timeout"),
        (lambda one: take(one, 0, frames.TRANSPORT, announce(10, 2)), "interrupted"),
        (lambda one: take(one, 0, frames.TRANSPORT, b"\xff" + announce(10, 2)[1:]), "interrupted"),
    ],
)
def test_a_disturbed_message_is_given_up_and_the_next_one_is_whole(disturb, reason):
    receiver = BroadcastReceiver()
    take(receiver, 0, frames.TRANSPORT, announce(10, 2))
    take(receiver, 0, frames.TRANSPORT_DATA, b"\x01abcdefg")
    assert disturb(receiver) is None
    assert receiver.given_up == {reason: 1}
    take(receiver, 0, frames.TRANSPORT, announce(9, 2), 5.0)
    take(receiver, 0, frames.TRANSPORT_DATA, b"\x011234567", 5.0)
    assert take(receiver, 0, frames.TRANSPORT_DATA, b"\x0289\xff\xff\xff\xff\xff", 5.0) == (
        frames.DM1,
        b"123456789",
    )


@pytest.mark.parametrize(("size", "packets"), [(8, 2), (1786, 256 - 1), (20, 2), (0, 0)])
def test_an_announcement_that_cannot_be_is_refused(size, packets):
    receiver = BroadcastReceiver()
    take(receiver, 0, frames.TRANSPORT, announce(size, packets))
    assert take(receiver, 0, frames.TRANSPORT_DATA, b"\x01abcdefg") is None
    assert receiver.given_up == {"impossible_size": 1}


def test_a_connection_between_two_ecus_is_left_to_them():
    receiver = BroadcastReceiver()
    header = frames.parse_id(0x18EC0021)
    assert receiver.take(header, announce(10, 2), 0) is None
    assert receiver.take(frames.parse_id(0x18EB0021), b"\x01abcdefg", 0) is None
    assert not receiver.given_up


def test_the_example_of_a_fault_is_read_as_spn_and_fmi():
    # SPN 1208 FMI 3, occurrence 10: B8 04 03 0A (SAE J1939-73, version 4)
    told = dm1.decode(bytes.fromhex("04FFB804030AFFFF"))
    assert told == dm1.Dm1(
        {
            "malfunction_lamp": False,
            "red_stop_lamp": False,
            "amber_warning_lamp": True,
            "protect_lamp": False,
        },
        ("SPN 1208 FMI 3",),
    )


def test_no_fault_no_lamp_and_nothing_available_are_three_things():
    assert dm1.decode(bytes.fromhex("00FF00000000FFFF")).codes == ()
    assert dm1.decode(bytes.fromhex("FFFFFFFFFFFFFFFF")) == dm1.Dm1({}, ())
    assert dm1.decode(b"\x00\xff\x01") is None


@given(st.lists(st.tuples(st.integers(1, 2**19 - 2), st.integers(0, 31)), max_size=40, unique=True))
def test_every_list_of_faults_comes_through_packets_as_it_was_told(faults):
    message = peer.dm1([peer.Fault(spn, fmi) for spn, fmi in faults])
    receiver = BroadcastReceiver()
    found = None
    for frame_id, data in peer.packets(frames.DM1, 7, message):
        header = frames.parse_id(frame_id)
        if header.group == frames.DM1:
            found = (frames.DM1, data)
        else:
            found = receiver.take(header, data, 0) or found
    assert found[0] == frames.DM1
    assert dm1.decode(found[1]).codes == tuple(f"SPN {spn} FMI {fmi}" for spn, fmi in faults)


@given(st.lists(st.tuples(st.integers(0, 2**29 - 1), st.binary(max_size=8)), max_size=60))
def test_arbitrary_frames_raise_nothing(noise):
    receiver = BroadcastReceiver()
    for frame_id, data in noise:
        whole = receiver.take(frames.parse_id(frame_id), data, 0)
        dm1.decode(whole[1] if whole else data)


def test_a_claim_is_defended_against_a_higher_name_and_yields_to_a_lower_one():
    claim = AddressClaim(249, make_name(1000))
    assert not claim.usable(5)
    mine = claim.claim(5)
    assert not claim.usable(5.1)
    assert claim.usable(5.3)
    assert not claim.contested(248, bytes(8))
    assert claim.contested(249, b"\xff" * 8)
    assert claim.usable(6)
    assert int.from_bytes(mine, "little") == make_name(1000)
    assert not claim.contested(249, bytes(8))
    assert claim.lost
    assert not claim.usable(7)


LINE = re.compile(r"\((?P<at>[\d.]+)\) (?P<bus>\w+) (?P<id>[0-9A-F]{8})#(?P<data>[0-9A-F]*)")


@pytest.mark.needs_traces
def test_the_recorded_truck_gives_its_whole_broadcast_messages(traces):
    receiver = BroadcastReceiver()
    whole = []
    packets = []
    for line in (traces / "can/dev02_truck_j1939_idle.candump").read_text().splitlines():
        parts = LINE.match(line)
        header = frames.parse_id(int(parts["id"], 16))
        data = bytes.fromhex(parts["data"])
        if header.group in {frames.TRANSPORT, frames.TRANSPORT_DATA}:
            packets.append(data)
            message = receiver.take(header, data, float(parts["at"]))
            if message:
                whole.append(message)
    # FEE3 is the engine's configuration; all that was announced came whole
    assert Counter((group, len(message)) for group, message in whole) == {
        (0xFEE3, 28): 13,
        (0xFEEC, 28): 3,
    }
    assert len([one for one in packets if one[0] == 32 and one[4] == 0xFF]) == 16
    assert whole[0][1].hex().upper() == ("901ACBA041D4A00FA74A20DDF430E7A041FFFF7602F0550001FA9CFA")
    assert not receiver.given_up


@pytest.mark.needs_traces
def test_the_recorded_truck_tells_its_vin_and_hours_without_being_asked(traces, scene):
    source = scene.source()
    wait_for(lambda: source._bus is not None, "open")
    bus = scene.bus()
    for line in (traces / "can/dev02_truck_j1939_idle.candump").read_text().splitlines():
        parts = LINE.match(line)
        frame_id, data = int(parts["id"], 16), bytes.fromhex(parts["data"])
        bus.send(can.Message(arbitration_id=frame_id, data=data, is_extended_id=True))
    values = wait_for(
        lambda: len(found := scene.read(source)) == 2 and found,
        "VIN and hours",
    )
    assert values == {"signals.vin": "1L06130RELP969468", "signals.engine_hours": 219.2}


# on a bus


def wait_for(condition, what, within_s=30):
    end_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end_s, what
        time.sleep(0.02)
    return found


@pytest.fixture
def scene():
    parts = []
    channel = uuid.uuid4().hex
    inbox, clock = Inbox(), SystemClock()

    class Scene:
        def truck(self, **options):
            node = TruckNode(TruckOptions(**options), interface="virtual", channel=channel)
            node.start()
            parts.append(node)
            return node

        def bus(self):
            bus = can.Bus(interface="virtual", channel=channel)
            parts.append(bus)
            return bus

        def source(self, **config):
            settings = J1939Settings.model_validate(
                {"interface": "virtual", "channel": channel, **config}
            )
            source = J1939Source(settings, inbox, clock)
            source.start()
            parts.append(source)
            return source

        def read(self, source):
            return source.read(clock.monotonic_s())

        def codes(self, source):
            return self.read(source).get("diagnostics.error_codes")

        def changes(self):
            found = []
            while (item := inbox.get(0)) is not None:
                assert isinstance(item, SourceChanged)
                found.append((item.available, item.reason))
            return found

    yield Scene()
    for part in reversed(parts):
        part.shutdown() if isinstance(part, can.BusABC) else part.stop()


def test_faults_of_two_ecus_add_up_and_go_when_they_are_mended(scene):
    engine = scene.truck(faults=[peer.Fault(110, 0), peer.Fault(100, 1)])
    scene.truck(address=11, faults=[peer.Fault(639, 9)])
    source = scene.source(dm1_timeout_s=2)
    both = ("SPN 100 FMI 1", "SPN 110 FMI 0", "SPN 639 FMI 9")
    wait_for(lambda: scene.codes(source) == both, "all faults")
    lamps = {name: scene.read(source)[f"signals.{name}"] for name, _ in dm1.LAMPS}
    assert lamps == {
        "malfunction_lamp": True,
        "red_stop_lamp": True,
        "amber_warning_lamp": True,
        "protect_lamp": False,
    }
    engine.faults = ()
    wait_for(lambda: scene.codes(source) == ("SPN 639 FMI 9",), "the engine's are mended")
    assert scene.read(source)["signals.red_stop_lamp"] is False
    assert source.account()["frames_sent"] == 0, "it only listens"


def test_an_ecu_that_stops_telling_on_an_awake_bus_has_no_faults_any_more(scene):
    truck = scene.truck(faults=[peer.Fault(110, 3)])
    source = scene.source(dm1_timeout_s=1.5)
    wait_for(lambda: scene.codes(source) == ("SPN 110 FMI 3",), "the fault")
    truck.faults = None
    wait_for(lambda: scene.codes(source) == (), "cleared by time-out")


def test_faults_are_held_while_the_bus_sleeps(scene):
    truck = scene.truck(faults=[peer.Fault(110, 3)])
    source = scene.source(dm1_timeout_s=2)
    wait_for(lambda: scene.codes(source) == ("SPN 110 FMI 3",), "the fault")
    truck.stop()
    time.sleep(3.5)
    assert scene.codes(source) == ("SPN 110 FMI 3",)


def test_the_kernels_filters_let_through_what_is_taken_and_nothing_else(scene, monkeypatch):
    real = can.Bus
    filtered = []

    def open_bus(interface, **options):
        bus = real(interface="virtual", **options)
        if interface == "socketcan":
            filtered.append(bus)
        return bus

    monkeypatch.setattr(can, "Bus", open_bus)
    source = scene.source(interface="socketcan")
    wait_for(lambda: filtered and filtered[0].filters, "open")
    (bus,) = filtered
    for frame_id, passes in {
        0x0CF00400: True,
        0x18FECA0B: True,
        0x1CECFF21: True,
        0x1CEBFF21: True,
        0x18FEE500: True,
        0x18FEEC00: True,
        0x18EEFFF9: True,
        0x18FEF100: False,
        0x18EC0021: False,
        0x19FECA00: False,  # the other data page
    }.items():
        message = can.Message(arbitration_id=frame_id, data=bytes(8), is_extended_id=True)
        assert bus._matches_filters(message) is passes, hex(frame_id)
    scene.truck(faults=[peer.Fault(110, 3), peer.Fault(100, 1)])
    wait_for(lambda: len(scene.codes(source) or ()) == 2, "both faults")


def test_only_the_configured_addresses_count(scene):
    scene.truck(faults=[peer.Fault(110, 3)])
    scene.truck(address=11, faults=[peer.Fault(639, 9)])
    source = scene.source(source_addresses=[11])
    wait_for(lambda: scene.codes(source) == ("SPN 639 FMI 9",), "the one")
    time.sleep(1.2)
    assert scene.codes(source) == ("SPN 639 FMI 9",)


def test_vin_and_hours_are_asked_for_only_if_configured_and_after_a_claim(scene):
    truck = scene.truck()
    listener = scene.bus()
    source = scene.source(requests=["vin", "engine_hours"])
    values = wait_for(
        lambda: len(found := scene.read(source)) >= 2 and "signals.vin" in found and found,
        "both answers",
    )
    assert values["signals.vin"] == "WMPST000000000001"
    assert values["signals.engine_hours"] == 1234.5
    assert truck.requests == 2
    sent = [
        message.arbitration_id
        for message in iter(lambda: listener.recv(0.05), None)
        if message.arbitration_id & 0xFF == 249
    ]
    assert sent == [0x18EEFFF9, 0x18EAFFF9, 0x18EAFFF9]


def test_an_address_that_belongs_to_another_is_a_fault_and_nothing_is_asked(scene):
    truck = scene.truck()
    other = scene.bus()
    source = scene.source(requests=["vin"], request_interval_s=10)

    def claimed():
        message = other.recv(0.2)
        return message is not None and message.arbitration_id == 0x18EEFFF9

    wait_for(claimed, "its claim")
    other.send(can.Message(arbitration_id=0x18EEFFF9, data=bytes(8), is_extended_id=True))
    changes = wait_for(scene.changes, "the fault")
    assert changes == [
        (False, "another node has the address 249: set j1939.address"),
    ]
    without_address = wait_for(lambda: other.recv(0.2), "it says so")
    while without_address.arbitration_id != 0x18EEFFFE:
        without_address = other.recv(5)
    time.sleep(0.6)
    assert truck.requests == 0
    assert source.account()["frames_sent"] == 2


def test_who_asks_for_addresses_is_told_ours_if_we_have_one(scene):
    scene.truck()
    other = scene.bus()
    asking = scene.source(requests=["vin"])
    wait_for(lambda: asking.account()["frames_sent"] == 2, "claimed and asked")
    ask = bytes.fromhex("00EE00")
    for frame_id in (0x18EAFF33, 0x18EAF933, 0x18EA0033):
        other.send(can.Message(arbitration_id=frame_id, data=ask, is_extended_id=True))
    wait_for(lambda: asking.account()["frames_sent"] == 4, "told twice")
    time.sleep(0.3)
    assert asking.account()["frames_sent"] == 4, "what went to another is not answered"


def test_a_silent_bus_that_holds_after_a_loss_is_back(scene, monkeypatch):
    monkeypatch.setattr("agent.sources.can.worker.HELD_S", 1)
    source = scene.source()
    bus = scene.bus()
    wait_for(lambda: source._bus is not None, "open")
    bus.send(can.Message(is_error_frame=True, arbitration_id=0x40))
    assert wait_for(scene.changes, "the loss")[0][0] is False
    assert wait_for(scene.changes, "the recovery, without a frame") == [(True, "")]


def test_bus_off_is_told_once_and_the_source_comes_back_by_itself(scene):
    source = scene.source()
    bus = scene.bus()
    wait_for(lambda: source._bus is not None, "open")
    bus.send(can.Message(is_error_frame=True, arbitration_id=0x40))
    changes = wait_for(scene.changes, "the loss")
    assert changes[0][0] is False
    assert "bus-off" in changes[0][1]
    scene.truck(faults=[peer.Fault(110, 3)])
    wait_for(lambda: scene.codes(source) == ("SPN 110 FMI 3",), "back")
    assert wait_for(scene.changes, "told, once it has held") == [(True, "")]
