"""Trusted time: GPS, else the kernel's word, else none."""

from datetime import UTC, datetime, timedelta

from agent.host import GPS_HOLD_S, SystemClock, boot_id, kernel_is_synchronised, new_run_id
from contract import TimeQuality

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Board:
    """A board whose clocks a test sets."""

    def __init__(self, *, system=NOON, synchronised=False):
        self.now_s, self.system, self.synchronised = 50.0, system, synchronised
        self.clock = SystemClock(
            monotonic_s=lambda: self.now_s,
            system_utc=lambda: self.system,
            kernel_is_synchronised=lambda: self.synchronised,
        )

    def pass_s(self, seconds):
        self.now_s += seconds
        self.system += timedelta(seconds=seconds)


def test_without_anybody_s_word_the_time_is_called_unsynced():
    board = Board(system=datetime(1970, 1, 1, tzinfo=UTC))
    assert board.clock.quality() is TimeQuality.UNSYNCED
    assert board.clock.utc() == board.system


def test_the_kernel_s_word_makes_it_ntp():
    board = Board()
    board.synchronised = True
    board.pass_s(31)
    assert board.clock.quality() is TimeQuality.NTP


def test_a_fix_gives_the_time_that_then_runs_on_the_monotonic_clock():
    board = Board(system=datetime(1970, 1, 1, tzinfo=UTC))
    assert board.clock.observe_gps(NOON, 50.0)
    assert board.clock.quality() is TimeQuality.GPS
    board.pass_s(2.5)
    board.system = datetime(1999, 1, 1, tzinfo=UTC)
    assert board.clock.utc() == NOON + timedelta(seconds=2.5)


def test_the_least_delayed_fix_of_a_minute_counts():
    board = Board()
    for second, delay_s in enumerate([0.4, 0.1, 0.5, 0.3]):
        board.now_s = 50.0 + second + delay_s
        board.clock.observe_gps(NOON + timedelta(seconds=second), board.now_s)
    board.now_s = 60.0
    assert board.clock.utc() == NOON + timedelta(seconds=9.9)


def test_a_step_of_the_receiver_s_time_is_followed():
    board = Board()
    board.clock.observe_gps(NOON + timedelta(hours=5), 50.0)
    board.clock.observe_gps(NOON, 50.0)
    assert board.clock.utc() == NOON


def test_an_old_offset_is_no_longer_trusted():
    board = Board()
    board.clock.observe_gps(NOON, 50.0)
    board.pass_s(GPS_HOLD_S + 1)
    assert board.clock.quality() is TimeQuality.UNSYNCED


def test_a_week_rollover_is_not_believed():
    assert not Board().clock.observe_gps(datetime(2006, 7, 16, tzinfo=UTC), 50.0)
    assert not Board(synchronised=True).clock.observe_gps(NOON + timedelta(weeks=1024), 50.0)
    board = Board(synchronised=True)
    assert board.clock.observe_gps(NOON + timedelta(seconds=1), 50.0)
    assert board.clock.quality() is TimeQuality.GPS


def test_the_real_host_answers():
    assert isinstance(kernel_is_synchronised(), bool)
    assert len(new_run_id()) == 12
    assert new_run_id() != new_run_id()
    assert len(boot_id()) == 36
    clock = SystemClock()
    first = clock.monotonic_s()
    clock.sleep_s(0.01)
    assert clock.monotonic_s() - first >= 0.01
    assert clock.utc().tzinfo is UTC
