"""The commands as an installer types them, on a card in a reader."""

import subprocess
import sys

import pytest

from tests.fakes.board_root import make_root, tree


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "root")


def board(root, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "agent", "board", *words, "--root", root],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_apply_shows_writes_and_undo_takes_back(root):
    before = tree(root)
    shown = board(root, "apply", "--board", "pi4", "--hat", "mcp2515", "--bitrate", "500k", "--yes")
    assert "+dtoverlay=mcp2515-can0,oscillator=16000000,interrupt=25" in shown
    assert "-console=serial0,115200 console=tty1" in shown
    assert "Done." in shown
    assert "Everything stands as wanted" in board(root, "apply", "--yes")
    assert "Everything stands as wanted" in board(root, "diff")
    assert "Applied here: --board pi4 --hat mcp2515" in board(root, "list")
    board(root, "undo", "--yes")
    assert tree(root) == before
    assert "Nothing is applied here" in board(root, "undo", "--yes")


def test_options_that_are_not_given_stay(root):
    board(root, "apply", "--board", "pi4", "--hat", "mcp2515", "--pps-gpio", "18", "--yes")
    shown = board(root, "apply", "--bitrate", "250k", "--yes")
    assert "As asked for: --board pi4 --hat mcp2515 --bitrate 250000 --pps-gpio 18" in shown
    assert "+BITRATE=250000" in shown
    assert "overlay" not in shown
    shown = board(root, "apply", "--gps-device", "/dev/ttyUSB0", "--gps-baud", "9600", "--yes")
    assert '+GPSD_OPTIONS="-n -s 9600"' in shown
    shown = board(root, "apply", "--gps-device", "none", "--gps-baud", "none", "--yes")
    assert '+DEVICES="/dev/ttyAMA0"' in shown
    shown = board(root, "apply", "--pps-gpio", "none", "--yes")
    assert "-dtoverlay=pps-gpio,gpiopin=18" in shown


def test_each_of_two_buses_may_have_its_bit_rate(root):
    hat = ("--board", "pi4", "--hat", "waveshare-2ch-can")
    board(root, "apply", *hat, "--bitrate", "500k", "--bitrate", "can1=250k", "--yes")
    env = [(root / f"etc/milepost/can-can{number}.env").read_text() for number in (0, 1)]
    assert "BITRATE=500000" in env[0]
    assert "BITRATE=250000" in env[1]
    shown = board(root, "apply", "--bitrate", "125k", "--yes")
    assert "--bitrate 125000 --bitrate can1=250000" in shown
    shown = board(root, "apply", "--bitrate", "can1=none", "--yes")
    assert "-BITRATE=250000" in shown
    assert "+BITRATE=125000" in shown


def test_nothing_is_written_unless_somebody_says_yes(root):
    before = tree(root)
    told = board(root, "apply", "--board", "pi4", code=1)
    assert "--yes" in told
    assert tree(root) == before


def test_an_overlay_that_the_firmware_lacks_is_told(root):
    folder = root / "boot/firmware/overlays"
    folder.mkdir()
    (folder / "disable-bt.dtbo").touch()
    shown = board(root, "apply", "--board", "pi4", "--hat", "mcp2518fd", "--yes")
    assert "no overlay mcp251xfd" in shown
    assert "no overlay disable-bt" not in shown


def test_who_may_not_write_is_told_before_being_asked(root, tmp_path):
    (tmp_path / "empty").mkdir()
    told = board(tmp_path / "empty", "apply", "--board", "generic", "--gps", "usb", code=1)
    assert "+++ /etc/default/gpsd" in told
    assert "Run it with sudo" in told


def test_diff_tells_by_its_exit_code(root):
    board(root, "diff", "--board", "pi4", code=1)
    board(root, "apply", "--board", "pi4", "--yes")
    board(root, "diff")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--board"),
        (("--board", "pi9"), "did you mean"),
        (("--board", "pi4", "--bitrate", "fast"), "no rate"),
        (("--board", "pi4", "--bitrate", "9M"), "--bitrate: Input should be less"),
        (("--board", "pi4", "--pps-gpio", "pin7"), "no GPIO"),
        (("--board", "pi4", "--hat", "mcp2515", "--bitrate", "can1=250k"), "no can1"),
        (("--board", "pi4", "--pps-gpio", "14"), "GPIO 14 would be used twice"),
        (("--board", "pi4", "--boot", "."), "no config.txt"),
    ],
)
def test_wrong_usage_says_what_to_do(root, words, says):
    assert says in board(root, "apply", *words, "--yes", code=2)


@pytest.mark.parametrize("command", ["apply", "diff", "undo", "list"])
def test_every_command_has_help_with_an_example(root, command):
    shown = board(root, command, "--help")
    assert "Example" in shown
    assert f"milepost-agent board {command}" in shown
