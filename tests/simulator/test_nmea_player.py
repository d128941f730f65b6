"""The receiver on a serial port: to the byte, at its baud rate, with noise at any other."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import serial
from click.testing import CliRunner

from simulator.cli import cli
from simulator.errors import PortError, TraceError
from simulator.gpsd_server import Begin, Stamp
from simulator.nmea_player import NmeaPlayer
from simulator.receiver_log import read_receiver_log, restamp
from tests.conftest import program
from tests.fakes import nmea
from tests.fakes.gpsd_client import GpsdClient

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "drive.nmea"
    path.write_bytes(
        b"# a remark of the logger\n" + nmea.drive(6) + b"$GPRMC,broken*00\r\n\xb5b\r\n"
    )
    return path


def said(log):
    """What of a log goes over the line."""
    return b"".join(line for line in log.read_bytes().splitlines(keepends=True) if line[:1] != b"#")


@contextlib.contextmanager
def playing(log, **options):
    options = {"baud": 115_200, "speed": 20.0, "stamp": Stamp.ORIGINAL} | options
    player = NmeaPlayer(read_receiver_log(log), **options)
    player.start()
    try:
        yield player
    finally:
        player.stop()
        player.stop()


def read(port, player, size):
    """As many bytes as are to come, or fewer if none come any more."""
    data = b""
    deadline = time.monotonic() + 30
    while len(data) < size and time.monotonic() < deadline:
        if select.select([port.fileno()], [], [], 0.1)[0]:
            data += os.read(port.fileno(), 4096)
        elif player.finished.is_set():
            break
    return data


def is_unplugged(port):
    """Whether the port ends: with an error, or ready to be read with nothing there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        select.select([port.fileno()], [], [], 1)
        try:
            if not os.read(port.fileno(), 4096):
                return True
        except BlockingIOError:
            continue
        except OSError:
            return True
    return False


def test_the_log_goes_over_the_line_to_the_byte(log):
    with playing(log) as player, serial.Serial(player.line.port, 115_200) as port:
        assert read(port, player, len(said(log))) == said(log)
        assert player.finished.wait(10)
        assert (player.bursts_sent, player.progress) == (6, 1.0)
        assert player.line.bytes_lost == 0


def test_it_waits_for_who_opens_the_port(log):
    with playing(log) as player:
        assert not player.finished.wait(0.5)
        assert player.bursts_sent == 0
    with playing(log, begin=Begin.AT_ONCE) as player:
        assert player.finished.wait(20)
        assert player.line.bytes_sent == 0
        assert player.line.bytes_lost == len(said(log))


def test_at_another_baud_rate_there_is_noise_of_the_same_length(log):
    with playing(log, baud=38_400) as player, serial.Serial(player.line.port, 9_600) as port:
        data = read(port, player, len(said(log)))
        assert len(data) == len(said(log))
        assert b"$GPRMC" not in data


def test_the_line_takes_the_time_that_its_rate_gives_the_bytes(log):
    """A line ten times as fast as 1,200 baud carries 1,200 bytes/s and no more."""
    with playing(log, baud=1_200, speed=10.0) as player:
        assert player.falls_behind
        begun_s = time.monotonic()
        with serial.Serial(player.line.port, 1_200) as port:
            data = read(port, player, 400)
            assert time.monotonic() - begun_s >= len(data) / 120 / 10
    with playing(log, baud=9_600) as player:
        assert not player.falls_behind


@pytest.mark.needs("gpsd")
def test_the_real_gpsd_reads_the_receiver_on_its_port(tmp_path, free_port):
    path = tmp_path / "drive.nmea"
    path.write_bytes(nmea.drive(600))
    # gpsd leaves a pseudo terminal at the 38,400 baud that the kernel gives it
    with playing(path, baud=38_400, speed=4.0, loop=True) as player:
        port = free_port()
        daemon = subprocess.Popen(
            [program("gpsd"), "-N", "-n", "-b", "-S", str(port), player.line.port]
        )
        try:
            with connected(port) as client:
                client.watch()
                times = set()
                while len(times) < 5:
                    tpv = client.until("TPV")
                    if "time" in tpv and "lat" in tpv:
                        times.add(tpv["time"])
                        assert 50.08 < tpv["lat"] < 50.10
        finally:
            daemon.terminate()
            daemon.wait(10)
    assert {moment[:11] for moment in times} == {"2025-01-15T"}


def connected(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            return GpsdClient(port)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "gpsd does not listen"
            time.sleep(0.05)


def test_stopping_in_the_middle_unplugs_the_port(log, tmp_path):
    link = tmp_path / "gps0"
    with playing(log, speed=1.0, link=link) as player:
        assert player.line.port == str(link)
        with serial.Serial(str(link), 115_200) as port:
            assert read(port, player, 10)
            threading.Thread(target=player.stop, name="stop").start()
            assert is_unplugged(port)
    assert not link.is_symlink()


def test_a_link_of_a_simulator_that_was_killed_is_replaced_anything_else_is_kept(log, tmp_path):
    link = tmp_path / "gps0"
    link.symlink_to("/dev/pts/987654")
    with playing(log, link=link) as player:
        assert link.exists()
        assert str(link.readlink()) == player.line._terminal
    link.write_text("mine")
    with pytest.raises(PortError, match="gps0"), playing(log, link=link):
        pass
    assert link.read_text() == "mine"


def test_time_and_date_are_those_of_sending_and_the_checksum_is_made_anew(log):
    with (
        playing(log, stamp=Stamp.PRESENT, wall_clock=lambda: NOON, speed=2.0) as player,
        serial.Serial(player.line.port, 115_200) as port,
    ):
        data = read(port, player, len(said(log)))
    found = [line for line in data.splitlines() if line.startswith(b"$GPRMC,1")]
    for index, line in enumerate(found):
        moment = NOON + timedelta(seconds=index / 2)
        assert line.startswith(f"$GPRMC,{moment:%H%M%S.%f}"[:16].encode())
        assert b",010326,,,A*" in line
        body = line[1:-3].decode()
        assert nmea.sentence(body).encode() == line
    assert len(found) == 6


@pytest.mark.parametrize(
    ("line", "stamped"),
    [
        (nmea.sentence("GPZDA,120001,15,01,2025,00,00"), "GPZDA,120000,01,03,2026,00,00"),
        (
            nmea.sentence("GPGLL,5005.1,N,00840.9,E,120001.5,A"),
            "GPGLL,5005.1,N,00840.9,E,120000.0,A",
        ),
        (nmea.sentence("GPRMC,,V,,,,,,,150125,,,N"), "GPRMC,,V,,,,,,,150125,,,N"),
        (nmea.sentence("GPGSA,A,3,02"), "GPGSA,A,3,02"),
    ],
)
def test_only_what_was_said_is_restamped(line, stamped):
    assert restamp(line.encode(), NOON) == nmea.sentence(stamped).encode()


def test_a_broken_sentence_is_sent_as_it_is():
    assert restamp(b"$GPRMC,120001,A*00", NOON) == b"$GPRMC,120001,A*00"


def test_the_bursts_of_a_log_without_times_are_told_by_their_first_sentence(tmp_path):
    path = tmp_path / "cold.nmea"
    path.write_bytes(nmea.log([nmea.sentence("GPRMC,,V,,,,,,,,,,N"), nmea.gsv()]) * 3)
    log = read_receiver_log(path)
    assert [len(burst) for burst in log.bursts] == [2, 2, 2]
    assert [epoch.offset_s for epoch in log.epochs] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("content", [b"", b"Dear Sir\n", b"$GPRMC,broken*00\r\n"])
def test_a_file_that_is_no_log_is_refused_with_a_hint(tmp_path, content):
    path = tmp_path / "letter"
    path.write_bytes(content)
    with pytest.raises(TraceError, match="no sound NMEA"):
        read_receiver_log(path)


def test_the_command_says_where_it_speaks_and_what_it_did(log, tmp_path):
    link = tmp_path / "gps0"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "simulator", "nmea", str(log),
            "--baud", "1200", "--speed", "20", "--link", str(link), "--begin", "at-once", "--loop",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == f"NMEA at 1200 baud on {link}\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "bytes sent" in out
    assert "falls behind" in err
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["absent.nmea"], 2),
        (["{log}", "--speed", "inf"], 2),
        (["{log}", "--link", "/nowhere/a"], 1),
    ],
)
def test_wrong_usage_says_what_is_wrong(log, arguments, code):
    words = [argument.replace("{log}", str(log)) for argument in arguments]
    result = CliRunner().invoke(cli, ["nmea", *words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output


def test_help_has_examples():
    assert "Examples:" in CliRunner().invoke(cli, ["nmea", "--help"]).output
