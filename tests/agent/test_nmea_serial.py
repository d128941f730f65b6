"""The serial source on a pseudo terminal: found, lost, unplugged, back; and a u-blox asked."""

import errno
import json
import logging
import termios
import time

import pytest
from pydantic import ValidationError
from serial import SerialException

from agent.config import GpsSettings
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox, SourceChanged
from agent.sources.gps.own_cycle import CYCLE_FILE, CycleMemory
from agent.sources.nmea.baud import BAUD_FILE, LIKELY, BaudMemory, bauds_to_try
from agent.sources.nmea.frames import Framer, ubx_message
from agent.sources.nmea.port import PORT_ERRORS, reason_of
from agent.sources.nmea.source import NmeaSource
from agent.sources.nmea.ublox import CFG_RATE, MON_VER, QUESTIONS
from simulator.nmea_player import NmeaPlayer
from simulator.receiver_log import read_receiver_log
from tests.fakes import nmea
from tests.fakes.serial_line import SerialLine, speaking


@pytest.fixture
def line(tmp_path):
    with SerialLine(tmp_path / "gps0") as line:
        yield line


@pytest.fixture
def start(tmp_path):
    """A function that starts a source on devices and gives it with its inbox."""
    sources = []

    def begin(*devices, silent_after_s=10.0, **serial):
        settings = GpsSettings(
            source="serial",
            silent_after_s=silent_after_s,
            serial={"device": tuple(map(str, devices)), **serial},
        )
        inbox = Inbox()
        memories = BaudMemory(tmp_path), CycleMemory(tmp_path)
        source = NmeaSource(settings, inbox, SystemClock(), *memories)
        sources.append(source)
        source.start()
        return source, inbox

    yield begin
    for source in sources:
        source.stop()
        source.stop()


def take(inbox, kind, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        item = inbox.get(0.2)
        if isinstance(item, kind):
            return item
    pytest.fail(f"no {kind.__name__} came")


def bursts(count, **options):
    return [nmea.log(nmea.epoch(43_200 + index, **options)) for index in range(count)]


def test_fixes_stream_in_whole_with_the_port_in_them(line, start):
    _, inbox = start(line.link)
    with speaking(line, bursts(600), 0.2):
        fixes = [take(inbox, FixReceived).fix for _ in range(4)]
    whole = fixes[1:]
    assert [fix.speed_kmh for fix in whole] == [18.52] * 3
    assert {fix.device for fix in fixes} == {str(line.link)}
    times = [fix.time for fix in whole]
    assert [(later - times[0]).seconds for later in times] == [0, 1, 2]
    assert len({fix.received_s for fix in whole}) == 3


def test_a_port_that_is_unplugged_and_plugged_in_again_is_told_once_each(line, start, caplog):
    caplog.set_level(logging.INFO)
    _, inbox = start(line.link)
    with speaking(line, bursts(600), 0.1):
        take(inbox, FixReceived)
        line.unplug()
        lost = take(inbox, SourceChanged)
        assert (lost.source, lost.available, lost.cause) == ("gps", False, "removed")
        assert "unplugged" in lost.reason
        time.sleep(1.5)
        line.plug()
        assert take(inbox, SourceChanged).available
        take(inbox, FixReceived)
    about_it = [record.getMessage() for record in caplog.records if "GPS on" in record.getMessage()]
    assert len(about_it) == 2, "one line when it goes, one when it is back"


def test_a_port_that_is_not_there_at_boot_is_waited_for(tmp_path, start):
    _, inbox = start(tmp_path / "late")
    assert "not there" in take(inbox, SourceChanged).reason
    with SerialLine(tmp_path / "late") as line, speaking(line, bursts(600), 0.1):
        assert take(inbox, SourceChanged).available
        take(inbox, FixReceived)


def test_of_several_ports_the_first_that_speaks_is_taken(tmp_path, start):
    with (
        SerialLine(tmp_path / "usb-modem"),
        SerialLine(tmp_path / "usb-gps-77") as line,
        speaking(line, bursts(600), 0.1),
    ):
        _, inbox = start(tmp_path / "none", tmp_path / "usb-*", silent_after_s=1)
        assert take(inbox, FixReceived).fix.device == str(tmp_path / "usb-gps-77")


def test_a_receiver_that_falls_silent_is_told(line, start):
    _, inbox = start(line.link, silent_after_s=1)
    with speaking(line, bursts(600), 0.1):
        take(inbox, FixReceived)
    lost = take(inbox, SourceChanged)
    assert (lost.available, lost.cause) == (False, "silent")
    assert "says nothing" in lost.reason
    with speaking(line, bursts(600), 0.1):
        assert take(inbox, SourceChanged).available


def test_a_fix_that_is_only_repeated_is_stale_and_is_not_sent_as_new(line, start):
    source, inbox = start(line.link, silent_after_s=1)
    with speaking(line, bursts(1), 0.1):
        take(inbox, FixReceived)
        lost = take(inbox, SourceChanged)
        assert (lost.source, lost.cause) == ("gps", "stale")
        assert source.account()["lost"] == "stale"
        assert inbox.get(0.5) is None
    with speaking(line, bursts(600)[1:], 0.1):
        assert take(inbox, SourceChanged).available


@pytest.mark.parametrize(
    ("bytes_said", "reason"),
    [
        (b"\x00\xfe" * 400, "only noise"),
        (ubx_message(b"\x01\x07", bytes(92)), "UBX only"),
    ],
    ids=["noise", "ubx"],
)
@pytest.mark.parametrize("baud", [0, 9600])
def test_a_line_without_sentences_is_told_with_what_is_on_it(line, start, bytes_said, reason, baud):
    _, inbox = start(line.link, silent_after_s=1, baud=baud)
    with speaking(line, [bytes_said], 0.1):
        assert reason in take(inbox, SourceChanged).reason


def test_a_port_that_another_program_has_is_told(line, start):
    _, first = start(line.link)
    with speaking(line, bursts(600), 0.1):
        take(first, FixReceived)
        _, second = start(line.link)
        assert "another program" in take(second, SourceChanged).reason
        take(first, FixReceived)


def test_what_is_no_serial_port_is_told(tmp_path, start):
    (tmp_path / "file").write_text("letter")
    _, inbox = start(tmp_path / "file")
    assert "no serial port" in take(inbox, SourceChanged).reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "group dialout"),
        (termios.error(errno.EIO, "Input/output error"), "unplugged"),
        (SerialException("Could not configure port: (5, 'Input/output error')"), "unplugged"),
        (OSError(errno.ENODEV, "ready to be read"), "unplugged"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
        (ValueError("Failed to set custom baud rate (1234)"), "custom baud rate"),
    ],
)
def test_every_error_of_a_port_says_what_is_wrong(error, words):
    assert isinstance(error, PORT_ERRORS)
    assert words in reason_of(error)


def test_the_baud_rate_that_was_found_is_remembered(line, start, tmp_path):
    source, inbox = start(line.link)
    with speaking(line, bursts(600), 0.1):
        take(inbox, FixReceived)
        assert source.account()["baud"] == LIKELY[0]
        source.stop()
    assert json.loads((tmp_path / BAUD_FILE).read_text()) == {str(line.link): LIKELY[0]}


def test_a_rate_that_nobody_named_is_found_out_on_a_line_that_is_noise_at_any_other(
    start, tmp_path
):
    log = tmp_path / "drive.nmea"
    log.write_bytes(nmea.drive(600))
    player = NmeaPlayer(read_receiver_log(log), baud=38_400, speed=8.0, loop=True)
    player.start()
    try:
        source, inbox = start(player.line.port)
        fix = take(inbox, FixReceived, 60).fix
        assert 50.08 < fix.lat < 50.10
        assert source.account()["baud"] == 38_400
        source.stop()
        assert BaudMemory(tmp_path).recall(player.line.port) == 38_400
    finally:
        player.stop()


def test_the_remembered_rate_is_tried_first_and_a_configured_one_alone():
    assert bauds_to_try(38_400, 9_600) == [38_400]
    tried = bauds_to_try(0, 230_400)
    assert tried[0] == 230_400
    assert sorted(tried) == sorted(LIKELY)


@pytest.mark.parametrize("content", ["", "[1]", '{"/dev/ttyS0": "fast"}', "{}"])
def test_a_broken_memory_of_rates_is_as_none(tmp_path, content):
    (tmp_path / BAUD_FILE).write_text(content)
    memory = BaudMemory(tmp_path)
    assert memory.recall("/dev/ttyS0") is None
    memory.keep("/dev/ttyS0", 4800)
    assert memory.recall("/dev/ttyS0") == 4800


def test_a_faulty_antenna_is_told_once_and_its_mending_once(line, start):
    _, inbox = start(line.link)
    remark = nmea.log([nmea.sentence("GNTXT,01,01,02,ANTSTATUS=SHORT")])
    with speaking(line, [burst + remark for burst in bursts(600)], 0.1):
        raised = take(inbox, SourceChanged)
        assert (raised.source, raised.available) == ("gps-antenna", False)
        assert "short circuit" in raised.reason
    remark = nmea.log([nmea.sentence("GNTXT,01,01,02,ANTSTATUS=OK")])
    with speaking(line, [burst + remark for burst in bursts(600)], 0.1):
        cleared = take(inbox, SourceChanged)
    assert (cleared.source, cleared.available) == ("gps-antenna", True)


def ubx_heard(line, framer, until):
    """The UBX messages that the receiver gets, up to one that satisfies ``until``."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for frame in framer.feed(line.heard()):
            if frame and until(frame):
                return frame
        time.sleep(0.02)
    pytest.fail("the receiver was not asked")


def test_a_ublox_on_the_line_is_asked_for_a_trip_s_cycle_and_gets_its_own_back(
    line, start, tmp_path
):
    source, inbox = start(line.link, baud=921_600)
    framer = Framer()
    own = ubx_message(CFG_RATE, bytes.fromhex("e80301000100"))

    def sets_rate(frame):
        return frame[2:4] == CFG_RATE and len(frame) > 8

    with speaking(line, bursts(600), 0.25):
        take(inbox, FixReceived)
        ubx_heard(line, framer, lambda frame: frame[2:4] == MON_VER)
        line.say(ubx_message(MON_VER, b"ROM SPG 5.10".ljust(40, b"\0")) + own)
        source.request_cycle(0.2)
        assert ubx_heard(line, framer, sets_rate)[6:8] == (200).to_bytes(2, "little")
        assert CycleMemory(tmp_path).recall(str(line.link)) == 1.0
        assert source.account()["receiver"] == "ROM SPG 5.10"
        source.request_cycle(None)
        assert ubx_heard(line, framer, sets_rate) == own
        source.request_cycle(0.2)
        ubx_heard(line, framer, sets_rate)
        source.stop()
        assert ubx_heard(line, framer, sets_rate) == own


def test_a_ublox_that_a_killed_agent_left_fast_gets_its_own_cycle_back_from_the_next_run(
    line, start, tmp_path
):
    (tmp_path / CYCLE_FILE).write_text(json.dumps({str(line.link): 1.0}))
    _, inbox = start(line.link, baud=921_600)
    framer = Framer()
    with speaking(line, bursts(600), 0.25):
        take(inbox, FixReceived)
        ubx_heard(line, framer, lambda frame: frame[2:4] == MON_VER)
        fast = ubx_message(CFG_RATE, bytes.fromhex("c80001000100"))
        line.say(ubx_message(MON_VER, b"ROM SPG 5.10".ljust(40, b"\0")) + fast)
        back = ubx_heard(line, framer, lambda one: one[2:4] == CFG_RATE and len(one) > 8)
        assert back == ubx_message(CFG_RATE, bytes.fromhex("e80301000100"))
        deadline = time.monotonic() + 10
        while CycleMemory(tmp_path).recall_all():
            assert time.monotonic() < deadline, "it is given back, and still remembered"
            time.sleep(0.02)


def test_nothing_is_written_to_a_receiver_that_does_not_answer_or_must_be_left(line, start):
    source, inbox = start(line.link)
    heard = b""
    with speaking(line, bursts(600), 0.1):
        source.request_cycle(0.2)
        for _ in range(5):
            take(inbox, FixReceived)
            heard += line.heard()
        assert heard == QUESTIONS
        source.stop()
        line.heard()
        source, inbox = start(line.link, ublox_cycle="leave")
        source.request_cycle(0.2)
        for _ in range(3):
            take(inbox, FixReceived)
        source.stop()
    assert line.heard() == b""


def test_one_device_or_a_list_stands_in_the_config():
    one = GpsSettings.model_validate({"source": "serial", "serial": {"device": "/dev/ttyS0"}})
    assert one.serial.device == ("/dev/ttyS0",)
    ports = ["/dev/ttyS0", "/dev/ttyACM*"]
    two = GpsSettings.model_validate({"source": "serial", "serial": {"device": ports}})
    assert two.serial.device == tuple(ports)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"source": "serial", "serial": {"device": "ttyS0"}}, "pattern"),
        ({"source": "serial", "serial": {"device": []}}, "at least 1"),
        ({"source": "serial", "device": "/dev/ttyS0"}, "gps.serial.device"),
        ({"serial": {"device": "/dev/ttyS0"}}, "set gps.source"),
    ],
)
def test_a_port_in_the_wrong_place_of_the_config_is_an_error(table, words):
    with pytest.raises(ValidationError, match=words):
        GpsSettings.model_validate(table)
