"""Two full CAN buses: the CAN source beside python-can's Notifier with cantools.

Two buses of 500 kbit/s carry about 4,000 frames a second each. Both contenders run in a
process of their own and read the same frames in the same way; the peer decodes every
frame, as the usual example does, Milepost keeps the newest and reads its map at 5 Hz.

    python bench/can_load.py --json                                      # any machine
    python bench/can_load.py --interface socketcan --channels vcan0,vcan1 --json

Without SocketCAN the frames come as ``struct can_frame`` in datagrams over loopback, read
by the very code that reads a SocketCAN socket: python-can's ``SocketcanBus`` and ours.
There is no kernel filter then, so frames that are not mapped cost Milepost something too.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.config import CanSettings
from agent.host import SystemClock
from agent.inputs import Inbox
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.socketcan import SocketCanReader
from agent.sources.can.source import CanSource, FrameReader
from agent.sources.dbc.compile import compile_tables

BUS_FRAMES_PER_S: Final = 4_000
MESSAGES: Final = 40
SIGNALS: Final = 8
MAPPED_FEW: Final = 10
SAMPLE_S: Final = 0.2
TICK_S: Final = 0.005
WARM_UP_S: Final = 1.5
FRAME: Final = struct.Struct("=IB3x8s")


def dbc_text() -> str:
    """40 messages of 8 signals, byte orders and scales mixed as in a car."""
    lines = ['VERSION ""', "BS_:", "BU_: ECU"]
    for number in range(MESSAGES):
        lines.append(f"BO_ {0x100 + 8 * number} Message{number}: 8 ECU")
        for signal in range(SIGNALS):
            start, order = (8 * signal, 1) if number % 2 else (8 * signal + 7, 0)
            sign = "-" if signal % 3 else "+"
            lines.append(
                f" SG_ M{number}S{signal} : {start}|8@{order}{sign} (0.{signal + 1},-4)"
                ' [0|0] "" ECU'
            )
    return "\n".join(lines) + "\n"


def traffic() -> list[bytes]:
    """Frames of all messages in a random order, as ``struct can_frame``."""
    rng = random.Random(3)
    ids = [0x100 + 8 * (number % MESSAGES) for number in range(50 * MESSAGES)]
    rng.shuffle(ids)
    return [FRAME.pack(identifier, 8, rng.randbytes(8)) for identifier in ids]


# -- the contenders, each in a process of its own -----------------------------------------


def measured(frames: Callable[[], int], seconds: float) -> dict[str, float]:
    """CPU and frames of this process over some seconds, once it is warm."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(WARM_UP_S)
    cpu_s, begun_s, before = time.process_time(), time.perf_counter(), frames()
    time.sleep(seconds)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
    taken = frames() - before
    return {
        "cpu_percent": 100 * cpu_s / wall_s,
        "frames_per_s": taken / wall_s,
        "cpu_us_per_frame": 1e6 * cpu_s / max(taken, 1),
    }


def run_peer(options: argparse.Namespace, dbc: Path) -> dict[str, float]:
    """python-can's Notifier, cantools decoding every frame."""
    import can  # noqa: PLC0415  only this contender pays for it
    import cantools  # noqa: PLC0415  likewise

    logging.disable(logging.CRITICAL)
    database: Any = cantools.database.load_file(dbc)
    values: dict[str, Any] = {}
    counted = [0]

    def decode(message: can.Message) -> None:
        values.update(database.decode_message(message.arbitration_id, message.data))
        counted[0] += 1

    buses = [_peer_bus(options, channel) for channel in options.channels.split(",")]
    notifier = can.Notifier(buses, [decode])
    result = measured(lambda: counted[0], options.seconds)
    notifier.stop(0.1)
    for bus in buses:
        bus.shutdown()
    return result


def _peer_bus(options: argparse.Namespace, channel: str) -> Any:
    import can  # noqa: PLC0415  as above
    from can.interfaces.socketcan import socketcan  # noqa: PLC0415  as above

    if options.interface != "datagrams":
        return can.Bus(interface=options.interface, channel=channel, **_bus_options(options))
    opened = socket.socket(fileno=int(channel))
    module: Any = socketcan
    module.create_socket = lambda: opened
    module.bind_socket = lambda *_: None
    return socketcan.SocketcanBus(channel=channel)


class DatagramSource(CanSource):
    """The CAN source on a socket that is open already."""

    def __init__(self, opened: socket.socket, *args: Any) -> None:
        super().__init__(*args)
        self._opened = opened

    def _open(self) -> FrameReader:
        return SocketCanReader(self._opened, "datagrams", fd=False)


def run_milepost(options: argparse.Namespace, dbc: Path) -> dict[str, float]:
    """The CAN source of the agent, read as the engine reads it in a trip."""
    sources = []
    for channel in options.channels.split(","):
        names = [f"M{number}S{number % SIGNALS}" for number in range(options.mapped)]
        stat = {"stat": options.stat}
        config = CanSettings.model_validate(
            {
                "interface": options.interface,
                "channel": channel,
                "dbc": [dbc],
                "signals": {f"signals.{name}": {"signal": name} | stat for name in names},
                "options": _bus_options(options),
            }
        )
        signals = SignalMap(config, compile_tables(config.dbc, references(config)))
        parts = (config, signals, Inbox(), SystemClock())
        if options.interface == "datagrams":
            sources.append(DatagramSource(socket.socket(fileno=int(channel)), *parts))
        else:
            sources.append(CanSource(*parts))
    stopping = threading.Event()

    def sample() -> None:
        clock = SystemClock()
        while not stopping.wait(SAMPLE_S):
            for source in sources:
                source.read(clock.monotonic_s())
                source.sampled()

    for source in sources:
        source.start()
    reader = threading.Thread(target=sample)
    reader.start()
    result = measured(lambda: sum(int(one.account()["frames"]) for one in sources), options.seconds)
    result["kernel_dropped"] = sum(int(one.account()["kernel_dropped"]) for one in sources)
    stopping.set()
    reader.join()
    for source in sources:
        source.stop()
    return result


def _bus_options(options: argparse.Namespace) -> dict[str, Any]:
    return {"hop_limit": 0} if options.interface == "udp_multicast" else {}


# -- the load ------------------------------------------------------------------------------


@contextmanager
def datagram_pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected loopback sockets; the second of each pair is the contender's."""
    pairs = []
    for _ in range(count):
        ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
        ends[0].connect(ends[1].getsockname())
        ends[1].connect(ends[0].getsockname())
        pairs.append((ends[0], ends[1]))
    try:
        yield pairs
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


def load(sends: list[Callable[[bytes], Any]], stopping: threading.Event) -> None:
    """Send to all buses at their full rate until told to stop."""
    frames = traffic()
    begun_s, sent = time.perf_counter(), 0
    while not stopping.is_set():
        due = int((time.perf_counter() - begun_s) * BUS_FRAMES_PER_S)
        for number in range(sent, due):
            for send in sends:
                try:
                    send(frames[number % len(frames)])
                except OSError:
                    continue  # its queue is full: the receiver's account tells
        sent = due
        time.sleep(TICK_S)


@contextmanager
def opened_senders(options: argparse.Namespace) -> Iterator[list[Callable[[bytes], Any]]]:
    """A way to send on each bus."""
    channels = options.channels.split(",")
    with ExitStack() as opened:
        if options.interface == "socketcan":
            sockets = [
                opened.enter_context(socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW))
                for _ in channels
            ]
            for one, channel in zip(sockets, channels, strict=True):
                one.bind((channel,))
            yield [one.send for one in sockets]
            return
        import can  # noqa: PLC0415  as above

        def sender(bus: can.BusABC) -> Callable[[bytes], Any]:
            def send(frame: bytes) -> None:
                identifier, _, data = FRAME.unpack(frame)
                bus.send(can.Message(arbitration_id=identifier, is_extended_id=False, data=data))

            return send

        more = _bus_options(options)
        yield [
            sender(
                opened.enter_context(can.Bus(interface=options.interface, channel=channel, **more))
            )
            for channel in channels
        ]


def run_under_load(
    options: argparse.Namespace, dbc: Path, role: str, more: list[str]
) -> dict[str, float]:
    """One contender, from start to figures."""
    stopping = threading.Event()
    with ExitStack() as opened:
        pairs = []
        if options.interface == "datagrams":
            pairs = opened.enter_context(datagram_pairs(2))
        ours = [theirs.fileno() for _, theirs in pairs]
        channels = ",".join(map(str, ours)) or options.channels
        arguments = ["--role", role, "--dbc", str(dbc), "--interface", options.interface]
        arguments += ["--channels", channels, "--seconds", str(options.seconds)]
        child = subprocess.Popen(
            [sys.executable, __file__, *more, *arguments],
            stdout=subprocess.PIPE,
            pass_fds=ours,
            text=True,
        )
        if child.stdout is None or child.stdout.readline() != "ready\n":
            raise SystemExit(f"the contender {role} did not start")
        sends: list[Callable[[bytes], Any]] = [mine.send for mine, _ in pairs]
        sends = sends or opened.enter_context(opened_senders(options))
        sending = threading.Thread(target=load, args=(sends, stopping))
        sending.start()
        printed, _ = child.communicate(timeout=options.seconds + 60)
        stopping.set()
        sending.join()
    return dict(json.loads(printed))


# -- without a transport -------------------------------------------------------------------


def decoding_alone(dbc: Path, seconds: float) -> dict[str, float]:
    """Frames a processor second when the frames are in memory already."""
    import cantools  # noqa: PLC0415  as above

    frames = [FRAME.unpack(frame) for frame in traffic()]
    database: Any = cantools.database.load_file(dbc)

    def peer() -> None:
        for identifier, _, data in frames:
            database.decode_message(identifier, data)

    figures = {"cantools_every_frame": _frames_per_cpu_s(peer, len(frames), seconds)}
    for name, mapped, stat in (
        ("milepost_all_mapped", MESSAGES, "last"),
        ("milepost_few_mapped", MAPPED_FEW, "last"),
        ("milepost_mean_of_every_frame", MESSAGES, "mean"),
    ):
        names = [f"M{number}S{number % SIGNALS}" for number in range(mapped)]
        config = CanSettings.model_validate(
            {
                "dbc": [dbc],
                "signals": {f"signals.{one}": {"signal": one, "stat": stat} for one in names},
            }
        )
        signals = SignalMap(config, compile_tables(config.dbc, references(config)))

        def ours(signals: SignalMap = signals) -> None:
            # a sample's worth of two buses at a time
            step = int(2 * BUS_FRAMES_PER_S * SAMPLE_S)
            for start in range(0, len(frames), step):
                signals.take(frames[start : start + step], 0.0)
                signals.read(0.0)
                signals.sampled()

        figures[name] = _frames_per_cpu_s(ours, len(frames), seconds)
    return figures


def _frames_per_cpu_s(work: Callable[[], None], frames: int, seconds: float) -> float:
    rounds, begun_s = 0, time.process_time()
    while (spent_s := time.process_time() - begun_s) < seconds:
        work()
        rounds += 1
    return round(rounds * frames / spent_s)


def figures(options: argparse.Namespace) -> dict[str, Any]:
    """Each contender in turn, some rounds; medians."""
    contenders = {
        "python_can_and_cantools": ("peer", []),
        "milepost_all_mapped": ("milepost", ["--mapped", str(MESSAGES)]),
        "milepost_few_mapped": ("milepost", ["--mapped", str(MAPPED_FEW)]),
        "milepost_mean_of_every_frame": (
            "milepost",
            ["--mapped", str(MESSAGES), "--stat", "mean"],
        ),
    }
    with tempfile.TemporaryDirectory(prefix="milepost-bench-") as folder:
        dbc = Path(folder) / "car.dbc"
        dbc.write_text(dbc_text(), encoding="utf-8")
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, (role, more) in contenders.items():
                rounds[name].append(run_under_load(options, dbc, role, more))
        alone = decoding_alone(dbc, options.seconds / 4)
    result: dict[str, Any] = {
        "benchmark": "can_load",
        "interface": options.interface,
        "sent_frames_per_s": 2 * BUS_FRAMES_PER_S,
        "frames_per_cpu_s_without_transport": alone,
    }
    for name, taken in rounds.items():
        result[name] = {
            key: round(statistics.median(one[key] for one in taken), 2) for key in taken[0]
        }
    peer = result["python_can_and_cantools"]["cpu_percent"]
    result["share_of_the_peers_cpu"] = {
        name: round(result[name]["cpu_percent"] / peer, 3)
        for name in contenders
        if name.startswith("milepost")
    }
    # fair where the peer cannot follow, and so has less to do
    result["share_of_the_peers_cpu_per_frame"] = {
        name: round(
            result[name]["cpu_us_per_frame"]
            / result["python_can_and_cantools"]["cpu_us_per_frame"],
            3,
        )
        for name in ("milepost_all_mapped", "milepost_mean_of_every_frame")
    }
    return result


def main() -> None:
    """Print the figures, or be one of the contenders."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interface", default="datagrams")
    parser.add_argument("--channels", default="vcan0,vcan1", help="Two, comma between.")
    parser.add_argument("--seconds", type=float, default=8.0, help="Measured a round.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="One JSON object.")
    parser.add_argument("--role", choices=["peer", "milepost"], help=argparse.SUPPRESS)
    parser.add_argument("--mapped", type=int, default=MESSAGES, help=argparse.SUPPRESS)
    parser.add_argument("--stat", default="last", help=argparse.SUPPRESS)
    parser.add_argument("--dbc", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        role = run_peer if options.role == "peer" else run_milepost
        sys.stdout.write(json.dumps(role(options, options.dbc)))
        return
    result = figures(options)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
