"""NMEA without a port: sentences, frames in noise, and one fix an epoch, never a mixture."""

import contextlib
import re
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.gps.antenna import BLIND_S, AntennaWatch
from agent.sources.nmea.fields import NmeaError
from agent.sources.nmea.frames import MAX_UBX_PAYLOAD, NOISE, Framer, ubx_message
from agent.sources.nmea.parser import (
    MAX_SENTENCE_BYTES,
    Gga,
    Gll,
    Gsa,
    Gst,
    Gsv,
    Rmc,
    Txt,
    Vtg,
    Zda,
    checksum,
    parse,
)
from agent.sources.nmea.stream import NmeaStream
from agent.sources.nmea.ublox import CFG_RATE, MON_VER, QUESTIONS, UbloxReceiver
from contract import FixMode
from tests.fakes import nmea

NOON = 43_200
FIX, VOID = True, False


def said(body):
    return parse(nmea.sentence(body).encode())


def fixes_of(*sentences, stream=None, pause=True):
    """The fixes as known at last, one an epoch; each sentence comes 10 ms after the one before."""
    stream = stream or NmeaStream("/dev/ttyS0")
    found = []
    for index, sentence in enumerate(sentences):
        data = sentence if isinstance(sentence, bytes) else sentence.encode() + b"\r\n"
        for received in stream.feed(data, index / 100):
            found[len(found) - (not received.is_new) :] = [received.fix]
    last = stream.pause() if pause else None
    if last is not None:
        found[len(found) - (not last.is_new) :] = [last.fix]
    return found


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (
            "GNRMC,120001.50,A,5005.1000,N,00840.9260,W,10.0,90.5,150125,,,A,V",
            Rmc(43_201_500, FIX, 50.085, -8.6821, 18.52, 90.5, date(2025, 1, 15)),
        ),
        ("GPRMC,,V,,,,,,,,,,N", Rmc(None, VOID, None, None, None, None, None)),
        (
            "GPGGA,235960.00,3345.0000,S,15112.0000,E,4,12,0.8,-3.5,M,47.9,M,,",
            Gga(86_400_000, 4, -33.75, 151.2, 12, 0.8, -3.5),
        ),
        (
            "GNGNS,120001.00,5005.1000,N,00840.9260,E,NNFA,09,1.2,42.2,32.0,,,V",
            Gga(43_201_000, 5, 50.085, 8.6821, 9, 1.2, 42.2),
        ),
        ("GNGNS,120001.00,,,,,NN,00,,,,,", Gga(43_201_000, 0, None, None, 0, None, None)),
        ("GPGLL,5005.1,N,00840.926,E,120001,A,A", Gll(43_201_000, FIX, 50.085, 8.6821)),
        ("GPGLL,5005.1,N,00840.926,E,120001,A,S", Gll(43_201_000, VOID, 50.085, 8.6821)),
        ("GPGST,120001.00,15,,,,3.0,4.0,5.0", Gst(43_201_000, 10.0)),
        ("GPZDA,120001.00,15,01,2025,00,00", Zda(43_201_000, date(2025, 1, 15))),
        ("GPZDA,120001.00,00,00,0000,00,00", Zda(43_201_000, None)),
        ("GPGSA,A,2,,13,04,25,,,,,,,,,0NaN,0NaN,", Gsa(2, None)),
        ("GLGSV,3,1,09,65,01,331,35,72,01,292,19", Gsv("GL", 9)),
        ("GPVTG,090.0,T,,M,010.0,N,018.5,K,A", Vtg(18.52, 90.0)),
        ("GPVTG,,T,,M,,N,018.5,K", Vtg(18.5, None)),
        ("GNTXT,01,01,02,ANTSTATUS=OPEN", Txt("ANTSTATUS=OPEN")),
        ("PUBX,00,1", None),
        ("GPRTE,1,1,c,*"[:-1], None),
        ("YXXDR,A,1", None),
        ("GPRMCX,1", None),
    ],
)
def test_a_sentence_is_read_in_the_units_of_the_contract(body, read):
    assert said(body) == read


@pytest.mark.parametrize(
    "body",
    [
        "GPRMC,120001,A,5005.1000,N",
        "GPRMC,120001,A,9005.1000,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,5065.1000,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,5005.1000,,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,5005.1000,N,,,10.0,90.5,150125",
        "GPRMC,120001,A,5005.1000,N,840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,505.1000,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,5005.1000,N,00840.9260,NE,10.0,90.5,150125",
        "GPRMC,120001,A,5005.1e99,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,nan,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,5_005.1,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,250001,A,5005.1000,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,-10001,A,5005.1000,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120061,A,5005.1000,N,00840.9260,E,10.0,90.5,150125",
        "GPRMC,120001,A,5005.1000,N,00840.9260,E,10.0,90.5,310225",
        "GPRMC,120001,A,5005.1000,N,00840.9260,E,10.0,90.5," + "9" * 60,
        "GPRMC,120001,A,5005.1000,N,00840.9260,E,-1,90.5,150125",
        "GPRMC,120001,A,5005.1000,N,00840.9260,E,1e9,90.5,150125",
        "GPGSA,A,4,,,,,,,,,,,,,1,1,1",
        "GPZDA,120001,45,01,2025,00,00",
    ],
)
def test_a_sentence_with_a_field_of_no_sense_is_refused_whole(body):
    with pytest.raises(NmeaError):
        said(body)


@pytest.mark.parametrize(
    "sentence",
    [
        b"",
        b"$",
        b"$GPGLL,5005.1,N,00840.926,E,120001,A,A",
        b"$GPGLL,5005.1,N,00840.926,E,120001,A,A*00",
        b"$GPGLL,5005.1,N,00840.926,E,120001,A,A*+5",
        b"$GP\xffLL,*00",
        b"$GPTXT,01,01,02," + b"x" * MAX_SENTENCE_BYTES + b"*00",
    ],
)
def test_what_has_no_sound_checksum_is_no_sentence(sentence):
    with pytest.raises(NmeaError):
        parse(sentence)


@given(st.binary(max_size=MAX_SENTENCE_BYTES))
def test_the_checksum_is_the_exclusive_or_of_all_bytes(body):
    assert checksum(body) == reduce(lambda value, byte: value ^ byte, body, 0)


BODIES = st.from_regex(
    r"(G[PNLAB])(RMC|GGA|GNS|GLL|GST|ZDA|GSA|GSV|VTG|TXT)(,[ -#%-)+-~]{0,12}){0,20}", fullmatch=True
)


@given(BODIES | st.text(st.characters(max_codepoint=127), max_size=90))
def test_any_sentence_with_a_sound_checksum_is_read_ignored_or_refused(body):
    encoded = body.encode()
    with contextlib.suppress(NmeaError):
        parse(b"$%b*%02X" % (encoded, checksum(encoded)))


@given(st.lists(st.binary(max_size=40) | BODIES.map(nmea.sentence).map(str.encode), max_size=20))
def test_any_bytes_are_survived_and_every_fix_is_one(pieces):
    stream = NmeaStream()
    for index, piece in enumerate(pieces):
        for received in stream.feed(piece + b"\r\n" * (index % 2), float(index)):
            assert -90 <= received.fix.lat <= 90
            assert -180 <= received.fix.lon <= 180
    stream.pause()


@given(st.data())
def test_frames_are_the_same_however_the_bytes_arrive(data):
    message = ubx_message(CFG_RATE, b"$GP\r\n\xb5\x62")
    whole = (
        nmea.drive(2)
        + b"\xb5\x00junk$GPRMC,cut$"
        + nmea.drive(1)
        + message
        + b"\x00\xb5\x62\x01\x07\xff\xff"
        + nmea.drive(1)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    framer = Framer()
    frames = []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        frames += framer.feed(whole[begin:end])
    sound = [frame for frame in frames if frame != NOISE]
    expected = re.findall(rb"\$G[^\r\n$]*\*[0-9A-F]{2}", whole)
    expected.insert(len(nmea.drive(3).splitlines()), message)
    assert sound == expected
    assert NOISE in frames


def test_a_line_that_never_ends_is_given_up_and_costs_no_memory():
    framer = Framer()
    frames = []
    for _ in range(1000):
        frames += framer.feed(b"$" + b"x" * 100)
        frames += framer.feed(b"x" * 600)
    assert set(frames) == {NOISE}
    assert framer.feed(nmea.log([nmea.rmc(NOON)]))[-1] == nmea.rmc(NOON).encode()
    long_noise = ubx_message(CFG_RATE, bytes(MAX_UBX_PAYLOAD + 1))
    assert framer.feed(long_noise + nmea.log([nmea.gga(NOON)]))[-1] == nmea.gga(NOON).encode()


def test_one_epoch_is_one_fix_with_all_that_its_sentences_say():
    (fix,) = fixes_of(
        nmea.rmc(NOON), nmea.gga(NOON), nmea.gsa(), nmea.gsv(),
        nmea.sentence(f"GPGST,{nmea.hhmmss(NOON)},15,,,,0.3,0.4,0.5"),
    )  # fmt: skip
    assert (fix.lat, fix.lon, fix.altitude_m) == (50.085, 8.6821, 112.5)
    assert (fix.speed_kmh, fix.heading, fix.accuracy_m) == (18.52, 90.0, 1.0)
    assert (fix.mode, fix.satellites, fix.hdop) == (FixMode.FIX_3D, 8, 0.9)
    assert fix.time == datetime(2025, 1, 15, 12, tzinfo=UTC)
    assert (fix.received_s, fix.device) == (0.0, "/dev/ttyS0")


def test_without_gst_the_accuracy_comes_from_the_dilution_and_the_kind_of_fix():
    (fix,) = fixes_of(nmea.gga(NOON, hdop=2.0))
    assert fix.accuracy_m == 38.0
    (fix,) = fixes_of(nmea.gga(NOON, hdop=2.0, quality=2))
    assert fix.accuracy_m == 9.5
    (fix,) = fixes_of(nmea.gga(NOON, hdop=99.99))
    assert (fix.accuracy_m, fix.hdop) == (None, None)


def test_a_2d_fix_has_no_altitude():
    (fix,) = fixes_of(nmea.rmc(NOON), nmea.gga(NOON), nmea.gsa(mode=2))
    assert (fix.mode, fix.altitude_m) == (FixMode.FIX_2D, None)
    (fix,) = fixes_of(nmea.rmc(NOON))
    assert fix.mode is FixMode.FIX_2D


@pytest.mark.parametrize(
    "denial",
    [
        nmea.rmc(NOON, valid=False),
        nmea.gga(NOON, quality=0),
        nmea.gga(NOON, quality=7),
        nmea.gga(NOON, quality=8),
        nmea.gsa(mode=1),
        nmea.sentence("GPGLL,5005.1,N,00840.926,E,120000.00,V,N"),
        nmea.sentence("GPGGA,,,,,,0,,,,,,,,"),
        nmea.sentence("GPRMC,,V,,,,,,,,,,N"),
        nmea.sentence("GPRMC,120000.00,A,5005.1,N,00840.926,E,1,1,150125,,,M"),
    ],
)
def test_a_fix_that_one_sentence_denies_is_none(denial):
    sound = [nmea.sentence("GNGLL,5005.1,N,00840.926,E,120000.00,A,A"), nmea.gsv()]
    assert fixes_of(*sound, denial) == []
    assert len(fixes_of(*sound)) == 1


def test_the_next_second_takes_nothing_from_the_one_before():
    first, second = fixes_of(
        nmea.rmc(NOON), nmea.gga(NOON), nmea.gsa(), nmea.gga(NOON + 1, altitude=200.0)
    )
    assert first.speed_kmh == 18.52
    assert (second.speed_kmh, second.heading, second.altitude_m) == (None, None, 200.0)


def test_what_has_no_time_is_not_taken_after_a_line_that_was_lost():
    """The lost line may have begun another second, so VTG and GSA may be of that one."""
    vtg = nmea.sentence("GPVTG,10.0,T,,M,50.0,N,92.6,K,A")
    for lost in (nmea.rmc(NOON + 1)[:-2] + "00", "PRMC,120001", "\x00\xff", "$GPRMC,12000"):
        first, third = fixes_of(
            nmea.gga(NOON), lost, vtg, nmea.gsa(mode=2), nmea.gga(NOON + 2), nmea.gsv()
        )
        assert (first.speed_kmh, first.mode) == (None, FixMode.FIX_3D)
        assert third.speed_kmh is None
    (fix,) = fixes_of(nmea.gga(NOON), nmea.gsv()[:-2] + "00", vtg)
    assert fix.speed_kmh is None, (
        "a GSV may have lost its end and all up to the end of a later line"
    )


def test_what_has_no_time_is_not_taken_after_a_pause_of_the_line():
    stream = NmeaStream()
    first = fixes_of(nmea.gga(NOON), stream=stream)
    late = fixes_of(
        nmea.sentence("GPVTG,10.0,T,,M,50.0,N,92.6,K,A"), nmea.gga(NOON + 1), stream=stream
    )
    assert [fix.speed_kmh for fix in (*first, *late)] == [None, None]


def test_what_comes_after_a_pause_with_the_same_time_completes_the_fix():
    stream = NmeaStream()
    list(stream.feed(nmea.log([nmea.gga(NOON)]), 7.0))
    first = stream.pause()
    list(stream.feed(nmea.log([nmea.rmc(NOON)]), 7.2))
    rest = stream.pause()
    assert (first.is_new, rest.is_new) == (True, False)
    assert rest.fix.received_s == first.fix.received_s == 7.0
    assert rest.fix.speed_kmh == 18.52
    assert stream.pause() is None
    assert stream.fixes == 1


def test_a_vtg_that_comes_twice_is_of_an_unknown_second():
    vtg = nmea.sentence("GPVTG,10.0,T,,M,50.0,N,92.6,K,A")
    first, second = fixes_of(nmea.gga(NOON), vtg, vtg, nmea.gsa(mode=2), nmea.gga(NOON + 1))
    assert (first.speed_kmh, first.mode) == (92.6, FixMode.FIX_3D)
    assert second.speed_kmh is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["RMC", "GGA", "VTG", "GSA", "lost", "pause"]),
        ),
        max_size=40,
    )
)
def test_no_fix_ever_holds_a_value_of_another_second(steps):
    """Each value carries the second that it was measured in; VTG and GSA tell it to nobody."""
    stream, received, now = NmeaStream(), [], NOON
    for index, (ahead, kind) in enumerate(steps):
        moved, now = ahead > 0, now + ahead
        value = now - NOON
        knots = f"{value + 1}.0"
        if moved and kind in {"VTG", "GSA"}:
            # a receiver says a new second first with its time; else the line has lost it
            received += stream.feed(b"$garbled\n", float(index))
        match kind:
            case "RMC":
                line = nmea.rmc(now, knots=value + 1, track=value)
            case "GGA":
                line = nmea.gga(now, altitude=value, hdop=value + 1)
            case "VTG":
                line = nmea.sentence(f"GPVTG,{value}.0,T,,M,{knots},N,,K,A")
            case "GSA":
                line = nmea.sentence(f"GPGSA,A,3,02,,,,,,,,,,,,1.0,{knots},1.0")
            case "lost":
                line = "$GPRMC,garbled"
            case "pause":
                received.append(stream.pause())
                continue
        received += stream.feed(line.encode() + b"\r\n", float(index))
    received.append(stream.pause())
    for item in filter(None, received):
        second = item.fix.time
        values = {
            item.fix.altitude_m,
            item.fix.heading,
            item.fix.hdop and item.fix.hdop - 1,
            item.fix.speed_kmh and round(item.fix.speed_kmh / 1.852, 3) - 1,
        }
        assert len(values - {None}) <= 1
        if second is not None:
            assert values <= {None, float((second - datetime(2025, 1, 15, 12, tzinfo=UTC)).seconds)}


def damaged(line, chance):
    """A line as a bad cable, a full buffer or a second writer leaves it; no two faults near."""
    pieces, at = [], 0
    while at < len(line):
        step = chance.randrange(200, 1_500)
        pieces.append(line[at : at + step])
        at += step
        match chance.randrange(6):
            case 0:
                pieces.append(bytes([line[at % len(line)] ^ chance.randrange(1, 256)]))
                at += 1
            case 1:
                at += 1
            case 2:
                # from within one line to within another
                at = max(at, line.find(b"\n", at) + chance.randrange(1, 60))
            case 3:
                pieces.append(chance.randbytes(chance.randrange(1, 90)))
            case 4:
                pieces.append(ubx_message(b"\x01\x07", chance.randbytes(92)))
            case 5:
                pieces.append(line[max(0, at - 300) : at])
    return b"".join(pieces)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_line_gives_right_fixes_or_none(seed):
    """Each second has values of its own, so that what strays to another one is seen."""
    lines = []
    for second in range(300):
        values = {"minutes": 5.1 + second / 1000, "knots": second / 10, "track": second % 360}
        where = {"minutes": values["minutes"], "altitude": 100 + second}
        vtg = f"GPVTG,{values['track']:.1f},T,,M,{values['knots']:.1f},N,,K,A"
        lines += [nmea.gga(NOON + second, **where), nmea.sentence(vtg), nmea.gsa(), nmea.gsv()]
        if second % 3 == 0:
            lines.append(nmea.rmc(NOON + second, **values))
    sound = nmea.log(lines)
    chance = Random(seed)
    stream, line = NmeaStream(), damaged(sound, chance)
    received, at = [], 0
    while at < len(line):
        step = chance.randrange(1, 400)
        received += stream.feed(line[at : at + step], at / 300)
        at += step
        if chance.random() < 0.1:
            received.append(stream.pause())
    fixes = [item.fix for item in received if item is not None]
    assert len({fix.lat for fix in fixes}) > 150, "most seconds are whole"
    begin = datetime(2025, 1, 15, 12, tzinfo=UTC)
    for fix in fixes:
        second = round((fix.lat - 50) * 60_000) - 5_100
        assert fix.lat == pytest.approx(50 + (5.1 + second / 1000) / 60, abs=1e-8)
        assert fix.altitude_m in {None, 100.0 + second}
        assert fix.time in {None, begin + timedelta(seconds=second)}
        assert fix.heading in {None, second % 360}
        assert fix.speed_kmh is None or fix.speed_kmh == pytest.approx(second * 0.1852, abs=1e-3)


def test_the_date_is_carried_on_over_midnight_to_epochs_without_one():
    late = 86_398
    fixes = fixes_of(
        nmea.rmc(late), nmea.gga(late + 1), nmea.gga(0), nmea.rmc(1, date="160125"), nmea.gga(2)
    )
    begin = datetime(2025, 1, 15, 23, 59, 58, tzinfo=UTC)
    assert [fix.time - begin for fix in fixes] == [timedelta(seconds=count) for count in range(5)]


def test_zda_tells_the_date_too_and_is_no_epoch_of_its_own():
    zda = nmea.sentence("GPZDA,120000.10,15,01,2025,00,00")
    first, second = fixes_of(zda, nmea.gga(NOON), zda, nmea.gga(NOON + 1))
    assert first.time == datetime(2025, 1, 15, 12, tzinfo=UTC)
    assert second.time - first.time == timedelta(seconds=1)


def test_a_receiver_that_never_says_the_date_gives_fixes_without_a_time():
    fixes = fixes_of(*(nmea.gga(NOON + count) for count in range(3)))
    assert [fix.time for fix in fixes] == [None] * 3


def test_the_date_of_a_sentence_without_a_fix_is_not_believed():
    (fix,) = fixes_of(nmea.rmc(NOON, valid=False, date="060180"), nmea.gga(NOON + 1))
    assert fix.time is None


def test_a_stale_fix_is_told_once():
    assert len(fixes_of(*nmea.epoch(NOON) * 5)) == 1


def test_satellites_in_view_are_those_of_all_systems():
    stream = NmeaStream()
    fixes_of(nmea.gsv("GP"), nmea.gsv("GL"), nmea.gsv("GL"), "junk", stream=stream)
    account = stream.account()
    assert (account["satellites_in_view"], account["sentences"], account["noise"]) == (6, 3, 1)


@pytest.mark.parametrize(
    ("remark", "read"),
    [("ANTSTATUS=OPEN", "OPEN"), ("ANTENNA SHORT", "SHORT"), ("ANTSTATUS=INIT", None)],
)
def test_what_the_receiver_says_of_its_antenna_is_kept(remark, read):
    stream = NmeaStream()
    fixes_of(nmea.sentence(f"GPTXT,01,01,02,{remark}"), stream=stream)
    assert stream.antenna == read


def test_a_short_circuit_is_a_fault_at_once_an_open_antenna_only_without_fixes():
    watch = AntennaWatch(0.0)
    assert not watch.observe(None, 100.0, has_fix=False)
    assert watch.observe("SHORT", 101.0, has_fix=True)
    assert "short circuit" in watch.fault
    assert watch.observe("OK", 102.0, has_fix=True)
    assert watch.fault is None
    assert not watch.observe("OPEN", 102.0 + BLIND_S / 2, has_fix=False)
    assert watch.observe("OPEN", 102.0 + BLIND_S, has_fix=False)
    assert "no antenna" in watch.fault
    assert not watch.observe("OPEN", 200.0, has_fix=False)
    assert watch.observe("OPEN", 201.0, has_fix=True)
    assert watch.fault is None


def rate_answer(cycle_ms):
    return ubx_message(CFG_RATE, cycle_ms.to_bytes(2, "little") + b"\x01\x00\x01\x00")


def test_a_ublox_gets_the_cycle_of_a_trip_and_its_own_back():
    receiver = UbloxReceiver()
    assert receiver.command(0.2, 0.01) == b"", "it has not answered"
    receiver.take(ubx_message(MON_VER, b"ROM SPG 5.10".ljust(40, b"\0")))
    receiver.take(rate_answer(1000))
    assert receiver.version == "ROM SPG 5.10"
    assert receiver.command(None, 0.01) == b""
    assert receiver.command(0.2, 0.01) == rate_answer(200)
    assert receiver.command(0.2, 0.01) == b""
    receiver.take(rate_answer(200))
    assert receiver.command(None, 0.01) == rate_answer(1000)


def test_a_ublox_is_not_asked_for_more_than_its_line_carries():
    receiver = UbloxReceiver()
    receiver.take(ubx_message(MON_VER, b"SPG 4.04"))
    receiver.take(rate_answer(1000))
    assert receiver.command(0.2, 0.35) == rate_answer(450)
    assert receiver.command(0.2, 0.9) == rate_answer(1000), "slower than its own it never gets"


def test_a_ublox_that_refuses_is_not_asked_again():
    receiver = UbloxReceiver()
    receiver.take(ubx_message(MON_VER, b"SPG 4.04"))
    receiver.take(rate_answer(1000))
    assert receiver.command(0.2, 0.01)
    receiver.take(ubx_message(b"\x05\x00", CFG_RATE))
    assert receiver.command(None, 0.01) == b""


def test_the_questions_to_a_ublox_are_polls():
    assert bytes.fromhex("b5620a0400000e34 b562060800000e30") == QUESTIONS
