import random

from hypothesis import given
from hypothesis import strategies as st

from agent.publisher import (
    Backoff,
    BackoffSettings,
    BatchSizer,
    StatusSchedule,
    Suspicion,
    TokenBucket,
)
from agent.publisher.poison import STRIKES
from agent.publisher.sizing import METER_BYTES

SETTINGS = BackoffSettings()


def test_backoff_grows_with_full_jitter_up_to_its_cap():
    waits = [[], [], [], [], [], [], [], []]
    for seed in range(400):
        backoff = Backoff(SETTINGS, random.Random(seed))
        for step in waits:
            step.append(backoff.lost(0.0, unauthorised=False))
    for number, step in enumerate(waits):
        ceiling = min(SETTINGS.cap_s, SETTINGS.base_s * 2**number)
        assert 0 <= min(step) < ceiling * 0.1
        assert ceiling * 0.9 < max(step) <= ceiling


def test_backoff_resets_only_after_a_connection_that_held():
    backoff = Backoff(SETTINGS, random.Random(1))
    for _ in range(6):
        backoff.lost(0.0, unauthorised=False)
    backoff.connected(100.0)
    backoff.lost(100.0 + SETTINGS.stable_s - 1, unauthorised=False)
    assert backoff.failures == 7
    backoff.connected(200.0)
    backoff.lost(200.0 + SETTINGS.stable_s, unauthorised=False)
    assert backoff.failures == 1


def test_two_attempts_are_never_closer_than_the_broker_takes_them():
    for seed in range(200):
        backoff = Backoff(SETTINGS, random.Random(seed))
        backoff.attempts(100.0)
        assert 100.0 + 0.01 + backoff.lost(100.01, unauthorised=False) >= 101.0
        backoff.attempts(200.0)
        assert backoff.lost(260.0, unauthorised=False) >= 0, "the gap counts from the attempt"


def test_attempts_in_a_row_stay_under_one_in_ten_seconds_in_the_long_run():
    for seed in range(20):
        backoff, now_s, attempts = Backoff(SETTINGS, random.Random(seed)), 0.0, 0
        while now_s < 3600:
            backoff.attempts(now_s)
            attempts += 1
            backoff.connected(now_s + 0.1)
            now_s += 0.2 + backoff.lost(now_s + 0.2, unauthorised=False)
        assert attempts < 3600 / 10


def test_backoff_is_slower_after_the_broker_refused_the_vehicle():
    backoff = Backoff(SETTINGS, random.Random(1))
    first = backoff.lost(0.0, unauthorised=True)
    assert SETTINGS.refused_base_s / 2 <= first <= SETTINGS.refused_base_s
    for _ in range(20):
        last = backoff.lost(0.0, unauthorised=True)
    assert SETTINGS.refused_cap_s / 2 <= last <= SETTINGS.refused_cap_s


@given(
    rate=st.floats(1, 1000),
    amounts=st.lists(st.floats(0.5, 5000), min_size=1, max_size=60),
)
def test_the_bucket_never_gives_more_than_burst_and_rate_and_one_message(rate, amounts):
    bucket = TokenBucket(rate=rate, burst=rate, now_s=0.0)
    now_s = given_out = 0.0
    for amount in amounts:
        now_s += bucket.wait_s(now_s)
        bucket.take(now_s, amount)
        given_out += amount
        assert given_out <= rate + rate * now_s + max(amounts) + 1e-6 * given_out


def test_the_bucket_says_how_long_to_wait_and_is_ready_then():
    bucket = TokenBucket(rate=10, burst=5, now_s=0.0)
    for _ in range(5):
        assert bucket.wait_s(0.0) == 0
        bucket.take(0.0, 1)
    wait_s = bucket.wait_s(0.0)
    assert wait_s > 0
    assert bucket.wait_s(wait_s + 1e-9) == 0


def test_a_reserve_is_left_for_others():
    bucket = TokenBucket(rate=10, burst=4, now_s=0.0)
    bucket.take(0.0, 1)
    bucket.take(0.0, 1)
    assert bucket.wait_s(0.0) == 0
    assert bucket.wait_s(0.0, reserve=2) > 0


@given(bytes_a_sample=st.integers(20, 3000), waiting=st.integers(2, 5000))
def test_a_full_batch_ends_just_under_a_metering_step(bytes_a_sample, waiting):
    sizer = BatchSizer(topic_bytes=30)
    for _ in range(30):
        rows = sizer.rows(waiting)
        while not sizer.fits(rows, rows * bytes_a_sample, waiting):
            rows = sizer.fewer(rows, rows * bytes_a_sample, waiting)
        sizer.learn(rows, rows * bytes_a_sample)
    size = rows * bytes_a_sample
    assert 1 <= rows <= min(waiting, sizer.max_rows)
    assert size + 30 < 128 * 1024
    if rows < min(waiting, sizer.max_rows) and bytes_a_sample < 200:
        paid_for = -(-(size + 30) // METER_BYTES) * METER_BYTES
        assert size / paid_for > 0.9


def test_a_batch_of_everything_that_waits_needs_no_whole_step():
    sizer = BatchSizer(topic_bytes=30)
    assert sizer.rows(7) == 7
    assert sizer.fits(7, 420, 7)


def test_a_bad_network_blames_nobody():
    suspicion = Suspicion()
    for _ in range(50):
        suspicion.connected(0.0)
        assert suspicion.lost("m1", 1.0) is None
    assert not suspicion.may_try(100.0, in_flight=0)


def test_a_message_that_ends_the_connection_each_time_it_is_alone_is_convicted():
    suspicion = Suspicion(mature_s=10)
    suspicion.connected(0.0)
    assert suspicion.lost("m1", 0.1) is None
    for strike in range(STRIKES):
        suspicion.connected(0.0)
        assert not suspicion.may_try(10.0, in_flight=0)
        suspicion.acknowledged("other")
        assert not suspicion.may_try(10.0, in_flight=1)
        # the first time at once, for most suspects are innocent; then with more care
        assert suspicion.may_try(9.9, in_flight=0) is (strike == 0)
        assert suspicion.may_try(10.0, in_flight=0)
        suspicion.tries("m1")
        convicted = suspicion.lost("m1", 0.1)
        assert convicted == ("m1" if strike == STRIKES - 1 else None)


def test_a_connection_that_ends_without_the_suspect_voids_the_strikes_against_it():
    suspicion = Suspicion(mature_s=10)
    suspicion.connected(0.0)
    suspicion.lost("m1", 0.1)
    for _ in range(10 * STRIKES):
        suspicion.connected(0.0)
        suspicion.acknowledged("other")
        suspicion.tries("m1")
        assert suspicion.lost("m1", 0.1) is None
        suspicion.connected(0.0)
        assert suspicion.lost("other", 0.1) is None


def test_a_message_that_later_ones_overtook_is_convicted_by_silence_at_its_trials():
    suspicion = Suspicion()
    suspicion.connected(0.0)
    suspicion.suspects("m1")
    suspicion.suspects("m2")
    suspicion.abandoned()
    assert suspicion.suspect == "m1"
    convicted = []
    for _ in range(2 * STRIKES):
        suspicion.connected(0.0)
        suspicion.acknowledged("other")
        suspicion.tries(suspicion.suspect)
        convicted.append(suspicion.lost(suspicion.suspect, 0.0))
        suspicion.connected(0.0)
        suspicion.abandoned()
    assert [one for one in convicted if one] == ["m1", "m2"]


def test_an_acknowledged_suspect_is_innocent():
    suspicion = Suspicion()
    suspicion.connected(0.0)
    suspicion.lost("m1", 0.1)
    suspicion.connected(0.0)
    suspicion.acknowledged("status")
    suspicion.tries("m1")
    suspicion.acknowledged("m1")
    assert suspicion.suspect is None
    assert not suspicion.on_trial


def test_a_late_loss_is_not_blamed_on_a_message():
    suspicion = Suspicion()
    suspicion.connected(0.0)
    suspicion.lost("m1", 300.0)
    assert suspicion.suspect is None


def test_the_status_is_sent_on_connect_then_each_minute_or_each_5_s_with_a_backlog():
    schedule = StatusSchedule()
    schedule.connected()
    assert schedule.due_in_s(0.0, backlog=False) == 0
    schedule.sent(0.0, backlog=False)
    assert schedule.due_in_s(0.0, backlog=False) == 60
    assert schedule.due_in_s(0.0, backlog=True) == 5
    schedule.sent(5.0, backlog=True)
    assert schedule.due_in_s(5.0, backlog=False) == 1
    schedule.sent(6.0, backlog=False)
    schedule.request()
    assert schedule.due_in_s(6.0, backlog=False) == 1
    schedule.sent(7.0, backlog=False)
    assert schedule.due_in_s(7.0, backlog=False) == 60
