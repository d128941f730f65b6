"""What each board and HAT gets, held against a golden text; regenerate with MILEPOST_GOLDEN=1."""

import os
import re
import subprocess

import pytest
from pydantic import ValidationError

from agent.board.profile import boards, detected, hats
from agent.board.render import BOOT, UNITS, How, notes, render
from agent.board.wanted import Wanted, parse_rate
from agent.errors import ConfigError
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/board"
CASES = {
    "pi4-mcp2515": {"board": "pi4", "hat": "mcp2515"},
    "pi5-mcp2518fd-everything": {
        "board": "pi5",
        "hat": "mcp2518fd",
        "dbitrate": 2_000_000,
        "oscillator_hz": 20_000_000,
        "interrupt_gpio": 24,
        "gps_baud": 115_200,
        "pps_gpio": 18,
        "chrony": "sock",
        "shutdown_gpio": 17,
        "shutdown_level": "high",
        "poweroff_gpio": 26,
        "logs": "memory",
        "listen_only": True,
    },
    "pi-zero-2w-usb-receiver": {"board": "pi-zero-2w", "gps": "usb"},
    "pi4-two-channels": {"board": "pi4", "hat": "waveshare-2ch-can-fd", "dbitrate": 2_000_000},
    "jetson-orin-nano": {"board": "jetson-orin-nano"},
    "generic-usb-can": {"board": "generic", "gps": "usb", "can": ["can0"], "watchdog": False},
    "least": {
        "board": "generic",
        "gps": "none",
        "watchdog": False,
        "tmp_in_memory": False,
    },
}


def rendered(wanted):
    parts = [
        f"=== {target.path} ({target.how.value}; {target.about}; {target.needs})\n"
        + target.content.rstrip("\n")
        + "\n"
        for target in render(wanted)
    ]
    return "\n".join([*parts, *(f"note: {note}\n" for note in notes(wanted))])


@pytest.mark.parametrize("name", CASES)
def test_a_board_gets_what_the_golden_text_says(name):
    text = rendered(Wanted(**CASES[name]))
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MILEPOST_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", boards())
def test_every_board_can_be_set_up_with_a_usb_receiver_and_nothing_else(name):
    targets = render(Wanted(board=name, gps="usb"))
    paths = [target.path for target in targets]
    assert len(paths) == len(set(paths))
    assert not any("$" in target.content for target in targets)


@pytest.mark.parametrize("hat", hats())
@pytest.mark.parametrize("board", ["pi4", "pi5", "pi-zero-2w"])
def test_every_hat_can_be_put_on_every_pi_with_a_receiver_on_its_uart(board, hat):
    (config,) = [t for t in render(Wanted(board=board, hat=hat)) if t.path == BOOT + "config.txt"]
    for line in config.content.splitlines()[1:]:
        assert re.fullmatch(r"(dtparam|dtoverlay|enable_uart)=[a-z0-9_,=+-]+", line), line


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", ["jetson-orin-nano", "pi4-mcp2515"])
def test_systemd_has_nothing_to_say_about_the_units_that_are_written(tmp_path, name):
    units = [
        target
        for target in render(Wanted(**CASES[name]))
        if target.path.startswith(UNITS) and target.how is How.WHOLE
    ]
    assert units
    for target in units:
        place = tmp_path / target.path.rsplit("/", 1)[-1]
        text = target.content.replace("/sbin/modprobe", "/bin/true")  # maybe not here
        place.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "--no-pager", "verify", place],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"board": "pi9"}, "no board 'pi9'; did you mean"),
        ({"board": "pi4", "hat": "mcp2516"}, "no HAT 'mcp2516'; did you mean 'mcp2515'"),
        ({"board": "pi4", "hat": "mcp2515", "dbitrate": 2_000_000}, "does not speak"),
        ({"board": "pi4", "hat": "mcp2518fd", "dbitrate": 250_000}, "not below"),
        ({"board": "jetson-orin-nano", "hat": "mcp2515"}, "overlays of the Raspberry Pi"),
        ({"board": "jetson-orin-nano", "pps_gpio": 18}, "no overlays for GPIOs"),
        ({"board": "pi4", "gps": "usb", "pps_gpio": 18}, "--gps uart"),
        ({"board": "pi4", "hat": "mcp2515", "pps_gpio": 25}, "GPIO 25 would be used twice"),
        ({"board": "pi4", "shutdown_gpio": 14}, "GPIO 14 would be used twice"),
        ({"board": "pi4", "hat": "waveshare-2ch-can-fd", "pps_gpio": 18}, "GPIO 18"),
        ({"board": "pi4", "hat": "pican2", "interrupt_gpio": 24}, "is fixed"),
        ({"board": "pi4", "oscillator_hz": 8_000_000}, "crystal of its own"),
        ({"board": "pi4", "gps": "usb", "chrony": "sock"}, "--gps-device"),
        ({"board": "generic"}, "no known UART"),
        ({"board": "pi4", "bitrate": 2_000_000}, "less than or equal to 1000000"),
        ({"board": "pi4", "gps_device": '/dev/x"; reboot'}, "should match"),
        ({"board": "pi4", "can": ["can0 up"]}, "should match"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(options, says):
    with pytest.raises((ValidationError, ConfigError), match=re.escape(says)):
        Wanted(**options)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "pi5"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "pi-zero-2w"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
        ("NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"),
        ("Raspberry Pi 3 Model B", None),
        ("", None),
    ],
)
def test_a_board_is_known_by_its_device_tree(model, name):
    assert detected(model) == name


@pytest.mark.parametrize(
    ("text", "rate"), [("500k", 500_000), ("2M", 2_000_000), ("83333", 83_333), ("83.333k", 83_333)]
)
def test_rates_are_written_as_people_write_them(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "k", "fast", "1.5", "500 kbit", "-1", "1G"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ConfigError, match="no rate"):
        parse_rate(text)
