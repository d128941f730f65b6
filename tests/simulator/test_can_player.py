import json
import subprocess
import sys
import threading
import time
import uuid

import can
import pytest

from simulator.can_log import CanLog
from simulator.can_player import MAX_FRAMES_PER_S, CanPlayer
from simulator.errors import BusError, CanLogError
from simulator.pacing import Pacer

GROUP = "239.74.163.2"

RECEIVER = """
import json, sys, can
port, count = int(sys.argv[1]), int(sys.argv[2])
bus = can.Bus(interface="udp_multicast", channel=sys.argv[3], port=port, hop_limit=0)
print("ready", flush=True)
seen = []
while len(seen) < count and (message := bus.recv(10)) is not None:
    seen.append([message.arbitration_id, message.is_extended_id, message.is_remote_frame,
                 message.is_error_frame, message.is_fd, bytes(message.data).hex()])
bus.shutdown()
print(json.dumps(seen))
"""


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "drive.candump"
        path.write_text(text)
        return path

    return make


@pytest.fixture
def listen():
    """A virtual bus of this process, and a list that fills with its frames."""
    channel = f"test-{uuid.uuid4().hex}"
    bus = can.Bus(interface="virtual", channel=channel)
    yield channel, bus
    bus.shutdown()


def frames(count, gap_s=0.001):
    return "".join(
        f"({1 + index * gap_s:.6f}) can0 {index % 2048:03X}#{index:04X}\n" for index in range(count)
    )


@pytest.fixture
def play():
    started = []

    def make(path, **options):
        player = CanPlayer(path, **options)
        started.append(player)
        player.start()
        return player

    yield make
    for player in started:
        player.stop()


def test_a_log_arrives_whole_and_in_order(write, listen, play):
    channel, bus = listen
    player = play(write(frames(200)), interface="virtual", channel=channel, speed=10)
    received = [bus.recv(5) for _ in range(200)]
    assert [int.from_bytes(message.data) for message in received] == list(range(200))
    assert player.finished.wait(5)
    assert (player.frames_sent, player.frames_refused, player.error) == (200, 0, None)
    assert player.progress == 1.0


@pytest.mark.needs_traces
def test_a_recorded_log_crosses_processes_over_udp_multicast_without_a_loss(
    traces, tmp_path, play, free_port
):
    text = (traces / "can" / "dev01_car_gps_obd_start.candump").read_text().splitlines()[:1000]
    special = [
        "(1627274475.0) can1 123##1" + "AB" * 12,
        "(1627274475.0) can1 123#R4",
        "(1627274475.0) can1 20000004#0008000000000000",
        "not a frame",
    ]
    path = tmp_path / "part.candump"
    path.write_text("\n".join(text + special) + "\n")
    expected = [
        [f.arbitration_id, f.extended, f.remote, f.error, f.fd, f.data.hex()] for f in CanLog(path)
    ]
    port = free_port()
    receiver = subprocess.Popen(
        [sys.executable, "-c", RECEIVER, str(port), str(len(expected)), GROUP],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert receiver.stdout.readline() == "ready\n"
        player = play(
            path, interface="udp_multicast", channel=GROUP, options={"port": port}, speed=8
        )
        printed, _ = receiver.communicate(timeout=60)
    finally:
        receiver.kill()
        receiver.wait()
    seen = json.loads(printed)
    assert len(seen) == len(expected) == 1003
    ordinary = [frame for frame in expected if not frame[3]]
    assert [frame for frame in seen if not frame[3]] == ordinary
    assert [frame for frame in seen if frame[3]], "the error report arrives as one"
    assert player.finished.wait(5)
    assert player.frames_sent == 1003
    assert player.surveyed.bad_lines == 1


def test_nothing_leaves_the_machine_unless_asked_for(write, free_port):
    player = CanPlayer(
        write(frames(1)), interface="udp_multicast", channel=GROUP, options={"port": free_port()}
    )
    player.start()
    assert player._bus._multicast.hop_limit == 0
    player.stop()


def test_speed_divides_the_logs_time(write, listen, play):
    channel, _bus = listen
    begun = time.monotonic()
    player = play(write(frames(3, gap_s=10)), interface="virtual", channel=channel, speed=100)
    assert player.finished.wait(10)
    assert time.monotonic() - begun >= 0.2
    assert player.frames_sent == 3


def test_a_huge_speed_is_still_paced(write, listen, play):
    channel, _bus = listen
    begun = time.monotonic()
    player = play(write(frames(1000)), interface="virtual", channel=channel, speed=1e9)
    assert player.finished.wait(30)
    assert time.monotonic() - begun >= 0.9 * 1000 / MAX_FRAMES_PER_S


def test_a_loop_goes_on_until_it_is_stopped(write, listen):
    channel, bus = listen
    player = CanPlayer(
        write(frames(3)), interface="virtual", channel=channel, speed=1000, loop=True
    )
    player.start()
    received = [int.from_bytes(bus.recv(5).data) for _ in range(8)]
    player.stop()
    assert received == [0, 1, 2, 0, 1, 2, 0, 1]
    assert player.finished.is_set()


def test_stop_is_safe_before_start_twice_and_in_the_middle_of_a_pause(write, listen):
    channel, _bus = listen
    player = CanPlayer(write(frames(2, gap_s=3000)), interface="virtual", channel=channel)
    player.stop()
    player = CanPlayer(write(frames(2, gap_s=3000)), interface="virtual", channel=channel)
    player.start()
    player.stop()
    player.stop()
    assert player.finished.wait(1)
    assert "sim-can-player" not in [thread.name for thread in threading.enumerate()]


def test_a_bus_that_is_not_there_is_told_with_a_hint(write):
    player = CanPlayer(write(frames(1)), interface="socketcan", channel="can-none")
    with pytest.raises(BusError, match="can-none") as caught:
        player.start()
    player.stop()
    assert "udp_multicast" in caught.value.hint


def test_an_unknown_interface_is_told(write):
    player = CanPlayer(write(frames(1)), interface="telepathy", channel="x")
    with pytest.raises(BusError, match="telepathy"):
        player.start()


def test_a_log_without_frames_is_told_before_the_bus_is_opened(write):
    player = CanPlayer(write("nothing\n"), interface="socketcan", channel="can-none")
    with pytest.raises(CanLogError):
        player.start()


def test_a_bus_that_refuses_frames_is_counted_and_the_replay_goes_on(
    write, listen, play, monkeypatch
):
    channel, _bus = listen

    def full(*_, **__):
        raise can.CanOperationError("Transmit buffer full")

    monkeypatch.setattr(can.interfaces.virtual.VirtualBus, "send", full)
    player = play(write(frames(5)), interface="virtual", channel=channel)
    assert player.finished.wait(5)
    assert (player.frames_sent, player.frames_refused, player.error) == (0, 5, None)


def test_a_pacer_stops_waiting_when_told():
    stopping = threading.Event()
    pacer = Pacer(stopping, 1000)
    threading.Timer(0.05, stopping.set).start()
    assert pacer.wait_until(time.monotonic() + 3600) is False
