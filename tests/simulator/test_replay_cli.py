import signal
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from simulator.cli import cli
from simulator.replay import parse_option
from tests.fakes import nmea
from tests.fakes.gpsd_client import GpsdClient


@pytest.fixture
def drive(tmp_path):
    path = tmp_path / "drive.nmea"
    path.write_bytes(nmea.drive(10) + b"$GPRMC,broken*00\r\n")
    return path


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def spawn(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_replay_serves_a_client_to_the_end_and_says_what_it_did(drive):
    process = spawn("replay", "--nmea", drive, "--gpsd-port", 0, "--speed", 20)
    try:
        port = int(process.stdout.readline().rpartition(":")[2])
        with GpsdClient(port) as client:
            client.watch()
            assert len(client.tpvs(10)) == 10
            out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "10 fixes replayed" in out
    assert "line 41 not used: checksum" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_replay_stops_in_order_when_told(drive, number):
    process = spawn("replay", "--nmea", drive, "--gpsd-port", 0, "--loop", "--begin", "at-once")
    try:
        assert "gpsd protocol on 127.0.0.1:" in process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "fixes replayed" in out
    assert "Traceback" not in err


def test_gps_and_can_are_replayed_together(drive, tmp_path, free_port):
    log = tmp_path / "drive.candump"
    log.write_text("(1.0) can0 123#00\n(2.0) can0 123#01\nbroken\n")
    result = run(
        "replay", "--nmea", drive, "--gpsd-port", 0, "--begin", "at-once", "--speed", 50,
        "--can", log, "--can-option", f"port={free_port()}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "10 fixes replayed" in result.output
    assert "2 frames sent, 0 refused" in result.output
    assert "line 3 not used" in result.output


def test_a_log_that_is_none_fails_with_a_hint(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir\n")
    result = run("replay", "--nmea", path, "--gpsd-port", 0)
    assert result.exit_code == 1
    assert "$GPRMC" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--nmea", "absent.nmea"],
        ["--nmea", "{drive}", "--speed", "0"],
        ["--nmea", "{drive}", "--speed", "inf"],
        ["--nmea", "{drive}", "--stamp", "yesterday"],
        ["--nmea", "{drive}", "--gpsd-port", "99999"],
        ["--can", "{drive}", "--can-option", "port"],
    ],
)
def test_wrong_usage_is_exit_code_2(drive, arguments):
    result = run("replay", *(argument.replace("{drive}", str(drive)) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_a_port_in_use_is_told(drive):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("replay", "--nmea", drive, "--gpsd-port", port)
    assert result.exit_code == 1
    assert "--gpsd-port" in result.output


@pytest.mark.parametrize("command", [[], ["replay"], ["completion"]])
def test_help_has_examples(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output


def test_help_lists_every_command_without_loading_it():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom simulator.cli import cli\n"
        "print(CliRunner().invoke(cli, ['--help']).output)\n"
        "slow = ('simulator.demo', 'can', 'rich')\n"
        "print([name for name in sys.modules if name.startswith(slow)])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    for name in ("completion", "demo", "replay", "synth"):
        assert f"  {name} " in out
    assert out.rstrip().endswith("[]")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_MILEPOST_SIM_COMPLETE" in result.output


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("port=43114", ("port", 43114)),
        ("timeout=0.5", ("timeout", 0.5)),
        ("fd=true", ("fd", True)),
        ("group=239.0.0.1", ("group", "239.0.0.1")),
    ],
)
def test_bus_options_have_the_type_that_they_look_like(text, option):
    assert parse_option(text) == option
