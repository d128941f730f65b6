"""Frames on the bus in any order give whole answers of ECUs, soon enough; never raise.

An input is frames: a byte that chooses the id it comes with, then up to eight of data. The
first byte of all chooses the width of the ids, too.
"""

from collections import deque

from agent.config.obd import IdWidth
from agent.sources.obd.addresses import Target, everyone
from agent.sources.obd.link import LONGEST_EXCHANGE_S, SLICE_S, IsoTpLink

FRAME_BYTES = 9
MAX_BYTES = 40 * FRAME_BYTES
LONGEST_PAYLOAD = 4_095
VIN = b"\x49\x02\x01WVWZZZ1KZAW000001"


def frames(*pieces: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([ecu]) + data.ljust(8, b"\0") for ecu, data in pieces)


SEEDS = [
    frames((0, b"\x06\x41\x00\xbe\x3f\xa8\x13")),
    frames((0, b"\x03\x7f\x09\x78"), (1, b"\x03\x7f\x09\x12")),
    frames(
        (0, b"\x10\x14" + VIN[:6]),
        (1, b"\x10\x14" + VIN[:6]),
        (0, b"\x21" + VIN[6:13]),
        (0, b"\x22" + VIN[13:20]),
        (1, b"\x21" + VIN[6:13]),
    ),
    b"\x80" + frames((0, b"\x10\x14" + VIN[:6]), (0, b"\x21" + VIN[6:13]))[1:],
    frames((2, b"\x1f\xff" + b"\x49\x02\x01abc"), (2, b"\x30\x00\x00"), (2, b"\x2f")),
]
TOKENS = [b"\x10\x14\x49\x02", b"\x21", b"\x30\x00\x0a", b"\x7f\x09\x78", b"\x10\x00\xff\xff"]


class Bus:
    """Gives the frames one after the other; then the time is up."""

    def __init__(self, target: Target, data: bytes) -> None:
        self.now_s = 0.0
        self.sent: list[bytes] = []
        self._target = target
        self._coming = deque(data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES))

    def receive(self, timeout_s: float) -> tuple[int, bool, bytes] | None:
        if timeout_s == 0:
            return None  # nothing is late
        if not self._coming:
            self.now_s += 2 * LONGEST_EXCHANGE_S
            return None
        self.now_s += SLICE_S / 10
        frame = self._coming.popleft()
        first, extended = self._target.first_response_id, self._target.extended
        return first + frame[0] % 4, extended, frame[1:]

    def send(self, _frame_id: int, data: bytes, _extended: object) -> None:
        self.sent.append(data)


def take(data: bytes) -> None:
    target = everyone(IdWidth.BITS_29 if data[:1] > b"\x7f" else IdWidth.BITS_11)
    bus = Bus(target, data)
    link = IsoTpLink(
        send=bus.send,
        receive=bus.receive,
        monotonic_s=lambda: bus.now_s,
        is_stopping=lambda: False,
        answer_timeout_s=0.2,
    )
    for request in (b"\x09\x02", b"\x03"):
        for answer in link.ask(request, target):
            assert target.is_answer(answer.ecu, extended=target.extended)
            assert len(answer.data) <= LONGEST_PAYLOAD
    # each first frame may be answered by one flow control
    assert len(bus.sent) <= 2 + len(data) // FRAME_BYTES + 1
