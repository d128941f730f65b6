"""Whatever answers at gpsd's address: the source survives it, says so once, and comes back."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config import GpsSettings
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox, SourceChanged
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.source import GpsdSource
from tests.agent.test_gpsd import take, tpv
from tests.fakes.gps_ways import wait_until
from tests.fakes.gpsd_script import ScriptedGpsd


@pytest.fixture
def server():
    with ScriptedGpsd() as server:
        yield server


@contextmanager
def source_of(server, silent_after_s):
    inbox = Inbox()
    settings = GpsSettings(port=server.port, silent_after_s=silent_after_s)
    source = GpsdSource(settings, inbox, SystemClock(), CycleMemory(Path("/nowhere")))
    source.start()
    try:
        server.wait_for_client()
        yield inbox
    finally:
        source.stop()


@pytest.fixture
def source(server):
    """The inbox of a source that waits long for a receiver's word."""
    with source_of(server, 60.0) as inbox:
        yield inbox


@pytest.fixture
def impatient(server):
    """The inbox of one that waits for a second."""
    with source_of(server, 1.0) as inbox:
        yield inbox


def flood(server, piece, pause_s=0.0):
    """Send without end until the source hangs up."""
    hung_up = threading.Event()

    def send():
        try:
            while not hung_up.wait(pause_s):
                server.send(piece)
        except OSError:
            hung_up.set()

    thread = threading.Thread(target=send, name="flood", daemon=True)
    thread.start()
    return thread


def comes_back(server, inbox):
    """A sound fix is taken as if nothing had been."""
    server.wait_for_client()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            server.send(tpv(2, speed=10.0))
        except OSError:
            time.sleep(0.1)
            continue
        item = inbox.get(0.3)
        if isinstance(item, FixReceived):
            return item.fix.speed_kmh == 36.0
        assert item is None or item.available, "told lost a second time"
    return False


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"x" * 20_000, id="one line without end"),
        pytest.param(b"\x00\xff\x80garbage\n" * 500, id="binary garbage"),
        pytest.param(b'{"class":"TPV","mode":3,"lat":50.0,\r\n' * 300, id="half JSON"),
        pytest.param(b'{"class":"TPV","mode":3}' * 300, id="JSON that never ends its line"),
        pytest.param(b"[" * 5_000 + b"\n", id="deeply nested"),
        pytest.param(b'{"class":"SKY","satellites":[{}]}\r\n' * 300, id="reports without a word"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 300, id="a web server"),
    ],
)
def test_a_flood_of_what_is_no_fix_is_hung_up_on(server, source, piece):
    thread = flood(server, piece)
    lost = take(source, SourceChanged, 30)
    assert (lost.source, lost.available, lost.reason) == (
        "gps",
        False,
        "what answers there is not gpsd",
    )
    thread.join(20)
    assert not thread.is_alive(), "the source hangs up"
    assert comes_back(server, source)


def test_a_server_that_says_a_byte_now_and_then_is_silent(server, impatient):
    thread = flood(server, b"{", pause_s=0.1)
    assert take(impatient, SourceChanged, 30).reason == "gpsd has no receiver"
    thread.join(20)
    assert comes_back(server, impatient)


def test_reports_with_anything_in_them_do_not_end_the_session(server, source):
    anything = [None, True, -1, 1e308, "", "x" * 3_000, [], {}, [[[]]], {"path": 7}]
    for value in anything:
        for name in ("TPV", "SKY", "DEVICE", "DEVICES", "ERROR", "VERSION", "no such class"):
            keys = ("device", "devices", "path", "mode", "lat", "lon", "time", "satellites", "hdop")
            server.send({"class": name} | dict.fromkeys(keys, value))
    server.send(tpv(3))
    assert take(source, FixReceived).fix.time.second == 3
    assert server.connections == 1


def test_a_server_that_takes_connections_and_says_nothing_is_left_and_tried_again(
    server, impatient
):
    assert "gpsd has no receiver" in take(impatient, SourceChanged, 20).reason
    wait_until(lambda: server.connections >= 3)
    assert impatient.get(0) is None, "told once"
