"""The ways that a receiver's sentences take to become fixes of the agent.

``WAYS`` names them; each is a context manager that is given a log, has a source put what it
makes of it into the inbox, and ends all it began. ``fixes_of`` runs one.
"""

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from agent.config import GpsSettings
from agent.host import SystemClock
from agent.inputs import Fix, FixReceived, Inbox
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.source import GpsdSource
from agent.sources.nmea.baud import BaudMemory
from agent.sources.nmea.source import NmeaSource
from simulator.gpsd_server import GpsdServer, Stamp
from simulator.nmea_player import NmeaPlayer
from simulator.receiver_log import read_receiver_log
from simulator.trace import read_trace
from tests.fakes import nmea
from tests.fakes.real_gpsd import TcpFedGpsd

END_LAT_DEG = -50.0
"""No trace goes south of this; the epochs after a log that say that all of it was read do."""


@dataclass(frozen=True)
class Job:
    """A log to be read: its name and bytes, where to write files, how to get a port."""

    name: str
    log: bytes
    folder: Path
    free_port: Callable[[], int]


@contextmanager
def through_gpsd(job: Job, inbox: Inbox):
    """The real daemon."""
    with TcpFedGpsd(job.free_port()) as gpsd:
        source = GpsdSource(
            GpsSettings(port=gpsd.port), inbox, SystemClock(), CycleMemory(job.folder)
        )
        source.start()
        try:
            # who watches too late misses the first epochs
            wait_until(lambda: source.account()["receivers"])
            feed_no_faster_than_read(gpsd, job.log, source)
            yield
        finally:
            source.stop()


@contextmanager
def through_simulator(job: Job, inbox: Inbox):
    """The simulator's server, a hundred times as fast as any receiver."""
    path = job.folder / job.name
    path.write_bytes(job.log)
    server = GpsdServer(read_trace(path), speed=100_000.0, stamp=Stamp.ORIGINAL)
    server.start()
    source = GpsdSource(
        GpsSettings(port=server.port), inbox, SystemClock(), CycleMemory(job.folder)
    )
    # at this speed a client that merely was not scheduled looks like one that does not read
    with patch("simulator.gpsd_client.MAX_UNSENT_BYTES", 1 << 30):
        source.start()
        try:
            yield
        finally:
            source.stop()
            server.stop()


def feed_no_faster_than_read(gpsd, log, source, lines_at_once=100, lines_ahead=300):
    """A client that lags behind is dropped by gpsd, and this is faster than any receiver."""
    lines = log.splitlines(keepends=True)
    fed = 0
    for start in range(0, len(lines), lines_at_once):
        chunk = lines[start : start + lines_at_once]
        gpsd.feed(b"".join(chunk))
        fed += sum(line.startswith(b"$") for line in chunk)
        # gpsd passes each sound sentence on
        wait_until(lambda fed=fed: fed - source.account().get("sentences", 0) < lines_ahead, 60)


@contextmanager
def through_serial(job: Job, inbox: Inbox):
    """A serial port that the simulator speaks on, as fast as it is read."""
    path = job.folder / job.name
    path.write_bytes(job.log)
    player = NmeaPlayer(
        read_receiver_log(path), baud=4_000_000, speed=100_000.0, stamp=Stamp.ORIGINAL
    )
    player.start()
    settings = GpsSettings(
        source="serial", serial={"device": (player.line.port,), "baud": player.line.baud}
    )
    source = NmeaSource(
        settings, inbox, SystemClock(), BaudMemory(job.folder), CycleMemory(job.folder)
    )
    # at this speed a line that merely was not scheduled looks like one between two epochs, and
    # a reader that was not like one that has gone
    with (
        patch("agent.sources.nmea.port.PAUSE_S", 30.0),
        patch("simulator.serial_line._FULL_S", 30.0),
    ):
        source.start()
        try:
            yield
        finally:
            source.stop()
            player.stop()


WAYS = {"gpsd": through_gpsd, "simulator": through_simulator, "serial": through_serial}


def fixes_of(way, job: Job) -> list[Fix]:
    """What the agent makes of a log: one fix an epoch, complete, in the order of arrival."""
    marked = Job(job.name, job.log + _the_end(job.log), job.folder, job.free_port)
    inbox = Inbox(limit=1_000_000)
    fixes: list[Fix] = []
    with WAYS[way](marked, inbox):
        deadline = time.monotonic() + 60
        while not fixes or fixes[-1].lat > END_LAT_DEG:
            assert time.monotonic() < deadline, f"{way} did not come to the end of {job.name}"
            item = inbox.get(0.5)
            if isinstance(item, FixReceived):
                if not item.is_new:
                    fixes.pop()
                fixes.append(item.fix)
    return [fix for fix in fixes if fix.lat > END_LAT_DEG]


def wait_until(condition, timeout_s=20):
    """Wait for what another thread or process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def _the_end(log: bytes) -> bytes:
    """Epochs far in the south: when they come out, all before them has come out."""
    talker = "GN" if b"$GNGGA" in log else "GP"
    lines = [""]
    for second in range(43_200, 43_204):
        where = nmea.rmc(second, talker=talker), nmea.gga(second, talker=talker)
        lines += [nmea.sentence(line[1:-3].replace(",N,008", ",S,008")) for line in where]
        lines.append(nmea.gsa(talker=talker))
    return nmea.log(lines)
