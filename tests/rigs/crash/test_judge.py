"""The judge of the crash campaign finds each broken promise, and no other."""

import pytest

from tests.rigs.crash.judge import Arrival, Life, Seen, judge

LIMIT_S = 0.6
KILLED_S = 100.0


def life(run_id="aa", *, last=10, killed_s=KILLED_S, **more):
    """A run that made one message every 0.1 s, the last one 0.1 s before its kill."""
    made = [
        Seen(at_s - 0.02, at_s, sequence)
        for sequence in range(1, last + 1)
        for at_s in [KILLED_S - 0.1 * (last + 1 - sequence)]
    ]
    given = {"moment": "running", "network": "online", "started_s": 90.0, "exit_code": -9, **more}
    return Life("van-1", run_id=run_id, created=made, killed_s=killed_s, **given)


def arrived(*sequences, run_id="aa", content="as made", times="12:00"):
    return [Arrival("van-1", run_id, sequence, content, times) for sequence in sequences]


def faults(lives, arrivals, **more):
    return judge(lives, arrivals, limit_s=LIMIT_S, **more).faults


def test_when_everything_arrived_it_passes_and_counts():
    verdict = judge([life()], arrived(*range(1, 11)), limit_s=LIMIT_S)
    assert verdict.passed
    assert (verdict.kills, verdict.created_messages, verdict.distinct_messages) == (1, 10, 10)
    assert verdict.kills_by_moment == {"running": 1}


def test_a_run_that_was_killed_before_anybody_asked_it_counts_by_what_arrived():
    unasked = Life(
        "van-1", run_id=None, moment="start-up", network="online", started_s=90.0, exit_code=-9,
        killed_s=KILLED_S,
    )  # fmt: skip
    arrivals = [*arrived(*range(1, 11)), *arrived(1, 2, run_id="bb")]
    verdict = judge([life(), unasked], arrivals, limit_s=LIMIT_S)
    assert (verdict.created_messages, verdict.distinct_messages) == (12, 12)


def test_what_was_younger_than_the_limit_may_be_lost_and_is_counted():
    verdict = judge([life()], arrived(*range(1, 6)), limit_s=LIMIT_S)
    assert verdict.passed
    assert verdict.lost_in_last_interval == 5
    assert verdict.oldest_lost_s == pytest.approx(0.5)


def test_what_was_older_than_the_limit_must_arrive():
    verdict = judge([life()], arrived(1, 2, *range(4, 11)), limit_s=LIMIT_S)
    assert verdict.lost_older_than_limit == 1
    assert "[3] of 10 never arrived" in verdict.faults[0]


def test_after_an_orderly_end_everything_must_arrive():
    stopped = life(killed_s=None, exit_code=0)
    assert not faults([stopped], arrived(*range(1, 11)))
    assert "[10] of 10" in faults([stopped], arrived(*range(1, 10)))[0]


def test_more_acknowledged_than_arrived_is_a_loss_however_young():
    verdict = judge([life(acknowledged=8)], arrived(*range(1, 8)), limit_s=LIMIT_S)
    assert verdict.acknowledged_then_missing == 1
    assert verdict.lost_older_than_limit == 0


def test_what_the_broker_took_and_did_not_pass_on_is_told():
    verdict = judge(
        [life()], arrived(*range(1, 11)), limit_s=LIMIT_S, broker_took=10, publishes_received=9
    )
    assert verdict.acknowledged_then_missing == 1
    assert not verdict.passed


def test_a_message_may_come_twice_but_only_as_it_was():
    twice = arrived(*range(1, 11)) + arrived(4)
    verdict = judge([life()], twice, limit_s=LIMIT_S)
    assert verdict.passed
    assert verdict.duplicate_messages == 1
    assert faults([life()], twice + arrived(5, content="another"))
    assert faults([life()], twice + arrived(5, times="12:01"))


def test_a_time_that_was_corrected_is_no_other_message():
    assert not faults([life()], arrived(*range(1, 11)) + arrived(5, times=None))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dropped": {"thinned": 1}},
        {"unsound": ["integrity_check: page 7"]},
        {"imbalances": 1},
        {"killed_s": None, "exit_code": 1},
    ],
)
def test_drops_damage_lost_books_and_failures_are_faults(wrong):
    assert len(faults([life(**wrong)], arrived(*range(1, 11)))) == 1


def next_run(said, **more):
    return life("bb", last=1, previous_run=said, **more)


@pytest.mark.parametrize("said", [("aa", 10), ("aa", 7)])
def test_a_run_may_say_what_its_file_had_of_the_run_before(said):
    both = arrived(*range(1, 11)) + arrived(1, run_id="bb")
    assert not faults([life(on_disk={"aa": 7}), next_run(said)], both)


@pytest.mark.parametrize("said", [("aa", 6), ("aa", 11), ("cc", 10), None])
def test_a_run_must_not_make_up_how_the_run_before_it_ended(said):
    both = arrived(*range(1, 11)) + arrived(1, run_id="bb")
    assert len(faults([life(on_disk={"aa": 7}), next_run(said)], both)) == 1


def test_a_run_that_was_killed_before_it_could_be_asked_may_be_named_by_the_next():
    both = arrived(*range(1, 11)) + arrived(1, run_id="bb")
    unknown = life(None, last=0)
    assert not faults([life(), unknown, next_run(("cc", 0))], both)
    assert not faults([life(), unknown, next_run(("aa", 10))], both)


def test_what_was_in_the_file_after_the_kill_must_arrive_however_young():
    assert faults([life(on_disk={"aa": 7})], arrived(*range(1, 8))) == []
    assert "[7] of 10" in faults([life(on_disk={"aa": 7})], arrived(*range(1, 7)))[0]


def test_what_earlier_runs_left_in_the_file_is_not_taken_for_this_runs_own():
    stopped = life(killed_s=None, exit_code=0, on_disk={"before": 90, "aa": 10})
    assert not faults([stopped], arrived(*range(1, 11)))
