"""The budgets: the table, the day, the counters' file, and all of it on a fake clock."""

import json
import socket
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.budgets import Budget, Budgets, Stage, mode_in_force
from agent.budgets.day import DAY_S, DayWatch, delay_s
from agent.budgets.record import FILE_NAME, STEP_SHARE
from agent.budgets.table import TABLE, flow_of, stage_of
from agent.config import BudgetSettings, SamplingSettings
from agent.ports import Allowance, Flow
from agent.publisher.spending import PUBLISH_OVERHEAD_BYTES, Spending
from agent.transport.wire import WireMeter, socket_bytes
from contract import Mode, TimeQuality
from tests.fakes.clock import START, FakeClock

MB = 1_000_000
STAGES = st.fixed_dictionaries({budget: st.sampled_from(Stage) for budget in Budget})
INTERVALS = st.fixed_dictionaries({mode: st.floats(0.05, 86_400) for mode in Mode})
RECORD = (
    b'{"day": null, "elapsed_s": %s, "used_bytes": {"data": %s, "flash": 0},'
    b' "stages": {"data": "within", "flash": "within"}, "running": false}'
)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


# --- the table ---------------------------------------------------------------------


def test_the_table_has_a_row_for_each_stage_of_each_budget():
    assert set(TABLE) == {(budget, stage) for budget in Budget for stage in Stage}


@given(st.sampled_from(Mode), STAGES, INTERVALS)
def test_a_budget_never_raises_a_rate_whatever_rates_are_configured(wanted, stages, intervals):
    mode, by = mode_in_force(wanted, stages, intervals.__getitem__)
    assert intervals[mode] >= intervals[wanted]
    assert (mode is wanted) == (by is None)


@given(st.sampled_from(Mode), STAGES, st.sampled_from(Budget))
def test_using_up_more_never_raises_a_rate_or_frees_the_flow(wanted, stages, budget):
    interval_s = SamplingSettings().interval_s
    less = {**stages, budget: Stage.WITHIN}
    assert interval_s(mode_in_force(wanted, stages, interval_s)[0]) >= interval_s(
        mode_in_force(wanted, less, interval_s)[0]
    )
    assert flow_of(stages) >= flow_of(less)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**9), st.floats(1, 100))
def test_a_stage_only_rises_with_what_is_used(used, more, cap, near):
    assert stage_of(used, cap, near) <= stage_of(used + more, cap, near)


@pytest.mark.parametrize(
    ("used", "stage"), [(0, 0), (79, 0), (80, 1), (99, 1), (100, 2), (10_000, 2)]
)
def test_the_stages_begin_at_80_percent_and_at_the_cap(used, stage):
    assert stage_of(used, 100, 80) == stage
    assert stage_of(used, 0, 80) is Stage.WITHIN


@pytest.mark.parametrize(
    ("wanted", "stages", "expected"),
    [
        (Mode.IN_TRIP, {Budget.DATA: Stage.NEAR}, (Mode.IN_TRIP, None)),
        (Mode.IN_TRIP, {Budget.DATA: Stage.REACHED}, (Mode.SAVER, Budget.DATA)),
        (Mode.IN_TRIP, {Budget.FLASH: Stage.NEAR}, (Mode.NORMAL, Budget.FLASH)),
        (Mode.IDLE, {Budget.FLASH: Stage.NEAR}, (Mode.IDLE, None)),
        (Mode.SAVER, {Budget.FLASH: Stage.REACHED}, (Mode.SAVER, None)),
        (
            Mode.IN_TRIP,
            {Budget.DATA: Stage.REACHED, Budget.FLASH: Stage.NEAR},
            (Mode.SAVER, Budget.DATA),
        ),
    ],
)
def test_the_slower_of_mode_and_ceilings_is_in_force(wanted, stages, expected):
    assert mode_in_force(wanted, stages, SamplingSettings().interval_s) == expected


# --- the day -----------------------------------------------------------------------


def test_a_day_ends_at_midnight_utc_plus_the_vehicles_own_delay():
    day = DayWatch(date(2026, 3, 1), 0.0, 0.0)
    assert not day.is_over(MIDNIGHT + timedelta(seconds=59), 0.0, 60.0)
    assert day.is_over(MIDNIGHT + timedelta(seconds=60), 1.0, 60.0)
    assert day.label == date(2026, 3, 2)
    assert not day.is_over(MIDNIGHT + timedelta(seconds=61), 2.0, 60.0)


def test_a_fleet_is_dealt_out_over_the_spread_evenly_and_always_alike():
    delays = [delay_s(f"van-{number}", 3600.0) for number in range(1000)]
    assert delays == [delay_s(f"van-{number}", 3600.0) for number in range(1000)]
    each_minute = [sum(minute <= d / 60 < minute + 1 for d in delays) for minute in range(60)]
    assert sum(each_minute) == 1000
    assert max(each_minute) < 40


def test_a_clock_that_swings_over_midnight_begins_one_day_only():
    day = DayWatch(date(2026, 3, 1), 0.0, 0.0)
    swing = [MIDNIGHT + timedelta(hours=hours) for hours in (-1, 1, -1, 1, -20, 1)]
    assert [day.is_over(utc, 0.0, 0.0) for utc in swing].count(True) == 1


def test_a_date_that_was_wrong_by_years_does_not_hold_the_day_for_ever():
    day = DayWatch(date(2045, 10, 1), 0.0, 0.0)
    assert not day.is_over(MIDNIGHT, 0.0, 0.0)
    assert day.label == MIDNIGHT.date()
    assert day.is_over(MIDNIGHT + timedelta(days=1), 1.0, 0.0)


def test_without_a_time_a_day_is_24_hours_of_running_power_cuts_or_not():
    day = DayWatch(None, 0.0, 100.0)
    assert not day.is_over(None, 100.0 + DAY_S - 10, 0.0)
    after_the_cut = DayWatch(day.label, day.elapsed_s, 5.0)
    assert not after_the_cut.is_over(None, 14.0, 0.0)
    assert after_the_cut.is_over(None, 15.0, 0.0)


@given(st.lists(st.tuples(st.floats(-3 * DAY_S, 3 * DAY_S), st.floats(0, DAY_S / 2))))
def test_days_begin_at_most_once_for_each_date_within_a_day_of_the_truth(steps):
    """However the trusted clock is stepped about: a later date than all before, or no new day."""
    day, now_s, seen = DayWatch(None, 0.0, 0.0), 0.0, [MIDNIGHT.date()]
    day.is_over(MIDNIGHT, 0.0, 0.0)
    for error_s, passed_s in steps:
        now_s += passed_s
        before = day.label
        utc = MIDNIGHT + timedelta(seconds=now_s + error_s)
        if day.is_over(utc, now_s, 0.0):
            assert utc.date() > before
        else:
            assert utc.date() <= before
        seen.append(day.label)
        assert abs((day.label - utc.date()).days) <= 1


# --- at work -----------------------------------------------------------------------


class Rig:
    """Budgets on a fake clock; ``use`` lets bytes flow, ``run`` time pass second by second."""

    def __init__(self, folder, *, clock=None, **caps):
        self.clock = clock or FakeClock()
        self.total = {Budget.DATA: 0, Budget.FLASH: 0}
        self.allowances = []
        caps = {"data_mb_per_day": 10, "flash_mb_per_day": 100, "day_spread_s": 0, **caps}
        self.budgets = Budgets(
            clock=self.clock,
            vehicle_id="van-1",
            folder=folder,
            settings=BudgetSettings(**caps),
            read_bytes={budget: lambda b=budget: self.total[b] for budget in Budget},
            on_allowance=self.allowances.append,
        )
        self.budgets.start()

    def use(self, data=0, flash=0, *, after_s=1.0):
        self.total[Budget.DATA] += round(data * MB)
        self.total[Budget.FLASH] += round(flash * MB)
        self.clock.advance(after_s)
        self.budgets.look()

    def used(self, budget=Budget.DATA):
        return self.budgets.account()[budget.value]["used_bytes"] / MB

    def changes(self):
        return [(c.budget, c.before, c.stage) for c in self.budgets.take_changes()]


def test_a_day_goes_through_the_stages_and_the_next_one_restores_them(tmp_path):
    rig = Rig(tmp_path)
    rig.use(data=7.9)
    assert rig.changes() == []
    rig.use(data=0.2)
    assert rig.changes() == [(Budget.DATA, Stage.WITHIN, Stage.NEAR)]
    assert rig.allowances[-1].flow is Flow.GATHER
    rig.use(data=2)
    assert rig.changes() == [(Budget.DATA, Stage.NEAR, Stage.REACHED)]
    assert rig.allowances[-1].flow is Flow.TRICKLE
    rig.use(data=0.1, after_s=12 * 3600)
    (restored,) = rig.budgets.take_changes()
    assert restored.details() == {
        "budget": "data",
        "stage": "within",
        "cap_mb": 10,
        "used_mb": 10.2,
        "day": "2026-03-01",
    }
    assert (rig.used(), rig.allowances[-1].flow) == (0, Flow.FREE)


def test_the_rest_of_the_day_is_told_to_the_publisher_at_each_measurement(tmp_path):
    rig = Rig(tmp_path)
    rig.use(data=4)
    assert rig.allowances[-1].left_bytes == 6 * MB
    rig.use(data=1, after_s=0.5)
    assert rig.allowances[-1].left_bytes == 6 * MB
    rig.use(after_s=0.5)
    assert rig.allowances[-1].left_bytes == 5 * MB


def test_without_a_cap_everything_is_measured_and_nothing_limited(tmp_path):
    rig = Rig(tmp_path, data_mb_per_day=0, flash_mb_per_day=0)
    rig.use(data=1000, flash=100_000)
    assert rig.changes() == []
    assert rig.used() == 1000
    assert [allowance.left_bytes for allowance in rig.allowances] == [None]


def test_an_orderly_restart_goes_on_exactly_and_tells_nothing_twice(tmp_path):
    rig = Rig(tmp_path)
    rig.use(data=10)
    rig.changes()
    rig.budgets.stop()
    rig.budgets.stop()
    again = Rig(tmp_path, clock=rig.clock)
    assert again.used() == 10
    assert again.changes() == []
    assert again.allowances[-1].flow is Flow.TRICKLE


def test_a_restart_on_another_day_begins_anew_and_tells_of_it(tmp_path):
    rig = Rig(tmp_path)
    rig.use(data=10)
    rig.changes()
    rig.budgets.stop()
    rig.clock.advance(DAY_S)
    again = Rig(tmp_path, clock=rig.clock)
    assert again.used() == 0
    assert again.changes() == [(Budget.DATA, Stage.REACHED, Stage.WITHIN)]


def test_after_a_power_cut_a_count_is_off_by_at_most_half_a_step(tmp_path):
    truth = 0.0
    clock = FakeClock()
    for cut in range(12):
        rig = Rig(tmp_path, clock=clock)
        rig.use(data=0.05 * cut)
        truth += 0.05 * cut
        assert abs(rig.used() - truth) <= (cut + 1) * 10 * STEP_SHARE / 2 + 1e-6


def test_runs_that_are_shorter_than_a_step_are_not_lost_one_after_the_other(tmp_path):
    clock = FakeClock()
    for _ in range(20):
        Rig(tmp_path, clock=clock).use(data=0.1)
    assert Rig(tmp_path, clock=clock).used() == pytest.approx(2.0, abs=0.2)


def test_the_counters_file_is_written_by_steps_not_by_time(tmp_path):
    rig = Rig(tmp_path, flash_mb_per_day=0)
    written = []
    for _ in range(1000):
        rig.use(data=0.001)
        written.append((tmp_path / FILE_NAME).read_bytes())
    assert len(set(written)) in {5, 6}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"day": "yesterday"}',
        RECORD % (b"-1", b"0"),
        RECORD % (b"NaN", b"0"),
        RECORD % (b"0", b"-5"),
        RECORD % (b"0", b'"many"'),
        b"\xff\xfe",
    ],
)
def test_a_damaged_counters_file_costs_the_count_and_is_said(tmp_path, content, caplog):
    (tmp_path / FILE_NAME).write_bytes(content)
    rig = Rig(tmp_path)
    assert rig.used() == 0
    assert "cannot be used" in caplog.text
    rig.use(data=10)
    assert json.loads((tmp_path / FILE_NAME).read_bytes())["used_bytes"]["data"] == 10 * MB


def test_a_disk_that_takes_nothing_does_not_stop_the_counting(tmp_path):
    (tmp_path / (FILE_NAME + ".new")).mkdir()
    rig = Rig(tmp_path)
    rig.use(data=10)
    assert rig.budgets.stages()[Budget.DATA] is Stage.REACHED


def test_a_boot_without_a_time_keeps_its_own_use_when_the_new_day_becomes_known(tmp_path):
    before = Rig(tmp_path)
    before.use(data=10)
    before.budgets.stop()
    board = FakeClock(start=datetime(1970, 1, 1, tzinfo=UTC), quality=TimeQuality.UNSYNCED)
    rig = Rig(tmp_path, clock=board)
    assert rig.used() == 10
    rig.use(data=0.5)
    board.step_utc((START - board.utc()).total_seconds() + DAY_S, TimeQuality.GPS)
    rig.use(data=0.25)
    assert rig.used() == pytest.approx(0.75)
    assert rig.budgets.account()["day"] == "2026-03-02"


def test_a_raised_cap_lifts_the_limit_at_once_and_a_lowered_one_sets_it(tmp_path):
    rig = Rig(tmp_path)
    rig.use(data=10)
    rig.changes()
    rig.budgets.apply(BudgetSettings(data_mb_per_day=100, day_spread_s=0))
    assert rig.changes() == [(Budget.DATA, Stage.REACHED, Stage.WITHIN)]
    assert rig.allowances[-1].left_bytes == 90 * MB
    rig.budgets.apply(BudgetSettings(data_mb_per_day=5, day_spread_s=0))
    assert rig.changes() == [(Budget.DATA, Stage.WITHIN, Stage.REACHED)]


def test_what_cannot_be_measured_is_said_and_limits_nothing(tmp_path):
    rig = Rig(tmp_path)
    rig.total[Budget.FLASH] = None
    rig.clock.advance(1)
    rig.budgets.look()
    assert rig.budgets.account()["flash"]["used_bytes"] is None
    assert rig.budgets.stages()[Budget.FLASH] is Stage.WITHIN


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("use"), st.floats(0, 3)),
            st.tuples(st.just("wait"), st.floats(0, DAY_S)),
            st.tuples(st.just("step"), st.floats(-DAY_S, DAY_S)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=30,
    )
)
def test_what_counts_is_never_less_than_what_was_used_since_the_day_began(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("state")
    rig, used_mb = Rig(folder), 0.0
    for action, amount in steps:
        day = rig.budgets.account()["day"]
        match action:
            case "use":
                rig.use(data=amount)
                used_mb += amount
            case "wait":
                rig.use(after_s=amount)
            case "step":
                rig.clock.step_utc(amount)
                rig.use()
            case "restart":
                rig.budgets.stop()
                rig = Rig(folder, clock=rig.clock)
        if rig.budgets.account()["day"] > day:
            used_mb = 0.0
        assert rig.used() == pytest.approx(used_mb, abs=1e-4)
        assert (rig.budgets.stages()[Budget.DATA] is Stage.REACHED) == (rig.used() >= 10)


# --- between two measurements ------------------------------------------------------


@given(
    st.integers(0, 200_000),
    st.lists(st.tuples(st.booleans(), st.integers(0, 20_000)), max_size=200),
)
def test_the_cap_holds_to_within_one_publish_whenever_measurements_come(cap, publishes):
    """``True`` measures first; what is counted never exceeds what a publish was taken for."""
    spending, on_the_wire, largest = Spending(), 0, 0
    spending.allow(Allowance(Flow.FREE, left_bytes=cap), in_flight_bytes=0)
    for measured, payload in publishes:
        if measured:
            spending.allow(Allowance(Flow.FREE, left_bytes=cap - on_the_wire), in_flight_bytes=0)
        if spending.flow is Flow.TRICKLE:
            continue
        assert on_the_wire < cap
        spending.spend(payload)
        on_the_wire += payload + PUBLISH_OVERHEAD_BYTES
        largest = max(largest, payload + PUBLISH_OVERHEAD_BYTES)
    assert on_the_wire < cap + largest + 1


def test_while_samples_trickle_the_next_one_goes_after_the_interval():
    spending = Spending()
    spending.allow(Allowance(Flow.TRICKLE, 0, trickle_s=600.0), in_flight_bytes=0)
    assert spending.trickle_in_s(100.0) == 0
    spending.trickled(100.0)
    assert spending.trickle_in_s(400.0) == 300
    assert spending.trickle_in_s(700.0) == 0


# --- the wire ----------------------------------------------------------------------


class OldKernelSocket:
    """A socket whose kernel has a shorter ``tcp_info``."""

    family = socket.AF_INET

    def getsockopt(self, *_):
        return b"\0" * 104


def test_a_kernel_that_does_not_count_is_no_zero():
    meter = WireMeter()
    old = OldKernelSocket()
    meter.opened(old)
    assert meter.total() is None
    meter.closing(old)
    assert meter.total() is None


def test_a_connections_bytes_stay_counted_after_it_is_closed():
    meter = WireMeter()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):
            before = meter.total()
            near = socket.create_connection(listener.getsockname())
            far, _address = listener.accept()
            with near, far:
                meter.opened(near)
                near.sendall(b"x" * 3_000)
                received = 0
                while received < 3_000:
                    received += len(far.recv(3_000))
                assert meter.total() >= before + 3_000 + 52
                meter.closing(near)
            meter.closing(near)
            assert 3_052 <= meter.total() - before <= 5_000
    assert socket_bytes(near) is None
