import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.epoch import Gnss
from simulator.errors import NmeaError
from simulator.nmea import Gga, Gsa, Gst, Gsv, Ignored, Rmc, Vtg, checksum, parse_sentence
from tests.fakes.nmea import sentence


def test_rmc_gives_time_date_position_speed_and_track_in_metric_units():
    rmc = parse_sentence(
        "$GPRMC,124022.00,A,4810.8509,N,01133.9095,E,008.5,171.1,010409,002.0,E,A*3B"
    )
    assert isinstance(rmc, Rmc)
    assert rmc.time_of_day_ms == (12 * 3600 + 40 * 60 + 22) * 1000
    assert rmc.date == date(2009, 4, 1)
    assert rmc.lat == pytest.approx(48 + 10.8509 / 60, abs=1e-9)
    assert rmc.lon == pytest.approx(11 + 33.9095 / 60, abs=1e-9)
    assert rmc.speed_mps == pytest.approx(8.5 * 1852 / 3600)
    assert rmc.track_deg == 171.1


def test_south_and_west_are_negative():
    rmc = parse_sentence(sentence("GNRMC,000000,A,3352.5000,S,07038.2500,W,0.0,,010124,,"))
    assert rmc.lat == pytest.approx(-33.875)
    assert rmc.lon == pytest.approx(-(70 + 38.25 / 60))


def test_gga_gives_quality_altitude_and_dilution():
    gga = parse_sentence(
        "$GNGGA,021417.00,3725.58362,N,12205.61915,W,5,12,0.76,4.4,M,-30.0,M,0.0,2000*52"
    )
    assert isinstance(gga, Gga)
    assert (gga.quality, gga.satellites_used, gga.hdop) == (5, 12, 0.76)
    assert (gga.altitude_msl_m, gga.geoid_separation_m) == (4.4, -30.0)


def test_gsa_names_the_satellites_by_system():
    gsa = parse_sentence("$GNGSA,A,3,80,83,73,84,82,,,,,,,,1.48,0.76,1.27,2*0B")
    assert isinstance(gsa, Gsa)
    assert gsa.mode == 3
    assert gsa.used[0] == (Gnss.GLONASS, 16)
    assert (gsa.pdop, gsa.hdop, gsa.vdop) == (1.48, 0.76, 1.27)


def test_gsv_leaves_out_a_satellite_without_a_number():
    gsv = parse_sentence("$GLGSV,3,3,09,,,,53,1*77")
    assert gsv == Gsv("GL", ())


def test_gsv_with_a_signal_id_at_its_end_has_no_extra_satellite():
    gsv = parse_sentence("$GPGSV,3,3,10,28,33,080,42,30,08,146,39,1*63")
    assert [(one.svid, one.elevation_deg, one.snr_dbhz) for one in gsv.satellites] == [
        (28, 33, 42),
        (30, 8, 39),
    ]


def test_vtg_takes_knots_and_falls_back_to_kilometres_per_hour():
    assert parse_sentence(sentence("GPVTG,65.1,T,52.1,M,10.0,N,18.5,K,A")) == Vtg(
        "GP", 65.1, pytest.approx(5.1444, abs=1e-3)
    )
    assert parse_sentence(sentence("GPVTG,,T,,M,,N,36.0,K,A")).speed_mps == pytest.approx(10.0)


def test_gst_gives_deviations_in_metres():
    gst = parse_sentence(sentence("GPGST,172814.0,0.006,0.023,0.020,273.6,0.023,0.020,0.031"))
    assert isinstance(gst, Gst)
    assert (gst.lat_sigma_m, gst.lon_sigma_m, gst.altitude_sigma_m) == (0.023, 0.020, 0.031)


def test_a_dilution_that_the_receiver_could_not_compute_is_absent():
    gga = parse_sentence(
        "$GPGGA,130849.00,4810.6734,N,01134.4500,E,1,03,0NaN,00524.3,M,0046.3,M,,*1B"
    )
    assert gga.hdop is None
    assert gga.quality == 1


@pytest.mark.parametrize(
    "text",
    ["$GPGLL,4808.9977,N,01135.0800,E,235723.02,A,A*63", "$PGRME,2.3,M,3.3,M,4.0,M*2B"],
)
def test_other_sentences_are_ignored_by_name(text):
    assert parse_sentence(text) == Ignored(text[1:6])


def test_a_vendor_sentence_without_checksum_is_tolerated():
    assert parse_sentence("$PMTK001,314,3") == Ignored("PMTK001")


def test_an_unknown_talker_is_ignored():
    assert parse_sentence(sentence("QZGSV,1,1,01,02,40,110,38")) == Ignored("QZGSV")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("GPRMC,124022.00,A,9110.8509,N,01133.9095,E,8.5,171.1,010409,,", "not on the Earth"),
        ("GPRMC,124022.00,A,4860.0000,N,01133.9095,E,8.5,171.1,010409,,", "not on the Earth"),
        ("GPRMC,124022.00,A,4810.8509,X,01133.9095,E,8.5,171.1,010409,,", "degrees and minutes"),
        ("GPRMC,124022.00,A,4810.8509,,01133.9095,E,8.5,171.1,010409,,", "degrees and minutes"),
        ("GPRMC,124022.00,A,,,,,8.5,171.1,010409,,", "gives no position"),
        ("GPRMC,246022.00,A,4810.8509,N,01133.9095,E,8.5,171.1,010409,,", "does not exist"),
        ("GPRMC,124022.00,A,4810.8509,N,01133.9095,E,8.5,171.1,310299,,", "does not exist"),
        ("GPRMC,124022.00,A,4810.8509,N,01133.9095,E,fast,171.1,010409,,", "not a number"),
        ("GPRMC,124022.00,A,4810.8509,N,01133.9095,E,8.5,361.0,010409,,", "not between"),
        ("GPRMC,124022.00,A", "fields"),
        ("GPGGA,124022.00,,,,,1,08,0.9,112.5,M,47.9,M,,", "gives no position"),
        ("GPGSA,A,4,02,05,,,,,,,,,,,1.8,0.9,1.5", "not between"),
    ],
)
def test_a_sound_checksum_does_not_save_an_impossible_field(body, reason):
    with pytest.raises(NmeaError, match=reason):
        parse_sentence(sentence(body))


@pytest.mark.parametrize(
    "text",
    [
        "$GPRMC,124022.00,A,4810.8509,N,01133.9095,E,008.5,171.1,010409,002.0,E,A*3C",
        "$GPRMC,124022.00,A,4810.8509,N,01133.9095,E,008.5,171.1,010409,002.0,E,A",
        "$GPRMC,124022.00,A,4810.8509,N,01133.9095,E,008.5,171.1,010409,002.0,E,A*3",
        "$",
        "",
    ],
)
def test_without_the_right_checksum_there_is_no_sentence(text):
    with pytest.raises(NmeaError):
        parse_sentence(text)


ADDRESSES = st.sampled_from(["GPRMC", "GNGGA", "GPGSA", "GLGSV", "GNVTG", "GPGST", "GPGLL", "PQ"])
FIELDS = st.lists(
    st.one_of(
        st.text(st.characters(max_codepoint=255), max_size=12),
        st.sampled_from(["", "A", "V", "N", "W", "4810.8509", "01133.9095", "124022.00", "010409"]),
        st.floats(allow_nan=True).map(str),
        st.integers(-999, 99_999_999).map(str),
    ),
    max_size=24,
)


def _numbers(parsed):
    for name in getattr(type(parsed), "__slots__", ()):
        value = getattr(parsed, name)
        if isinstance(value, float):
            yield value


@given(ADDRESSES, FIELDS)
def test_any_fields_give_a_sentence_of_finite_numbers_or_the_documented_error(address, fields):
    body = ",".join([address, *fields])
    try:
        parsed = parse_sentence(f"${body}*{checksum(body):02X}")
    except NmeaError:
        return
    assert all(math.isfinite(value) for value in _numbers(parsed))
    assert -90 <= (getattr(parsed, "lat", None) or 0) <= 90
    assert -180 <= (getattr(parsed, "lon", None) or 0) <= 180


@given(st.text(max_size=120))
def test_any_text_gives_a_sentence_or_the_documented_error(text):
    try:
        parse_sentence(text)
    except NmeaError:
        pass
    else:
        assert text[0] in "$!"


@given(st.integers(0, 89), st.floats(0, 59.9999), st.integers(0, 179), st.floats(0, 59.9999))
def test_positions_survive_the_round_trip_to_a_tenth_of_a_microdegree(
    lat_deg, lat_min, lon_deg, lon_min
):
    where = f"{lat_deg:02d}{lat_min:08.5f},S,{lon_deg:03d}{lon_min:08.5f},E"
    rmc = parse_sentence(sentence(f"GPRMC,120000,A,{where},0.0,0.0,150125,,"))
    assert rmc.lat == pytest.approx(-(lat_deg + lat_min / 60), abs=1e-7)
    assert rmc.lon == pytest.approx(lon_deg + lon_min / 60, abs=1e-7)
