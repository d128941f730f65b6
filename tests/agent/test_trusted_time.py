"""The rules of trusted time, each by itself, on a fake clock."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.ports import TimeBase
from agent.trusted_time import AGREE_GAP_S, GPS_HOLD_S, TrustedTime
from contract import TimeQuality
from tests.fakes.clock import FakeClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOT_1970 = datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC)
WEEKS_1024 = timedelta(weeks=1024)


class Board:
    """A board on a fake clock that shows the truth; ``system_error`` is its own clock's."""

    def __init__(self, *, truth=NOON, system=NOON, synchronised=False, kept=None):
        self.clock = FakeClock(start=truth)
        self.system_error = system - truth
        self.synchronised = synchronised
        self.trusted = TrustedTime(self.system(), self.now_s(), kept)
        self.look()

    def now_s(self):
        return self.clock.monotonic_s()

    def system(self):
        return self.clock.utc() + self.system_error

    def look(self):
        self.trusted.observe_system(self.system(), self.now_s(), synchronised=self.synchronised)

    def fix(self, *, error_s=0.0, delay_s=0.0):
        """A fix of the moment, reported late by ``delay_s``, wrong by ``error_s``."""
        moment = self.clock.utc() + timedelta(seconds=error_s - delay_s)
        return self.trusted.observe_fix(moment, self.now_s())

    def fixes(self, count=5, every_s=1.0, **how):
        found = []
        for _ in range(count):
            found.append(self.fix(**how))
            self.clock.advance(every_s)
        return found

    @property
    def quality(self):
        return self.trusted.base().quality

    def error_s(self):
        return (self.trusted.base().at(self.now_s()) - self.clock.utc()).total_seconds()


def test_without_anybody_s_word_the_system_s_time_is_told_and_called_unsynced():
    board = Board(system=BOOT_1970)
    assert board.quality is TimeQuality.UNSYNCED
    assert board.trusted.base().at(board.now_s()) == BOOT_1970


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 1.8e9])
def test_a_step_of_a_clock_that_nobody_vouches_for_is_not_followed(step_s):
    board = Board(system=BOOT_1970)
    board.clock.advance(60)
    board.system_error += timedelta(seconds=step_s)
    board.look()
    assert board.trusted.base().at(board.now_s()) == BOOT_1970 + timedelta(seconds=60)
    assert board.quality is TimeQuality.UNSYNCED


def test_three_fixes_that_agree_make_the_time_known():
    board = Board(system=BOOT_1970)
    assert board.fixes(3) == [None, None, NOON + timedelta(seconds=2)]
    assert board.quality is TimeQuality.GPS
    assert board.error_s() == 0.0


def test_the_least_delayed_fix_counts():
    board = Board(system=BOOT_1970)
    for delay_s in (0.4, 0.05, 0.5, 0.3, 0.6):
        board.fix(delay_s=delay_s)
        board.clock.advance(1)
    assert board.error_s() == pytest.approx(-0.05)


def test_an_old_best_offset_expires_so_that_a_drifting_crystal_is_followed():
    board = Board(system=BOOT_1970)
    board.fixes(60)
    board.fixes(200, delay_s=0.3)
    assert board.error_s() == pytest.approx(-0.3)


def test_fixes_that_contradict_each_other_are_not_believed():
    board = Board(system=BOOT_1970)
    for error_s in (0, 5, 0, -7, 100, 0):
        assert board.fix(error_s=error_s) is None
        board.clock.advance(1)
    assert board.quality is TimeQuality.UNSYNCED


def test_a_bunch_of_fixes_from_a_line_that_stood_still_proves_nothing():
    board = Board(system=BOOT_1970)
    board.fixes(20, every_s=0.001)
    assert board.quality is TimeQuality.UNSYNCED


def test_fixes_far_apart_do_not_agree():
    board = Board(system=BOOT_1970)
    board.fixes(10, every_s=AGREE_GAP_S + 1)
    assert board.quality is TimeQuality.UNSYNCED


def test_one_fix_with_a_wrong_time_moves_nothing():
    board = Board(system=BOOT_1970)
    board.fixes()
    assert board.fix(error_s=-1.0) is None
    assert board.fix(error_s=5000.0) is None
    assert board.error_s() == 0.0
    assert board.fix() is not None


@pytest.mark.parametrize("step_s", [-18.0, -1.0, 1.0, 86_400.0, -86_400.0])
def test_a_step_that_the_receiver_keeps_to_is_followed(step_s):
    """-18 s: it learned how many leap seconds there were; -1 s: one has just passed."""
    board = Board(system=BOOT_1970)
    board.fixes(error_s=-step_s)
    assert board.error_s() == -step_s
    board.fixes(3)
    assert board.error_s() == 0.0


def test_a_leap_second_of_a_synchronised_kernel_is_followed_at_once():
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    board = Board(
        truth=new_year - timedelta(seconds=1),
        system=new_year - timedelta(seconds=1),
        synchronised=True,
    )
    assert not board.trusted.stepped(board.system(), board.now_s())
    board.clock.advance(2)
    board.system_error -= timedelta(seconds=1)
    assert board.trusted.stepped(board.system(), board.now_s())
    board.look()
    assert board.trusted.base().at(board.now_s()) == new_year
    assert board.quality is TimeQuality.NTP


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_a_clock_that_the_kernel_vouches_for_is_followed(step_s):
    board = Board(system=NOON - timedelta(seconds=step_s), synchronised=True)
    board.system_error += timedelta(seconds=step_s)
    board.look()
    assert board.error_s() == 0.0


def test_a_step_by_hand_ends_the_kernel_s_word_and_is_not_followed():
    board = Board(synchronised=True)
    board.synchronised = False
    board.system_error = timedelta(days=-400)
    board.look()
    board.clock.advance(1000)
    assert (board.error_s(), board.quality) == (0.0, TimeQuality.NTP)


def test_gps_counts_before_ntp_until_it_was_silent_for_long():
    board = Board(system=NOON + timedelta(seconds=0.5), synchronised=True)
    assert board.quality is TimeQuality.NTP
    board.fixes()
    board.look()
    assert board.quality is TimeQuality.GPS
    board.clock.advance(GPS_HOLD_S + 1)
    board.look()
    assert (board.quality, board.error_s()) == (TimeQuality.NTP, 0.5)


def test_a_time_that_was_known_is_never_unsynced_again():
    board = Board(system=BOOT_1970)
    board.fixes()
    board.clock.advance(10 * GPS_HOLD_S)
    board.look()
    assert (board.quality, board.error_s()) == (TimeQuality.GPS, 0.0)


@pytest.mark.parametrize("weeks", [-1024, -2048])
def test_a_receiver_that_lost_its_week_count_is_put_right(weeks):
    board = Board(system=BOOT_1970)
    found = board.fixes(error_s=timedelta(weeks=weeks).total_seconds())
    assert found[-1] == NOON + timedelta(seconds=4)
    assert (board.quality, board.error_s()) == (TimeQuality.GPS, 0.0)


@pytest.mark.parametrize("weeks", [-2048, -1024, 1024])
def test_a_wrong_week_count_is_put_right_by_a_synchronised_kernel(weeks):
    board = Board(system=NOON + timedelta(seconds=2), synchronised=True)
    found = board.fixes(error_s=timedelta(weeks=weeks).total_seconds())
    assert found[-1] == NOON + timedelta(seconds=4)
    assert board.error_s() == 0.0


def test_gps_that_contradicts_a_synchronised_kernel_is_not_believed():
    board = Board(synchronised=True)
    assert board.fixes(error_s=90.0) == [None] * 5
    assert board.quality is TimeQuality.NTP


@pytest.mark.parametrize(
    "claimed",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1979, 12, 31, tzinfo=UTC),
        datetime(2080, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
)
@pytest.mark.parametrize("synchronised", [False, True])
def test_a_fix_from_no_gps_era_is_not_believed(claimed, synchronised):
    board = Board(synchronised=synchronised)
    before = board.quality
    for _ in range(5):
        assert board.trusted.observe_fix(claimed, board.now_s()) is None
        board.clock.advance(1)
    assert board.quality is before


def test_a_kernel_that_vouches_for_1970_is_not_believed():
    board = Board(system=BOOT_1970, synchronised=True)
    assert board.quality is TimeQuality.UNSYNCED
    board.fixes()
    assert board.error_s() == 0.0


def test_a_suspend_takes_nothing_from_the_time():
    """``CLOCK_BOOTTIME`` counts it, so a suspend is nothing but time that passed."""
    board = Board(system=BOOT_1970)
    board.fixes()
    board.clock.advance(3 * 86_400)
    assert board.error_s() == 0.0


def test_the_time_that_an_earlier_process_of_the_boot_trusted_is_taken_over():
    clock = FakeClock(start=NOON)
    kept = TimeBase(clock.base().zero, TimeQuality.GPS)
    board = Board(system=BOOT_1970, kept=kept)
    assert (board.quality, board.error_s()) == (TimeQuality.GPS, 0.0)
    board.fixes(3, error_s=2.0)
    assert board.error_s() == 2.0


@pytest.mark.parametrize(
    "kept",
    [
        TimeBase(NOON, TimeQuality.UNSYNCED),
        TimeBase(datetime(1999, 1, 1, tzinfo=UTC), TimeQuality.GPS),
    ],
)
def test_a_kept_time_that_cannot_be_is_not_taken_over(kept):
    assert Board(system=BOOT_1970, kept=kept).quality is TimeQuality.UNSYNCED
