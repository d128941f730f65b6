"""The real gpsd and all that happens to it, seen in the agent's samples and events."""

import contextlib
import itertools
import logging
import os
import tempfile
import threading
import tty
from pathlib import Path
from unittest.mock import patch

import pytest

from agent.config import GpsSettings
from agent.sources.gps.own_cycle import CYCLE_FILE, CycleMemory
from agent.sources.gpsd.source import GpsdSource
from contract import FixMode
from tests.conftest import program
from tests.fakes import nmea
from tests.fakes.gps_ways import wait_until
from tests.fakes.gpsd_script import RealGpsd
from tests.fakes.real_gpsd import TcpFedGpsd
from tests.fakes.running_engine import RunningEngine
from tests.fakes.ublox import UbloxReceiver

pytestmark = pytest.mark.needs("gpsd")

RAISED, CLEARED = "fault_raised", "fault_cleared"


class Feeder:
    """A receiver that drives north, ten epochs a second, until it is told to be silent."""

    def __init__(self, write):
        self._write = write
        self._silent = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self.extra = ()
        """Further sentences in each epoch."""

    def _run(self):
        for second in itertools.count(43_200):
            if self._ended.wait(0.1):
                return
            if not self._silent.is_set():
                lines = nmea.epoch(second, minutes=5 + second % 3_600 / 10_000)
                # unplugged or restarted meanwhile
                with contextlib.suppress(OSError):
                    self._write(nmea.log([*lines, *self.extra]))

    def silence(self):
        self._silent.set()

    def speak(self):
        self._silent.clear()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(10)


@pytest.fixture
def rig(tmp_path):
    with RunningEngine(tmp_path) as rig:
        yield rig


@contextlib.contextmanager
def source_of(rig, port, memory=None, **settings):
    memory = memory or CycleMemory(Path("/nowhere"))
    source = GpsdSource(GpsSettings(port=port, **settings), rig.inbox, rig.clock, memory)
    source.start()
    try:
        yield source
    finally:
        source.stop()


def lost_and_found(rig, lose, find, cause):
    """A loss is one event, the samples go on without a position; the return is one event."""
    wait_until(rig.has_position)
    lose()
    wait_until(lambda: rig.faults() == [(RAISED, "source:gps", cause)])
    wait_until(lambda: not rig.has_position())
    before = len(rig.recorder.samples)
    wait_until(lambda: len(rig.recorder.samples) > before + 3)
    assert rig.newest().location is None, "the samples go on and say what is absent"
    find()
    wait_until(rig.has_position)
    assert rig.faults() == [(RAISED, "source:gps", cause), (CLEARED, "source:gps", None)]


def test_samples_carry_what_the_receiver_says_of_its_fix(rig, free_port):
    with (
        TcpFedGpsd(free_port()) as gpsd,
        source_of(rig, gpsd.port),
        Feeder(gpsd.feed),
    ):
        wait_until(lambda: rig.has_position() and rig.newest().location.satellites is not None)
        location = rig.newest().location
        assert (location.fix_mode, location.satellites, location.hdop) == (FixMode.FIX_3D, 2, 0.9)
        assert location.accuracy == pytest.approx(0.9 * 19, abs=0.1)
        assert location.altitude == 112.5
        assert rig.faults() == []


def test_gpsd_restarted_is_told_once_and_recovers_by_itself(rig, free_port, caplog):
    caplog.set_level(logging.INFO, "agent.sources")
    with (
        RealGpsd(program("gpsd"), free_port()) as gpsd,
        source_of(rig, gpsd.port),
        Feeder(gpsd.feed),
    ):
        lost_and_found(rig, gpsd.stop, gpsd.start, "unreachable")
    told = [one.getMessage() for one in caplog.records if one.name == "agent.sources.gpsd.source"]
    what = f"GPS through gpsd at 127.0.0.1:{gpsd.port}"
    assert told == [f"{what} lost: gpsd closed the connection", f"{what} recovered"]


def test_a_receiver_is_unplugged_and_comes_back_at_the_same_path(rig, free_port):
    with (
        tempfile.TemporaryDirectory() as folder,
        PluggedReceiver(Path(folder) / "receiver") as receiver,
        RealGpsd(
            program("gpsd"),
            free_port(),
            device=receiver.path,
            control=Path(folder) / "control",
        ) as gpsd,
        source_of(rig, gpsd.port),
        Feeder(receiver.write),
    ):

        def unplug():
            receiver.unplug()
            gpsd.hotplug("-")

        def plug():
            receiver.plug()
            gpsd.hotplug("+")

        lost_and_found(rig, unplug, plug, "removed")


def test_a_receiver_that_falls_silent_is_told_and_its_return_too(rig, free_port):
    with (
        TcpFedGpsd(free_port()) as gpsd,
        source_of(rig, gpsd.port, silent_after_s=3.0),
        Feeder(gpsd.feed) as receiver,
    ):
        lost_and_found(rig, receiver.silence, receiver.speak, "silent")


def test_the_second_receiver_takes_over_and_the_preferred_one_comes_back(rig, free_port):
    with TcpFedGpsd(free_port(), receivers=2) as gpsd:
        first, second = gpsd.devices
        settings = {"device": [first, second], "fall_back_after_s": 1.5, "return_after_s": 1.5}
        with (
            source_of(rig, gpsd.port, **settings) as source,
            Feeder(lambda data: gpsd.feed(data, 0)) as preferred,
            Feeder(lambda data: gpsd.feed(data, 1)),
        ):
            wait_until(lambda: source.account()["device"] == first)
            wait_until(rig.has_position)
            preferred.silence()
            wait_until(lambda: source.account()["device"] == second)
            wait_until(lambda: rig.faults() == [(RAISED, "source:gps-preferred", None)])
            wait_until(rig.has_position)
            preferred.speak()
            wait_until(lambda: source.account()["device"] == first)
            wait_until(lambda: rig.faults()[1:] == [(CLEARED, "source:gps-preferred", None)])


def test_a_short_circuit_of_the_antenna_is_a_fault_of_its_own(rig, free_port):
    with (
        TcpFedGpsd(free_port()) as gpsd,
        source_of(rig, gpsd.port),
        Feeder(gpsd.feed) as receiver,
    ):
        wait_until(rig.has_position)
        receiver.extra = (nmea.sentence("GPTXT,01,01,02,ANTSTATUS=SHORT"),)
        wait_until(lambda: rig.faults() == [(RAISED, "source:gps-antenna", None)])
        receiver.extra = (nmea.sentence("GPTXT,01,01,02,ANTSTATUS=OK"),)
        wait_until(lambda: rig.faults()[1:] == [(CLEARED, "source:gps-antenna", None)])


def test_a_ublox_is_set_to_five_fixes_a_second_for_a_trip_and_back_after_it(rig, free_port):
    with (
        UbloxReceiver(accuracy_m=2.0) as receiver,
        RealGpsd(program("gpsd"), free_port(), device=receiver.device, read_only=False) as gpsd,
        source_of(rig, gpsd.port) as source,
    ):
        wait_until(rig.has_position, 40)
        # the receiver's own radius is one of 68 %
        assert rig.newest().location.accuracy == pytest.approx(3.243, abs=0.01)
        source.request_cycle(0.2)
        wait_until(lambda: receiver.periods_ms == [200])
        times = set()

        def two_fixes_within_a_second():
            times.add(rig.newest().location.fix_time)
            return any(one.microsecond for one in times)

        wait_until(two_fixes_within_a_second)
        source.request_cycle(None)
        wait_until(lambda: receiver.periods_ms == [200, 1000])
        source.request_cycle(0.2)
        wait_until(lambda: receiver.periods_ms == [200, 1000, 200])
        source.stop()
        wait_until(lambda: receiver.periods_ms == [200, 1000, 200, 1000])


@pytest.mark.parametrize("is_anew", [False, True])
def test_a_cycle_that_a_killed_agent_left_changed_is_not_taken_for_the_receiver_s_own(
    rig, free_port, tmp_path, is_anew
):
    """A gpsd that ran on tells the trip's cycle of it, one that was started anew the usual one."""
    with UbloxReceiver() as receiver:
        daemon = RealGpsd(program("gpsd"), free_port(), device=receiver.device, read_only=False)
        with daemon as gpsd:
            with source_of(rig, gpsd.port, CycleMemory(tmp_path)) as source:
                wait_until(rig.has_position, 40)
                source.request_cycle(0.2)
                wait_until(lambda: receiver.periods_ms == [200])
                # the agent is killed here: nothing more is sent, and the file stays
                left = (tmp_path / CYCLE_FILE).read_bytes()
                with patch.object(source, "_send"):
                    source.stop()
            assert receiver.periods_ms == [200]
            assert (tmp_path / CYCLE_FILE).read_bytes() == left
            if is_anew:
                gpsd.stop()
                gpsd.start()
            with source_of(rig, gpsd.port, CycleMemory(tmp_path)):
                steps_ms = [2000, 1000] if is_anew else [1000]
                wait_until(lambda: receiver.periods_ms == [200, *steps_ms], 40)
                wait_until(lambda: CycleMemory(tmp_path).recall_all() == {})


class PluggedReceiver:
    """A pseudo terminal behind a path that is gone while it is unplugged."""

    def __init__(self, path):
        self.path = str(path)
        self._ends = None

    def __enter__(self):
        # gpsd is nobody by the time it opens a device again
        Path(self.path).parent.chmod(0o755)
        self.plug()
        return self

    def __exit__(self, *_):
        self.unplug()

    def plug(self):
        self._ends = os.openpty()
        for end in self._ends:
            tty.setraw(end)
        # nobody reads until gpsd opens it again
        os.set_blocking(self._ends[0], False)
        name = Path(os.ttyname(self._ends[1]))
        name.chmod(0o666)
        Path(self.path).symlink_to(name)

    def write(self, data):
        if self._ends is None:
            raise OSError("unplugged")
        os.write(self._ends[0], data)

    def unplug(self):
        if self._ends is not None:
            Path(self.path).unlink()
            (master, slave), self._ends = self._ends, None
            # a second opener of the line, which no receiver has, would hide its end from gpsd
            os.close(slave)
            os.close(master)
