import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ServerError
from simulator.gpsd_commands import MAX_COMMAND_BYTES, BadCommand, Command, CommandReader
from simulator.gpsd_server import Begin, GpsdServer, Stamp
from simulator.schedule import Schedule
from simulator.trace import read_trace
from tests.fakes import nmea
from tests.fakes.gpsd_client import GpsdClient

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def trace(tmp_path):
    def make(lines=None):
        path = tmp_path / "drive.nmea"
        path.write_bytes(nmea.drive(20) if lines is None else nmea.log(lines))
        return read_trace(path)

    return make


@pytest.fixture
def serve(trace):
    started = []

    def make(lines=None, **options):
        server = GpsdServer(trace(lines), **{"speed": 50.0} | options)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


def test_a_client_is_greeted_with_the_version(serve):
    with GpsdClient(serve().port) as client:
        version = client.read()
    assert version["class"] == "VERSION"
    assert (version["proto_major"], version["proto_minor"]) == (3, 14)


def test_watch_is_answered_by_devices_and_policy_and_then_the_stream_runs(serve):
    server = serve()
    with GpsdClient(server.port) as client:
        client.say('?WATCH={"enable":true,"json":true}\n')
        names = [client.read()["class"] for _ in range(5)]
    assert names == ["VERSION", "DEVICES", "WATCH", "TPV", "SKY"]


def test_a_tpv_says_what_the_log_says_in_gpsds_units(serve):
    server = serve(stamp=Stamp.ORIGINAL)
    with GpsdClient(server.port) as client:
        client.watch()
        tpv = client.until("TPV")
        sky = client.until("SKY")
    assert tpv == {
        "class": "TPV",
        "device": server.path,
        "mode": 3,
        "time": "2025-01-15T12:00:00.000Z",
        "ept": 0.005,
        "lat": 50.085,
        "lon": 8.6821,
        "altHAE": 160.4,
        "altMSL": 112.5,
        "alt": 112.5,
        "geoidSep": 47.9,
        "track": 90.0,
        "speed": 5.144,
        "epx": 9.546,
        "epy": 9.546,
        "eph": 17.1,
        "epv": 34.5,
    }
    assert (sky["hdop"], sky["nSat"], sky["uSat"]) == (0.9, 3, 2)
    assert sky["satellites"][0] == {
        "PRN": 2,
        "gnssid": 0,
        "svid": 2,
        "el": 40,
        "az": 110,
        "ss": 38,
        "used": True,
    }


def test_error_estimates_come_from_gst_where_the_log_has_it(serve):
    gst = nmea.sentence("GPGST,000010.00,1.0,2.0,1.0,90.0,3.0,4.0,5.0")
    server = serve([nmea.rmc(10), nmea.gga(10), gst])
    with GpsdClient(server.port) as client:
        client.watch()
        tpv = client.until("TPV")
    assert (tpv["epy"], tpv["epx"], tpv["eph"], tpv["epv"]) == (5.88, 7.84, 10.0, 9.8)


def test_an_epoch_without_a_fix_is_mode_1_without_a_position(serve):
    server = serve([*nmea.epoch(10), nmea.rmc(11, valid=False), nmea.gga(11, quality=0)])
    with GpsdClient(server.port) as client:
        client.watch()
        fix, none = client.tpvs(2)
        assert server.finished.wait(5)
    assert fix["mode"] == 3
    assert none["mode"] == 1
    assert not {"lat", "lon", "speed", "eph"} & none.keys()
    assert (server.epochs_replayed, server.fixes_replayed) == (2, 1)


def test_present_stamps_are_the_moments_of_sending(serve):
    ticks = iter(NOW + timedelta(seconds=index) for index in range(100))
    server = serve(wall_clock=lambda: next(ticks))
    with GpsdClient(server.port) as client:
        client.watch()
        times = [tpv["time"] for tpv in client.tpvs(3)]
    assert times == [
        f"2026-03-01T12:00:0{second}.000Z" for second in (2, 3, 4)
    ]  # 0 and 1: the start, the begin


def test_a_log_without_dates_has_times_only_when_stamped_anew(serve):
    lines = [nmea.gga(10), nmea.gga(11)]
    for stamp, has_time in ((Stamp.ORIGINAL, False), (Stamp.PRESENT, True)):
        with GpsdClient(serve(lines, stamp=stamp).port) as client:
            client.watch()
            tpv = client.until("TPV")
        assert ("time" in tpv) is has_time
        assert tpv["mode"] == 3
        assert "speed" not in tpv


def test_the_replay_waits_for_the_first_watcher_so_that_it_misses_nothing(serve):
    server = serve()
    with GpsdClient(server.port) as client:
        client.say("?POLL;")
        assert client.until("POLL")["tpv"][0]["mode"] == 0
        assert server.epochs_replayed == 0
        client.watch()
        assert client.until("TPV")["lat"] == pytest.approx(server.trace.epochs[0].lat)


def test_the_replay_can_begin_at_once_and_nobody_need_listen(serve):
    server = serve(begin=Begin.AT_ONCE)
    assert server.finished.wait(10)
    assert server.fixes_replayed == 20
    assert server.progress == 1.0


def test_several_clients_get_the_same_stream(serve):
    server = serve(loop=True)
    with GpsdClient(server.port) as first, GpsdClient(server.port) as second:
        first.watch()
        second.watch()
        seen_by_second = second.tpvs(20)
        seen_by_first = []
        while seen_by_second[-1] not in seen_by_first:
            seen_by_first.append(first.until("TPV"))
    expected = [round(epoch.lat, 9) for epoch in server.trace.epochs]
    assert [tpv["lat"] for tpv in seen_by_first[:20]] == expected
    assert seen_by_first[-20:] == seen_by_second


def test_poll_gives_the_newest_reports_also_after_the_end(serve):
    server = serve(begin=Begin.AT_ONCE)
    assert server.finished.wait(10)
    with GpsdClient(server.port) as client:
        client.say("?POLL;\n")
        poll = client.until("POLL")
    assert poll["active"] == 1
    assert poll["tpv"][-1]["lat"] == pytest.approx(server.trace.epochs[-1].lat)
    assert poll["sky"][-1]["uSat"] == 2


def test_the_other_requests_are_answered(serve):
    server = serve()
    with GpsdClient(server.port) as client:
        client.read()
        client.say('?VERSION;?DEVICES;\n?DEVICE;?DEVICE={"cycle":0.2}')
        version, devices, device, changed = [client.read() for _ in range(4)]
    assert version["class"] == "VERSION"
    assert devices["devices"] == [device]
    assert device["path"] == server.path
    assert changed["cycle"] == 1.0, "a recording has one rate, and says so"


def test_watch_can_be_asked_for_and_ended(serve):
    server = serve(loop=True)
    with GpsdClient(server.port) as client:
        client.say("?WATCH;\n")
        assert client.until("WATCH")["enable"] is False
        client.watch()
        client.until("TPV")
        client.say('?WATCH={"enable":false}\n')
        while client.until("WATCH")["enable"]:
            pass
        client.say("?VERSION;\n")
        assert client.read()["class"] == "VERSION"


def test_watch_without_json_streams_nothing(serve):
    server = serve(loop=True)
    with GpsdClient(server.port) as client:
        client.say('?WATCH={"enable":true}\n')
        assert client.until("WATCH")["json"] is False
        while server.epochs_replayed < 3:
            server.finished.wait(0.01)
        client.say("?VERSION;\n")
        assert client.read()["class"] == "VERSION"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("?HELLO;", "Unrecognized request"),
        ("hello\n", "Unrecognized request"),
        ('?WATCH={"enable":1};', "Invalid WATCH"),
        ('?WATCH={"enable":true,}\n', "Invalid WATCH"),
        ("?WATCH=[]\n", "Invalid WATCH"),
        ('?WATCH={"device":"/dev/ttyUSB7"};', "no such device"),
        ("?" + "[" * 5000, "longer than"),
        ("?WATCH=" + '{"a":' * 700 + "\n", "Invalid WATCH"),
    ],
)
def test_a_bad_request_gets_an_error_and_the_connection_goes_on(serve, request_, message):
    with GpsdClient(serve().port) as client:
        client.say(request_)
        assert message in client.until("ERROR")["message"]
        client.say("\n?VERSION;\n")
        assert client.until("VERSION")


def test_a_client_that_does_not_read_is_dropped_and_the_others_go_on(serve):
    server = serve(speed=1000.0, loop=True)
    with GpsdClient(server.port) as reader, GpsdClient(server.port, receive_buffer=4096) as sleeper:
        reader.watch()
        sleeper.say('?WATCH={"enable":true,"json":true}\n')
        while not server.clients_dropped:
            reader.until("TPV")
        assert server.clients_dropped == 1
        assert reader.tpvs(5)


def test_a_client_that_goes_away_disturbs_nobody(serve):
    server = serve(loop=True)
    with GpsdClient(server.port) as stays:
        stays.watch()
        for _ in range(5):
            with GpsdClient(server.port) as goes:
                goes.watch()
                goes.until("TPV")
        assert len(stays.tpvs(5)) == 5
    assert server.clients_dropped == 0


def test_a_loop_begins_again(serve):
    server = serve([*nmea.epoch(10), *nmea.epoch(11, minutes=5.2)], loop=True)
    with GpsdClient(server.port) as client:
        client.watch()
        lats = [tpv["lat"] for tpv in client.tpvs(5)]
    assert lats[0] == lats[2] == lats[4]
    assert lats[0] != lats[1] == lats[3]
    assert not server.finished.is_set()
    assert 0 < server.progress <= 1


def test_a_port_in_use_is_told_with_a_hint(serve):
    port = serve().port
    with pytest.raises(ServerError, match=str(port)) as caught:
        serve(port=port)
    assert "--gpsd-port" in caught.value.hint


def test_stop_is_safe_before_start_and_twice_and_ends_the_thread(trace):
    GpsdServer(trace()).stop()
    server = GpsdServer(trace())
    server.start()
    with GpsdClient(server.port) as client:
        client.watch()
        server.stop()
        server.stop()
    assert "sim-gpsd" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(ConnectionRefusedError):
        GpsdClient(server.port)


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(trace, speed):
    with pytest.raises(ValueError, match="speed"):
        GpsdServer(trace(), speed=speed)


def test_the_schedule_keeps_the_logs_pace_divided_by_the_speed(trace):
    epochs = trace([line for s in (10, 11, 71) for line in nmea.epoch(s)]).epochs
    plain = Schedule(epochs, speed=10.0, interval_s=1.0)
    assert [plain.due_s(index) for index in range(4)] == [0, 0.1, 6.1, None]
    assert plain.duration_s == 6.1
    short = Schedule(epochs, speed=10.0, interval_s=1.0, max_gap_s=5.0, loop=True)
    assert [short.due_s(index) for index in range(4)] == [0, 0.1, 0.6, 0.7]


PIECES = st.lists(
    st.one_of(
        st.sampled_from(["?POLL;", "?WATCH={", '"enable":true', "}", ";", "\n", "?", "=", "{}"]),
        st.text(max_size=8),
    ),
    max_size=30,
).map(lambda pieces: "".join(pieces).encode())


@given(PIECES, st.integers(1, 7))
def test_any_bytes_in_any_packets_are_read_alike_and_bounded(data, size):
    at_once = CommandReader()
    in_packets = CommandReader()
    whole = at_once.feed(data)
    parts = []
    for start in range(0, len(data), size):
        parts += in_packets.feed(data[start : start + size])
    assert [one for one in parts if isinstance(one, Command)] == [
        one for one in whole if isinstance(one, Command)
    ]
    assert all(isinstance(one, Command | BadCommand) for one in whole)
    assert len(at_once._text) <= MAX_COMMAND_BYTES


def test_a_semicolon_inside_an_argument_does_not_end_it():
    command = {"device": "a;b", "enable": True}
    assert CommandReader().feed(b"?WATCH=" + json.dumps(command).encode()) == [
        Command("WATCH", command)
    ]
