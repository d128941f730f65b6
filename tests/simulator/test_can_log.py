import can
import pytest
from can.io import CanutilsLogReader
from hypothesis import given
from hypothesis import strategies as st

from simulator.can_log import MAX_BAD_LINES_KEPT, CanLog, _parse
from simulator.errors import CanLogError


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "drive.candump"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return make


def test_every_kind_of_frame_is_read(write):
    log = write(
        "(10.000000) can1 17F00010#2010000000000000\n"
        "(10.250000) can1 7E8#03412F8C00000000 R\n"
        "(10.500000) can0 123#R2\n"
        "(10.500000) can0 123##3AABBCC\n"
        "(11.000000) can0 20000088#0000800000000000 T\n"
        "(11.000000) can0 456#\n"
    )
    frames = list(CanLog(log))
    assert [frame.offset_s for frame in frames] == pytest.approx([0, 0.25, 0.5, 0.5, 1.0, 1.0])
    extended, standard, remote, fd, error, empty = frames
    assert (extended.arbitration_id, extended.extended) == (0x17F00010, True)
    assert (standard.arbitration_id, standard.extended) == (0x7E8, False)
    assert standard.data == bytes.fromhex("03412F8C00000000")
    assert (remote.remote, remote.length, remote.data) == (True, 2, b"")
    assert (fd.fd, fd.bitrate_switch, fd.error_state, fd.data) == (
        True,
        True,
        True,
        b"\xaa\xbb\xcc",
    )
    assert (error.error, error.arbitration_id, len(error.data)) == (True, 0x88, 8)
    assert (empty.length, empty.data) == (0, b"")


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "(10.0) can0 123",
        "(10.0) can0 #00",
        "(10.0) can0 12#00",
        "(10.0) can0 800#00",
        "(10.0) can0 123#0",
        "(10.0) can0 123#0G",
        "(10.0) can0 123#001122334455667788",
        "(10.0) can0 123##0001122334455667788",
        "(10.0) can0 123#R9",
        "(nan) can0 123#00",
        "10.0 can0 123#00",
        "(10.0) can0 7E8#03412F8C0000",
    ],
)
def test_a_line_that_is_no_whole_frame_is_counted_and_not_used(write, line):
    whole = "(1.0) can0 7E8#03412F8C00000000\n"
    log = CanLog(write(f"{whole}{line[: -1 if line.endswith('C0000') else None]}\n\n{whole}"))
    counts = log.survey()
    assert (counts.frames, counts.bad_lines, counts.empty_lines) == (2, 1, 1)
    assert counts.bad[0].number == 2
    assert counts.lines == 4


def test_times_that_step_back_or_jump_are_counted_and_never_turn_the_replay_back(write):
    log = CanLog(
        write(
            "(100.0) can0 001#00\n(101.0) can0 001#00\n(50.0) can0 001#00\n"
            "(51.5) can0 001#00\n(9000000.0) can0 001#00\n(9000001.0) can0 001#00\n"
        )
    )
    assert [frame.offset_s for frame in log] == [0, 1, 1, 2.5, 2.5, 3.5]
    assert (log.counts.steps_back, log.counts.clock_jumps) == (1, 1)


def test_one_channel_keeps_its_place_in_time(write):
    log = CanLog(
        write("(10.0) can0 001#00\n(11.0) can1 002#00\n(12.0) can0 003#00\n"), log_channel="can1"
    )
    assert [(frame.arbitration_id, frame.offset_s) for frame in log] == [(2, 1.0)]
    assert (log.counts.frames, log.counts.other_channels) == (1, 2)


def test_long_pauses_can_be_shortened(write):
    log = CanLog(write("(0.0) can0 001#\n(600.0) can0 001#\n(601.0) can0 001#\n"), max_gap_s=5)
    assert [frame.offset_s for frame in log] == [0, 5, 6]


def test_an_endless_line_and_binary_junk_are_bad_lines(write):
    junk = b"(1.0) can0 123#" + b"0" * 2_000_000 + b"\n" + bytes(range(128, 256)) + b"\n"
    counts = CanLog(write(b"(1.0) can0 123#00\n" + junk + b"(2.0) can0 123#00\n")).survey()
    assert (counts.frames, counts.bad_lines) == (2, 2)
    assert all(len(bad.text) < 400 for bad in counts.bad)


def test_the_report_of_bad_lines_is_bounded_and_their_number_is_not(write):
    counts = CanLog(write("(1.0) can0 123#00\n" + "x\n" * 1500)).survey()
    assert (len(counts.bad), counts.bad_lines) == (MAX_BAD_LINES_KEPT, 1500)


@pytest.mark.parametrize("text", ["", "\n\n", "$GPRMC,not a CAN log\n"])
def test_a_file_without_frames_is_refused_with_a_hint(write, text):
    with pytest.raises(CanLogError, match="no frame") as caught:
        CanLog(write(text)).survey()
    assert "7E8#" in caught.value.hint


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(CanLogError, match=r"absent\.candump"):
        CanLog(tmp_path / "absent.candump").survey()


@given(st.one_of(st.binary(max_size=80), st.from_regex(rb"\(1\.0\) c [0-9A-F#R]{4,24}")))
def test_any_line_gives_a_frame_that_can_be_sent_or_none(line):
    frame = _parse(line.strip())
    if frame is not None:
        can.Message(
            arbitration_id=frame.arbitration_id,
            is_extended_id=frame.extended,
            is_remote_frame=frame.remote,
            is_error_frame=frame.error,
            is_fd=frame.fd,
            dlc=frame.length,
            data=None if frame.remote else frame.data,
            check=not frame.error,
        )


@pytest.mark.needs_traces
@pytest.mark.parametrize(
    ("name", "frames"),
    [("dev01_car_gps_obd_start.candump", 65_296), ("dev02_truck_j1939_idle.candump", 1_815)],
)
def test_recorded_logs_are_read_as_python_can_reads_them(traces, name, frames):
    path = traces / "can" / name
    ours = list(CanLog(path))
    assert len(ours) == frames
    with CanutilsLogReader(path) as reader:
        for frame, message in zip(ours, reader, strict=True):
            assert frame.timestamp_s == message.timestamp
            assert frame.arbitration_id == message.arbitration_id
            assert frame.extended == message.is_extended_id
            assert frame.data == message.data
            assert frame.channel == message.channel
