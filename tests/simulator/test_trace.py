from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.epoch import FixMode, Gnss
from simulator.errors import TraceError
from simulator.trace import MAX_BAD_LINES_KEPT, _read, read_trace
from tests.fakes import nmea


def read(tmp_path, data):
    path = tmp_path / "drive.nmea"
    path.write_bytes(data if isinstance(data, bytes) else nmea.log(data))
    return read_trace(path)


def test_the_sentences_of_one_second_become_one_epoch(tmp_path):
    trace = read(tmp_path, nmea.drive(3))
    first = trace.epochs[0]
    assert len(trace.epochs) == 3
    assert first.time == datetime(2025, 1, 15, 12, 0, 0, tzinfo=UTC)
    assert first.mode is FixMode.FIX_3D
    assert first.lat == pytest.approx(50 + 5.1 / 60)
    assert first.altitude_msl_m == 112.5
    assert first.geoid_separation_m == 47.9
    assert first.speed_mps == pytest.approx(5.1444, abs=1e-3)
    assert (first.hdop, first.pdop, first.vdop) == (0.9, 1.8, 1.5)
    assert [(s.gnss, s.svid, s.used) for s in first.satellites] == [
        (Gnss.GPS, 2, True),
        (Gnss.GPS, 5, True),
        (Gnss.GPS, 7, False),
    ]
    assert [epoch.offset_s for epoch in trace.epochs] == [0, 1, 2]


def test_a_log_that_begins_in_the_middle_of_a_second_does_not_lend_its_rest_to_the_next(tmp_path):
    trace = read(tmp_path, [nmea.gsa(mode=2), nmea.gsv(), nmea.rmc(10), nmea.gga(10)])
    assert trace.counts.partial_epochs == 1
    assert trace.epochs[0].satellites == ()
    assert trace.epochs[0].pdop is None


def test_when_a_bad_line_may_hide_a_new_second_what_follows_is_not_mixed_in(tmp_path):
    broken = nmea.rmc(11)[:-1] + "#"
    trace = read(
        tmp_path,
        [nmea.rmc(10), nmea.gga(10), nmea.gsa(3), broken, nmea.gsa(2), nmea.gsv(), nmea.rmc(12)],
    )
    assert [epoch.mode for epoch in trace.epochs] == [FixMode.FIX_3D, FixMode.FIX_2D]
    assert trace.epochs[0].satellites == ()


def test_a_sentence_that_comes_again_without_a_time_begins_a_new_epoch(tmp_path):
    void = [nmea.sentence("GPGGA,,,,,,0,,,,,,,,"), nmea.sentence("GPRMC,,V,,,,,,,,,,N")]
    trace = read(tmp_path, [*nmea.epoch(10), *void, *void, *void, *nmea.epoch(14)])
    assert [epoch.has_fix for epoch in trace.epochs] == [True, False, False, False, True]
    assert [epoch.offset_s for epoch in trace.epochs] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "lines",
    [
        [nmea.rmc(10), nmea.gga(10, quality=0)],
        [nmea.rmc(10, valid=False), nmea.gga(10)],
        [nmea.rmc(10), nmea.gga(10), nmea.gsa(mode=1)],
        [nmea.gga(10, quality=7)],
    ],
)
def test_there_is_no_fix_where_one_sentence_denies_it(tmp_path, lines):
    epoch = read(tmp_path, lines).epochs[0]
    assert epoch.mode is FixMode.NO_FIX
    assert epoch.lat is None
    assert epoch.speed_mps is None


def test_vtg_gives_speed_only_where_rmc_does_not(tmp_path):
    vtg = nmea.sentence("GPVTG,45.0,T,,M,20.0,N,37.0,K,A")
    with_rmc = read(tmp_path, [nmea.rmc(10, knots=10.0), vtg]).epochs[0]
    without = read(tmp_path, [nmea.gga(10), vtg]).epochs[0]
    assert with_rmc.speed_mps == pytest.approx(10 * 1852 / 3600)
    assert (without.speed_mps, without.track_deg) == (pytest.approx(20 * 1852 / 3600), 45.0)


def test_a_log_without_rmc_has_no_dates(tmp_path):
    trace = read(tmp_path, [nmea.gga(86_398), nmea.gga(86_399), nmea.gga(0), nmea.gga(1)])
    assert [epoch.time for epoch in trace.epochs] == [None] * 4
    assert [epoch.offset_s for epoch in trace.epochs] == [0, 1, 2, 3]
    assert trace.counts.midnights == 1


def test_midnight_carries_the_date_on_to_epochs_without_rmc(tmp_path):
    trace = read(tmp_path, [nmea.rmc(86_399, date="311224"), nmea.gga(0), nmea.gga(1)])
    assert [epoch.date for epoch in trace.epochs] == [
        date(2024, 12, 31),
        date(2025, 1, 1),
        date(2025, 1, 1),
    ]


def test_time_that_steps_back_is_counted_and_never_turns_the_replay_back(tmp_path):
    seconds = [10, 11, 12, 11, 12, 13]
    trace = read(tmp_path, [line for second in seconds for line in nmea.epoch(second)])
    assert trace.counts.steps_back == 1
    assert [epoch.offset_s for epoch in trace.epochs] == [0, 1, 2, 3, 4, 5]


def test_a_gap_is_kept_and_reported(tmp_path):
    trace = read(tmp_path, [line for s in (10, 11, 12, 72, 73) for line in nmea.epoch(s)])
    assert [(gap.offset_s, gap.length_s) for gap in trace.gaps] == [(2, 60)]
    assert trace.duration_s == 63


def test_a_receiver_whose_clock_jumps_by_years_makes_no_gap_of_years(tmp_path):
    trace = read(
        tmp_path, [nmea.rmc(10, date="060180"), nmea.rmc(11, date="060180"), nmea.rmc(500)]
    )
    assert trace.counts.clock_jumps == 1
    assert trace.duration_s == 2


def test_a_broken_checksum_is_reported_with_its_line_and_its_value_is_never_used(tmp_path):
    good = nmea.rmc(11, minutes=5.2)
    lines = [*nmea.epoch(10), good.replace("5.2000", "9.9000"), *nmea.epoch(12)]
    trace = read(tmp_path, lines)
    assert [(bad.number, "checksum" in bad.reason) for bad in trace.bad_lines] == [(5, True)]
    assert all(epoch.lat < 50.1 for epoch in trace.epochs)


@pytest.mark.parametrize("cut", range(1, 70, 7))
def test_a_truncated_log_gives_what_was_whole(tmp_path, cut):
    whole = read(tmp_path, nmea.drive(5))
    trace = read(tmp_path, nmea.drive(5)[:-cut])
    assert len(trace.epochs) == 5
    assert trace.epochs[:4] == whole.epochs[:4]
    assert trace.epochs[4].lat == whole.epochs[4].lat


def test_remarks_vendor_lines_and_loggers_prefixes_are_tolerated(tmp_path):
    lines = [
        "# $GPRMC in a remark is a remark",
        "*** program startup ***",
        "",
        "$PMTK011,MTKGPS",
        *(f"2025-01-15T12:00:00 {line}" for line in nmea.epoch(10)),
        nmea.sentence("GPGLL,5005.1000,N,00840.9260,E,000010.00,A,A"),
    ]
    counts = read(tmp_path, lines).counts
    assert (counts.fixes, counts.bad_lines, counts.other_lines) == (1, 0, 3)
    assert counts.ignored == {"PMTK011": 1, "GPGLL": 1}
    assert counts.lines == counts.sentences + counts.bad_lines + counts.other_lines


def test_binary_junk_between_sentences_costs_only_what_it_hit(tmp_path):
    junk = bytes(range(128, 256)) + b"\x00\xb5\x62$\xff\r\n"
    trace = read(tmp_path, junk + nmea.drive(2) + junk + nmea.log(nmea.epoch(43_202)) + junk)
    assert trace.counts.fixes == 3
    assert trace.counts.bad_lines == 3


def test_an_endless_line_is_one_bad_line(tmp_path):
    endless = b"$GPRMC," + b"1" * 3_000_000 + b"\n"
    trace = read(tmp_path, nmea.drive(1) + endless + nmea.log(nmea.epoch(43_201)))
    assert trace.counts.fixes == 2
    assert [bad.number for bad in trace.bad_lines] == [5]
    assert "longer" in trace.bad_lines[0].reason


def test_the_report_of_bad_lines_is_bounded_and_their_number_is_not(tmp_path):
    trace = read(tmp_path, nmea.drive(1) + b"$GPRMC,broken\n" * 1500)
    assert len(trace.bad_lines) == MAX_BAD_LINES_KEPT
    assert trace.counts.bad_lines == 1500


@pytest.mark.parametrize("data", [b"", b"hello\nworld\n", b"\x00\xff" * 5000, b"$GPGSV,x\n"])
def test_a_file_without_positions_is_refused_with_a_hint(tmp_path, data):
    with pytest.raises(TraceError, match="no position") as caught:
        read(tmp_path, data)
    assert "$GPRMC" in caught.value.hint


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(TraceError, match=r"absent\.nmea"):
        read_trace(tmp_path / "absent.nmea")


class Bytes:
    """Only what the reader needs of a file."""

    def __init__(self, data):
        self._data, self._at = data, 0

    def readline(self, limit):
        end = self._data.find(b"\n", self._at)
        end = len(self._data) if end < 0 else end + 1
        line = self._data[self._at : min(end, self._at + limit)]
        self._at += len(line)
        return line


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.integers(0, 86_399).flatmap(
                lambda second: st.sampled_from(
                    [line.encode() + b"\r\n" for line in nmea.epoch(second)]
                    + [nmea.gga(second, quality=0).encode() + b"\n"]
                )
            ),
            st.just(nmea.sentence("GPRMC,,V,,,,,,,,,,N").encode() + b"\n"),
        ),
        max_size=40,
    )
)
def test_any_bytes_give_a_sound_trace_or_the_documented_error(pieces):
    try:
        trace = _read("fuzz", Bytes(b"".join(pieces)))
    except TraceError:
        return
    counts = trace.counts
    offsets = [epoch.offset_s for epoch in trace.epochs]
    assert offsets == sorted(offsets)
    assert counts.epochs == counts.fixes + counts.no_fix == len(trace.epochs)
    assert counts.lines == counts.sentences + counts.bad_lines + counts.other_lines
    assert all((epoch.lat is not None) is epoch.has_fix for epoch in trace.epochs)


RECORDED = {
    # name: epochs, fixes, 2D, no fix, bad lines, steps back, midnights, gaps of the log in s
    "dev01_munich_drive.nmea": (1867, 1847, 221, 20, 0, 1, 0, []),
    "dev02_mtv_f9k_rtk_drive_a.nmea": (761, 761, 0, 0, 8, 0, 0, []),
    "dev03_reno_tahoe_garmin_drive_a.nmea": (2438, 2438, 33, 0, 0, 0, 1, [60, 798, 1250]),
    "dev04_munich_gga_gsa_only.nmea": (505, 505, 2, 0, 0, 1, 0, []),
    "dev05_quectel_eg25g_nofix.log": (60, 23, 0, 37, 0, 0, 0, []),
    "dev06_gp320fw_week_rollover.log": (20, 20, 0, 0, 0, 0, 0, []),
    "dev07_unicore_um621_losefix.log": (20, 16, 0, 4, 0, 0, 0, []),
}


@pytest.mark.needs_traces
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_trace_parses_into_the_counts_that_are_known_of_it(traces, name):
    trace = read_trace(traces / "nmea" / name)
    counts = trace.counts
    assert (
        counts.epochs,
        counts.fixes,
        counts.fixes_2d,
        counts.no_fix,
        counts.bad_lines,
        counts.steps_back,
        counts.midnights,
        [gap.length_s for gap in trace.gaps],
    ) == RECORDED[name]


@pytest.mark.needs_traces
def test_recorded_peculiarities_are_found(traces):
    munich = read_trace(traces / "nmea" / "dev01_munich_drive.nmea")
    speeds = [epoch.speed_mps for epoch in munich.epochs if epoch.speed_mps is not None]
    assert max(speeds) == pytest.approx(17.3, abs=0.05)
    assert munich.duration_s == pytest.approx(31 * 60, abs=10)
    assert min(e.altitude_msl_m for e in munich.epochs if e.altitude_msl_m is not None) < -704
    undated = read_trace(traces / "nmea" / "dev04_munich_gga_gsa_only.nmea")
    assert all(epoch.time is None and epoch.speed_mps is None for epoch in undated.epochs)
    modem = read_trace(traces / "nmea" / "dev05_quectel_eg25g_nofix.log")
    fixes = [epoch.offset_s for epoch in modem.epochs if epoch.has_fix]
    pauses = [after - before for before, after in pairwise(fixes)]
    assert max(pauses) == pytest.approx(9)
    rollover = read_trace(traces / "nmea" / "dev06_gp320fw_week_rollover.log")
    assert rollover.epochs[0].date == date(2019, 4, 6)
    reno = read_trace(traces / "nmea" / "dev03_reno_tahoe_garmin_drive_a.nmea")
    assert {epoch.date for epoch in reno.epochs} == {date(2005, 9, 25), date(2005, 9, 26)}
    rtk = read_trace(traces / "nmea" / "dev02_mtv_f9k_rtk_drive_a.nmea")
    assert {epoch.quality for epoch in rtk.epochs} == {2, 4, 5}
