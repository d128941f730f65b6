"""Reading SocketCAN's frames from the kernel, on datagram sockets where there is no CAN."""

import random
import socket
import struct

import pytest

from agent.config import CanSettings
from agent.errors import SourceError
from agent.sources.can import socketcan as can_socket
from agent.sources.can.ids import ERROR, EXTENDED, by_id
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.socketcan import SocketCanReader, drops_in, open_socket
from agent.sources.dbc.compile import compile_in_process

CLASSIC = struct.Struct("=IB3x8s")
FD = struct.Struct("=IBB2x64s")


@pytest.fixture
def pair():
    """Two connected sockets that keep a frame a datagram, as a CAN socket does."""
    ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for end in ends:
        end.bind(("127.0.0.1", 0))
    ends[0].connect(ends[1].getsockname())
    ends[1].connect(ends[0].getsockname())
    yield ends
    for end in ends:
        end.close()


def test_frames_are_given_in_order_and_whole(pair):
    sender, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=False)
    rng = random.Random(1)
    sent = []
    # bursts around the number that one call takes
    for count in (1, 127, 128, 129, 300, 0, 5):
        for _ in range(count):
            length = rng.randrange(9)
            data = rng.randbytes(length)
            identifier = rng.randrange(0x800) if rng.random() < 0.5 else rng.randrange(1 << 29)
            sender.send(CLASSIC.pack(identifier, length, data))
            sent.append((identifier, length, data.ljust(8, b"\0")))
        taken = reader.take()
        assert taken == sent
        sent.clear()
    assert reader.drops == 0


def test_frames_of_64_bytes_and_classic_ones_come_mixed(pair):
    sender, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=True)
    long = bytes(range(64))
    sender.send(FD.pack(0x100, 64, 1, long))
    sender.send(CLASSIC.pack(0x101, 3, b"abc"))
    sender.send(FD.pack(0x102 | EXTENDED, 12, 0, long[:12]))
    frames = [(identifier, data[:length]) for identifier, length, data in reader.take()]
    assert frames == [(0x100, long), (0x101, b"abc"), (0x102 | EXTENDED, long[:12])]


def test_a_signal_beyond_the_eighth_byte_is_decoded(pair, tmp_path):
    dbc = tmp_path / "fd.dbc"
    dbc.write_text(
        'VERSION ""\nBU_: E\nBO_ 256 Long: 64 E\n'
        ' SG_ Last : 496|16@1+ (0.5,0) [0|0] "" E\n SG_ Motorola : 487|16@0- (1,0) [0|0] "" E\n'
    )
    config = CanSettings.model_validate(
        {"dbc": [dbc], "fd": True, "signals": {"signals.a": "Last", "signals.b": "Motorola"}}
    )
    signals = SignalMap(config, compile_in_process(config.dbc, references(config)))
    sender, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=True)
    payload = bytearray(64)
    payload[62:64] = (1000).to_bytes(2, "little")
    payload[60:62] = (-5).to_bytes(2, "big", signed=True)
    sender.send(FD.pack(0x100, 64, 0, bytes(payload)))
    sender.send(CLASSIC.pack(0x100, 8, bytes(8)))  # a classic frame is too short for it
    assert signals.take(reader.take(), 0.0) == []
    assert signals.read(0.0) == {"signals.a": 500.0, "signals.b": -5}
    assert signals.slots.dropped == 1


def test_drops_of_the_kernel_are_counted_and_what_is_left_is_read(pair):
    sender, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=False)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the kernel's least
    sent = 500
    for number in range(sent):
        sender.send(CLASSIC.pack(number, 8, bytes(8)))
    taken = len(reader.take())
    assert taken < sent
    # the counter comes with the frames after the flood
    for _ in range(2):
        sender.send(CLASSIC.pack(1, 8, bytes(8)))
        taken += len(reader.take())
    assert taken + reader.drops == sent + 2


def test_error_reports_are_handed_on_beside_the_frames(pair):
    sender, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=False)
    sender.send(CLASSIC.pack(ERROR | 0x40, 8, bytes(8)))
    assert reader.take() == [(ERROR | 0x40, 8, bytes(8))]


def test_an_error_of_the_socket_is_one_error_of_the_source(pair):
    _, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=False)
    receiver.close()
    with pytest.raises(SourceError, match="cannot receive"):
        reader.take()
    reader.close()


def test_a_wait_ends_with_a_frame_and_with_the_wake_up(pair):
    sender, receiver = pair
    reader = SocketCanReader(receiver, "can0", fd=False)
    wake, waker = socket.socketpair()
    with wake, waker:
        sender.send(CLASSIC.pack(1, 0, b""))
        reader.wait(wake, None)
        assert len(reader.take()) == 1
        waker.send(b"\0")
        reader.wait(wake, None)
        assert reader.take() == []


def test_what_is_no_drop_counter_is_not_taken_for_one():
    counter = struct.pack("@NiiI", 20, socket.SOL_SOCKET, 40, 77)
    assert drops_in(counter + bytes(4)) == 77
    assert drops_in(counter[:12]) is None
    assert drops_in(struct.pack("@NiiI", 20, socket.SOL_SOCKET, 29, 77)) is None
    assert drops_in(b"") is None


def test_no_can_in_the_kernel_or_no_such_interface_says_what_to_do():
    with pytest.raises(SourceError, match=r"modprobe can_raw|there is no interface can-none"):
        open_socket("can-none", [by_id(1, extended=False)], fd=False)


@pytest.mark.parametrize(
    ("number", "said"),
    [("ENETDOWN", "ip link set can7 up"), ("ENODEV", "there is no interface can7"), ("EIO", "I/O")],
)
def test_errors_of_the_interface_say_what_to_do(number, said):
    import errno  # noqa: PLC0415  the name is the parameter

    error = OSError(getattr(errno, number), "I/O")
    assert said in can_socket.said(error, "can7")
