"""The CAN source on a bus with troubles: down and up, bus-off, floods, logs with faults."""

import time
import uuid

import can
import cantools
import pytest

from agent.config import CanSettings
from agent.host import SystemClock
from agent.inputs import Inbox
from agent.sources.can import source as can_bus
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.source import GATHER_S, CanSource, gather_s
from agent.sources.dbc.compile import compile_in_process
from simulator.can_player import CanPlayer
from tests.fakes.can_datagrams import BUS_OFF, CONTROLLER, RESTARTED, DatagramBus, DatagramSource

DBC = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Pack: 8 ECU
 SG_ Percent : 0|8@1+ (0.5,0) [0|100] "%" ECU
BO_ 257 Motor: 8 ECU
 SG_ Rpm : 0|16@1+ (1,0) [0|100] "rpm" ECU
"""
PERCENT = {"battery.percent": "Percent"}


@pytest.fixture
def dbc(tmp_path):
    path = tmp_path / "pack.dbc"
    path.write_text(DBC)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(can_bus, "HELD_S", 0.2)
    monkeypatch.setattr(can_bus, "FLOODED_S", 0.5)


def parts(dbc, signals, **bus):
    config = CanSettings.model_validate({"dbc": [dbc], "signals": signals, **bus})
    signals = SignalMap(config, compile_in_process(config.dbc, references(config)))
    return config, signals, Inbox(), SystemClock()


@pytest.fixture
def running():
    """Starts sources and stops them at the end."""
    started = []

    def start(source):
        source.start()
        started.append(source)
        return source

    yield start
    for source in started:
        source.stop()


def wait_for(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def told(inbox):
    """What the engine was told: source and whether it is there."""
    items = []
    while (item := inbox.get(0)) is not None:
        items.append((item.source, item.available))
    return items


def test_a_bus_that_is_missing_at_boot_is_used_as_soon_as_it_is_there(dbc, running, caplog):
    caplog.set_level("INFO")
    with DatagramBus(up=False) as bus:
        config, signals, inbox, clock = parts(dbc, PERCENT)
        source = running(DatagramSource(bus, config, signals, inbox, clock))
        wait_for(lambda: "lost: cannot open: there is no interface can0" in caplog.text)
        assert source.account()["state"] == "down"
        bus.up()
        wait_for(lambda: bus.opened)
        bus.send(256, [120] + [0] * 7)
        wait_for(lambda: source.read(clock.monotonic_s()) == {"battery.percent": 60.0})
        wait_for(lambda: "recovered" in caplog.text)
    assert told(inbox)[:2] == [("can:can0", False), ("can:can0", True)]


def test_a_bus_that_goes_down_and_up_is_told_once_each_way_and_read_again(dbc, running, caplog):
    caplog.set_level("INFO")
    with DatagramBus() as bus:
        config, signals, inbox, clock = parts(dbc, PERCENT)
        source = running(DatagramSource(bus, config, signals, inbox, clock))
        wait_for(lambda: bus.opened == 1)
        bus.send(256, [120] + [0] * 7)
        wait_for(lambda: source.read(clock.monotonic_s()) == {"battery.percent": 60.0})
        bus.down()
        wait_for(lambda: source.account()["state"] == "down")
        time.sleep(1.0)  # some tries to open it
        bus.up()
        wait_for(lambda: bus.opened == 2)
        bus.send(256, [100] + [0] * 7)
        wait_for(lambda: source.read(clock.monotonic_s()) == {"battery.percent": 50.0})
        wait_for(lambda: "recovered" in caplog.text)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        assert told(inbox) == [("can:can0", False), ("can:can0", True)]


def test_bus_off_is_a_fault_until_the_controller_was_restarted(dbc, running, caplog):
    with DatagramBus() as bus:
        config, signals, inbox, clock = parts(dbc, PERCENT)
        source = running(DatagramSource(bus, config, signals, inbox, clock))
        wait_for(lambda: bus.opened == 1)
        bus.report(CONTROLLER, 0x20)
        wait_for(lambda: source.account()["state"] == "error-passive")
        bus.report(BUS_OFF)
        bus.report(BUS_OFF)
        wait_for(lambda: source.account()["state"] == "bus-off")
        bus.report(RESTARTED)
        wait_for(lambda: source.account()["state"] == "error-active")
        assert told(inbox) == [
            ("can:can0:error-passive", False),
            ("can:can0:error-passive", True),
            ("can:can0:bus-off", False),
            ("can:can0:bus-off", True),
        ]
        wait_for(lambda: source.account()["error_frames"] == 4)
    assert caplog.text.count("bus-off: the controller left the bus") == 1
    assert "restart-ms 100" in caplog.text


def test_a_frame_shows_that_bus_off_is_over(dbc, running):
    with DatagramBus() as bus:
        config, signals, inbox, clock = parts(dbc, PERCENT)
        source = running(DatagramSource(bus, config, signals, inbox, clock))
        wait_for(lambda: bus.opened == 1)
        bus.report(BUS_OFF)
        wait_for(lambda: source.account()["state"] == "bus-off")
        bus.report(CONTROLLER, 0x01)  # the controller itself lost frames
        bus.send(256, [120] + [0] * 7)
        bus.send(256, [120])
        wait_for(lambda: source.account()["state"] == "error-active")
        wait_for(lambda: source.frames_dropped() == 2)
        account = source.account()
        assert (account["dropped"], account["controller_overflows"]) == (1, 1)
        assert told(inbox)[-1] == ("can:can0:bus-off", True)


def test_a_flood_is_counted_told_once_and_the_newest_value_still_comes(
    dbc, running, caplog, monkeypatch
):
    caplog.set_level("INFO")
    # one long wait between two bursts, as on a board that has no time for the bus
    monkeypatch.setattr(can_bus, "gather_s", lambda *_: 0.3)
    with DatagramBus() as bus:
        config, signals, inbox, clock = parts(dbc, PERCENT)
        source = running(DatagramSource(bus, config, signals, inbox, clock))
        wait_for(lambda: bus.opened == 1)
        sent = 0
        while not source.account()["kernel_dropped"]:
            assert sent < 2_000_000, "nothing is dropped"
            for _ in range(2_000):
                bus.send(256, [10] + [0] * 7)
            sent += 2_000
        while "recovered" not in caplog.text:
            bus.send(256, [200] + [0] * 7)
            sent += 1
            time.sleep(0.05)
        wait_for(lambda: source.read(clock.monotonic_s()) == {"battery.percent": 100.0})
        wait_for(lambda: source.account()["frames"] + source.account()["kernel_dropped"] == sent)
    assert caplog.text.count("flooded: frames came faster") == 1
    assert told(inbox) == []


@pytest.mark.parametrize(
    ("frames", "since_s", "burst_frames", "wait_s"),
    [(1, 5.0, 100, GATHER_S), (400, 0.1, 200, 0.05), (4_000, 0.1, 200, 0.005)],
)
def test_frames_gather_only_as_long_as_the_buffer_has_room(frames, since_s, burst_frames, wait_s):
    assert gather_s(frames, since_s, burst_frames) == pytest.approx(wait_s)


FAULTY = """(1700000000.000000) can0 100#6400000000000000
(1700000000.010000) can0 100#64
(1700000000.020000) can0 20000040#0000000000000000
(1699999999.000000) can0 100#5000000000000000
(1700000000.030000) can0 101#E803000000000000
(170000000
(1700000000.040000) can0 10
garbage
(1700000000.050000) can0 101#R
(1700000000.060000) can0 20000004#0010000000000000
(1700000009.070000) can0 7FF#0011223344556677
(1700000009.080000) can0 101#D007000000000000
(1700000009.090000) can0 100#C800000000000000
(1700000009.100000) can0 100#C80000000000
"""


def test_a_log_with_truncated_lines_time_steps_and_error_frames_is_read_through(
    dbc, running, tmp_path
):
    log = tmp_path / "faulty.candump"
    log.write_text(FAULTY)
    channel = uuid.uuid4().hex
    mapping = {**PERCENT, "signals.rpm": "Rpm"}
    config, signals, inbox, clock = parts(
        dbc, mapping, interface="virtual", channel=channel, stale_after_s=60.0
    )
    source = running(CanSource(config, signals, inbox, clock))
    wait_for(lambda: source.account()["state"] == "error-active")
    player = CanPlayer(log, interface="virtual", channel=channel, speed=20)
    player.start()
    assert player.finished.wait(30)
    player.stop()
    wait_for(lambda: source.account()["frames"] == 7)
    assert source.read(clock.monotonic_s()) == {"battery.percent": 100.0, "signals.rpm": 2000}
    account = source.account()
    assert (account["dropped"], account["error_frames"]) == (2, 2)
    assert next(source for source, _ in told(inbox)) == f"can:{channel}:bus-off"


@pytest.mark.needs_traces
def test_the_recorded_car_on_a_bus_gives_the_last_values_that_cantools_gives(
    running, traces, tmp_path
):
    dbc = traces / "can/canmod-gps.dbc"
    lines = (traces / "can/dev01_car_gps_obd_start.candump").read_text().splitlines()
    # the part after the first fix, without the acceleration that is most of the log
    part = [line for line in lines[20_000:40_000] if " 009#" not in line][:2_000]
    log = tmp_path / "part.candump"
    log.write_text("\n".join(part) + "\n")
    database = cantools.database.load_file(dbc)
    wanted = {}
    for line in part:
        number, data = line.split()[2].split("#")
        if len(number) == 3 and int(number, 16) in {one.frame_id for one in database.messages}:
            decoded = database.decode_message(int(number, 16), bytes.fromhex(data))
            wanted |= {f"signals.{name}": value for name, value in decoded.items()}
    assert len(wanted) > 10
    channel = uuid.uuid4().hex
    mapping = {name: name.removeprefix("signals.") for name in wanted}
    config, signals, inbox, clock = parts(
        dbc, mapping, interface="virtual", channel=channel, stale_after_s=600.0
    )
    source = running(CanSource(config, signals, inbox, clock))
    wait_for(lambda: source.account()["state"] == "error-active")
    player = CanPlayer(log, interface="virtual", channel=channel, speed=50)
    player.start()
    assert player.finished.wait(60)
    wait_for(lambda: source.account()["frames"] >= source.account()["dropped"] + 100)
    time.sleep(3 * GATHER_S)
    values = source.read(clock.monotonic_s())
    player.stop()
    assert {name: str(value) for name, value in values.items()} == {
        name: str(value) for name, value in wanted.items()
    }


def test_several_buses_are_read_side_by_side(dbc, running):
    channels = [uuid.uuid4().hex for _ in range(2)]
    sources = []
    for channel, signals in zip(channels, ({**PERCENT}, {"signals.rpm": "Rpm"}), strict=True):
        config, *rest = parts(dbc, signals, interface="virtual", channel=channel)
        sources.append(running(CanSource(config, *rest)))
    wait_for(lambda: all(one.account()["state"] == "error-active" for one in sources))
    for channel in channels:
        with can.Bus(interface="virtual", channel=channel) as sender:
            for number in (256, 257):
                data = bytes([100, 0, 0, 0, 0, 0, 0, 0])
                sender.send(can.Message(arbitration_id=number, is_extended_id=False, data=data))
    now_s = time.monotonic() + 1
    wait_for(lambda: all(one.read(now_s) for one in sources))
    assert [one.read(now_s) for one in sources] == [{"battery.percent": 50.0}, {"signals.rpm": 100}]
