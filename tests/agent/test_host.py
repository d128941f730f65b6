"""The host's clock: it reads the real clocks and feeds the rules of trusted time."""

import logging
import time
from datetime import UTC, datetime, timedelta

from agent.host import SystemClock, boot_id, boottime_s, new_run_id
from agent.kernel_clock import kernel_is_synchronised
from agent.ports import TimeBase
from agent.time_anchor import FILE_NAME, TimeAnchor
from contract import TimeQuality

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOT_1970 = datetime(1970, 1, 1, tzinfo=UTC)


class Board:
    """A board whose clocks a test sets."""

    def __init__(self, *, system=NOON, synchronised=False, kept=None):
        self.now_s, self.system, self.synchronised = 50.0, system, synchronised
        self.asked = 0
        self.clock = SystemClock(
            monotonic_s=lambda: self.now_s,
            system_utc=lambda: self.system,
            kernel_is_synchronised=self.ask_kernel,
            kept=kept,
        )

    def ask_kernel(self):
        self.asked += 1
        return self.synchronised

    def pass_s(self, seconds):
        self.now_s += seconds
        self.system += timedelta(seconds=seconds)

    def fixes(self, truth, count=4):
        for _ in range(count):
            found = self.clock.observe_gps(truth, self.now_s)
            self.pass_s(1)
            truth += timedelta(seconds=1)
        return found


def test_the_kernel_s_word_makes_it_ntp_within_half_a_minute():
    board = Board()
    assert board.clock.quality() is TimeQuality.UNSYNCED
    board.synchronised = True
    board.pass_s(31)
    assert board.clock.base() == TimeBase(NOON - timedelta(seconds=50), TimeQuality.NTP)


def test_the_kernel_is_asked_seldom_but_at_once_when_the_clock_was_stepped():
    board = Board(synchronised=True)
    for _ in range(20):
        board.pass_s(1)
        board.clock.utc()
    assert board.asked == 1
    board.system -= timedelta(hours=1)
    assert board.clock.utc() == board.system
    board.synchronised = False
    board.system += timedelta(hours=9)
    assert board.clock.utc() == board.system - timedelta(hours=9)


def test_fixes_give_the_time_that_then_runs_on_the_monotonic_clock():
    board = Board(system=BOOT_1970)
    assert board.fixes(NOON) == NOON + timedelta(seconds=3)
    assert board.clock.quality() is TimeQuality.GPS
    board.pass_s(2.5)
    board.system = datetime(1999, 1, 1, tzinfo=UTC)
    assert board.clock.utc() == NOON + timedelta(seconds=6.5)


def test_a_time_of_gps_that_is_not_believed_is_logged_once_and_so_is_the_end_of_it(caplog):
    caplog.set_level(logging.INFO)
    board = Board(system=BOOT_1970)
    board.fixes(NOON)
    for _ in range(5):
        board.clock.observe_gps(datetime(2080, 1, 1, tzinfo=UTC), board.now_s)
        board.pass_s(1)
    board.fixes(NOON + timedelta(seconds=9), count=2)
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert told[0] == "GPS says 2080-01-01T00:00:00+00:00, which cannot be; its time is not used"
    assert told[1] == "GPS time is plausible again"


def test_the_first_fixes_after_a_restart_are_not_called_impossible(caplog):
    caplog.set_level(logging.INFO)
    board = Board(system=BOOT_1970, kept=TimeBase(NOON - timedelta(seconds=50), TimeQuality.GPS))
    assert board.clock.quality() is TimeQuality.GPS
    assert board.fixes(NOON) is not None
    assert [record.message for record in caplog.records if "GPS" in record.message] == []


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


def test_the_monotonic_clock_is_the_one_that_counts_a_suspend():
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boottime_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= SystemClock().monotonic_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_time_is_kept_for_the_next_process_of_the_boot_and_no_other(tmp_path):
    base = TimeBase(NOON + timedelta(microseconds=1), TimeQuality.GPS)
    TimeAnchor(tmp_path, "boot-1").save(base)
    assert TimeAnchor(tmp_path, "boot-1").load() == base
    assert TimeAnchor(tmp_path, "boot-2").load() is None
    assert TimeAnchor(tmp_path, "").load() is None


def test_a_time_that_is_not_trusted_is_not_kept(tmp_path):
    TimeAnchor(tmp_path, "boot-1").save(TimeBase(NOON, TimeQuality.UNSYNCED))
    TimeAnchor(tmp_path, "").save(TimeBase(NOON, TimeQuality.GPS))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_of_the_time_costs_nothing_but_a_warning(tmp_path, caplog):
    anchor = TimeAnchor(tmp_path, "boot-1")
    for content in (b"", b"[]", b'{"boot_id": "boot-1"}', b'{"boot_id": "boot-1", "zero_us": 1}'):
        (tmp_path / FILE_NAME).write_bytes(content)
        assert anchor.load() is None
    assert len(caplog.records) == 4
    TimeAnchor(tmp_path / "absent", "boot-1").save(TimeBase(NOON, TimeQuality.GPS))
    assert "cannot be written" in caplog.records[-1].message
