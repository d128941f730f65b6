"""The server beside programs that nobody here wrote: gpspipe, gpsd-py3, the gpsd daemon."""

import json
import socket
import subprocess
import threading
import time
from itertools import pairwise

import gpsd as gpsd_py3
import pytest

from simulator.clock import format_utc
from simulator.gpsd_server import GpsdServer, Stamp
from simulator.trace import read_trace
from tests.conftest import program
from tests.fakes import nmea
from tests.fakes.gpsd_client import GpsdClient


@pytest.fixture
def server(tmp_path):
    path = tmp_path / "drive.nmea"
    path.write_bytes(nmea.drive(30))
    server = GpsdServer(read_trace(path), speed=20.0, stamp=Stamp.ORIGINAL)
    server.start()
    yield server
    server.stop()


@pytest.mark.needs("gpspipe")
def test_gpspipe_prints_the_replayed_drive(server):
    printed = subprocess.run(
        [program("gpspipe"), "-w", "-n", "43", f"127.0.0.1:{server.port}"],
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout
    reports = [json.loads(line) for line in printed.splitlines()]
    assert [report["class"] for report in reports[:3]] == ["VERSION", "DEVICES", "WATCH"]
    tpvs = [report for report in reports if report["class"] == "TPV"]
    assert len(tpvs) == 20
    for tpv, epoch in zip(tpvs, server.trace.epochs, strict=False):
        assert tpv["lat"] == pytest.approx(epoch.lat, abs=1e-9)
        assert tpv["speed"] == pytest.approx(epoch.speed_mps, abs=1e-3)
        assert tpv["time"] == epoch.time.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def test_gpsd_py3_reads_the_replayed_drive(server):
    gpsd_py3.connect(port=server.port)
    try:
        assert server.finished.wait(20)
        fix = gpsd_py3.get_current()
        last = server.trace.epochs[-1]
        assert fix.mode == 3
        assert fix.position() == pytest.approx((last.lat, last.lon), abs=1e-8)
        assert fix.altitude() == last.altitude_msl_m
        assert fix.hspeed == pytest.approx(last.speed_mps, abs=1e-3)
        assert fix.get_time().isoformat() == "2025-01-15T12:00:29"
        assert (fix.sats, fix.sats_valid) == (3, 2)
        assert gpsd_py3.device()["path"] == server.path
    finally:
        gpsd_py3.gpsd_stream.close()
        gpsd_py3.gpsd_socket.close()


class Daemon:
    """The real gpsd, fed over UDP."""

    def __init__(self, tcp_port, udp_port):
        self.tcp_port, self._udp_port = tcp_port, udp_port
        self._process = subprocess.Popen(
            [program("gpsd"), "-N", "-n", "-b", "-S", str(tcp_port), f"udp://127.0.0.1:{udp_port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def connect(self):
        deadline = time.monotonic() + 10
        while True:
            try:
                return GpsdClient(self.tcp_port)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "gpsd does not listen"
                time.sleep(0.05)

    def feed(self, epochs, pause_s):
        for lines in epochs:
            for line in lines:
                self._socket.sendto(line, ("127.0.0.1", self._udp_port))
            time.sleep(pause_s)

    def stop(self):
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def daemon(free_port):
    daemon = Daemon(free_port(), free_port())
    yield daemon
    daemon.stop()


def by_time_of_day(client, until):
    """The last TPV with a position for each time of day (gpsd may send several, or redate them)."""
    found = {}
    while max(found, default="") < until:
        tpv = client.until("TPV")
        if tpv["mode"] >= 2 and "time" in tpv and "lat" in tpv:
            found[tpv["time"].partition("T")[2]] = tpv
    # Of the last one there may be more to come.
    found.pop(max(found))
    return found


@pytest.mark.needs("gpsd")
@pytest.mark.needs_traces
@pytest.mark.parametrize(
    ("name", "opener", "first"),
    [
        ("dev01_munich_drive.nmea", b"$GPRMC", 300),
        ("dev02_mtv_f9k_rtk_drive_a.nmea", b"$GNRMC", 380),
    ],
)
def test_the_server_agrees_with_the_real_gpsd_on_position_and_speed(
    traces, daemon, name, opener, first
):
    path = traces / "nmea" / name
    trace = read_trace(path)
    count = 60
    epochs = [lines for lines in _split(path, opener) if lines and lines[0].startswith(opener)]
    until = format_utc(trace.epochs[first + count - 5].time).partition("T")[2]
    with daemon.connect() as client:
        client.watch()
        feeder = threading.Thread(
            target=daemon.feed, args=(epochs[first : first + count], 0.05), name="feeder"
        )
        feeder.start()
        theirs = by_time_of_day(client, until)
        feeder.join()
    server = GpsdServer(trace, speed=2000.0, stamp=Stamp.ORIGINAL)
    server.start()
    try:
        with GpsdClient(server.port) as client:
            client.watch()
            ours = by_time_of_day(client, until)
    finally:
        server.stop()
    shared = sorted(theirs.keys() & ours.keys())
    assert len(shared) >= count - 20
    assert max(ours[moment]["speed"] for moment in shared) > 5, "the vehicle moves in this part"
    for moment in shared:
        assert ours[moment]["lat"] == pytest.approx(theirs[moment]["lat"], abs=1e-6)
        assert ours[moment]["lon"] == pytest.approx(theirs[moment]["lon"], abs=1e-6)
        assert ours[moment]["speed"] == pytest.approx(theirs[moment]["speed"], abs=0.1 / 3.6)
        assert ours[moment]["altMSL"] == pytest.approx(theirs[moment]["altMSL"], abs=0.1)
        assert ours[moment]["mode"] == theirs[moment]["mode"]
    autonomous = [moment for moment in shared if "status" not in ours[moment]]
    for before, moment in pairwise(autonomous):
        # gpsd often sends the position before it has read that second's dilution.
        either = ours[before]["eph"], ours[moment]["eph"]
        assert min(abs(theirs[moment]["eph"] - eph) for eph in either) < 0.01


def _split(path, opener):
    """A log's lines, in lists that begin with ``opener``."""
    epochs = [[]]
    for line in path.read_bytes().splitlines(keepends=True):
        if line.startswith(opener):
            epochs.append([])
        epochs[-1].append(line)
    return epochs
