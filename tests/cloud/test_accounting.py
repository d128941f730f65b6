"""The cloud's ledger against a plain model, and what is concluded from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.accounting.figures import summary
from cloud.accounting.intake import told_drops
from cloud.accounting.ledger import (
    LATENESS_EDGES_S,
    Arrival,
    Change,
    Dropped,
    RunEnd,
    RunHead,
    Told,
    apply,
)
from cloud.accounting.ranges import BLOCK, Gap, Range, Ranges, block_of, gaps
from cloud.accounting.reconcile import (
    LOST_IN_CRASH,
    TOO_NEW,
    UNEXPLAINED,
    WAITING,
    RunState,
    reconcile,
)
from cloud.cli.gaps import LATE_AFTER_S
from contract import DropTotal

NOW_MS = 1_736_951_540_000
RUN = "aaaaaaaa"


def at(sequence):
    """A message every second."""
    return NOW_MS + 1000 * sequence


class Run:
    """A run's ledger as a store would keep it."""

    def __init__(self, run_id=RUN, seen_ms=NOW_MS):
        self.head, self.blocks = RunHead(run_id), {}
        self.seen_ms = seen_ms

    def apply(self, **parts):
        change = Change("van-1", self.head.run_id, self.seen_ms, **parts)
        for block in change.blocks():
            self.blocks[block] = Ranges.from_bytes(self.blocks.get(block, Ranges()).to_bytes())
        head = RunHead.from_json(self.head.to_json())
        apply(head, self.blocks, change)
        self.head = head
        return self

    def receive(self, *sequences, received_ms=None, events=()):
        return self.apply(
            arrivals=[
                Arrival(n, at(n), at(n) + 100 if received_ms is None else received_ms, n in events)
                for n in sequences
            ]
        )

    def say(self, last_sequence, waiting=0, state="online", received_ms=None, drops=()):
        at_ms = at(last_sequence)
        received_ms = at_ms + 50 if received_ms is None else received_ms
        return self.apply(
            told=[Told(received_ms, at_ms, state, last_sequence, waiting)], drops=list(drops)
        )

    def end(self, last_sequence, unflushed_s=0.0, next_run="bbbbbbbb"):
        return self.apply(end=RunEnd(last_sequence, unflushed_s, next_run))

    def ranges(self):
        return [one for block in sorted(self.blocks) for one in self.blocks[block]]


def accounts(*runs):
    by_id = {run.head.run_id: run for run in runs}
    return reconcile([run.head for run in runs], lambda run_id: by_id[run_id].ranges())


def account(*runs):
    return summary(accounts(*runs))


def drop(messages, reason="thinned", run_id=RUN, first=None, last=None):
    return DropTotal(
        run_id=run_id,
        reason=reason,
        total_messages=messages,
        first_sequence=first,
        last_sequence=last,
    )


# --- ranges ------------------------------------------------------------------------

SEQUENCES = st.lists(st.integers(1, 60), max_size=80)


@given(SEQUENCES)
def test_ranges_are_a_set_of_sequences_in_any_order_of_arrival(sequences):
    ranges, model = Ranges(), set()
    for sequence in sequences:
        assert ranges.add(sequence, at(sequence)) is (sequence not in model)
        model.add(sequence)
        assert ranges.count() == len(model)
    kept = Ranges.from_bytes(ranges.to_bytes())
    assert list(kept) == list(ranges)
    for one in kept:
        assert (one.first_ms, one.last_ms) == (at(one.first), at(one.last))
    assert {n for one in kept for n in range(one.first, one.last + 1)} == model
    assert all(n in kept for n in model)
    assert not any(n in kept for n in set(range(70)) - model)


@given(SEQUENCES, st.integers(0, 70))
def test_gaps_are_what_is_not_there_up_to_the_end(sequences, end):
    ranges = Ranges()
    for sequence in sequences:
        ranges.add(sequence, at(sequence))
    found = gaps(ranges, end)
    missing = [n for gap in found for n in range(gap.first, gap.last + 1)]
    assert missing == sorted(set(range(1, end + 1)) - set(sequences))
    for gap in found:
        before = [n for n in sequences if n < gap.first]
        after = [n for n in sequences if n > gap.last]
        assert gap.before_ms == (at(max(before)) if before else None)
        assert gap.after_ms == (at(min(after)) if after else None)


def test_ranges_of_neighbouring_blocks_have_no_gap_between_them():
    run = Run().receive(*range(1, 2 * BLOCK + 5))
    assert [block_of(one.first) for one in run.ranges()] == [0, 1, 2]
    assert gaps(run.ranges(), 2 * BLOCK + 4) == []
    assert gaps([Range(2, 3, 5, 6), Range(4, 9, 7, 8)], 9) == [Gap(1, 1, None, 5)]


# --- the ledger --------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), max_size=12),
    st.integers(0, 11),
)
def test_a_change_that_comes_again_changes_nothing(batches, repeated):
    once, twice, received = Run(), Run(), []
    for number, batch in enumerate(batches):
        batch_ms = at(100 + number)
        once.receive(*batch, received_ms=batch_ms)
        twice.receive(*batch, received_ms=batch_ms)
        if number >= repeated:
            twice.receive(*batch, received_ms=batch_ms)
        received += batch
    assert once.head == twice.head
    assert once.ranges() == twice.ranges()
    assert once.head.received == len(set(received))
    assert once.head.duplicates == len(received) - len(set(received))


def test_late_is_counted_once_by_the_first_arrival_and_for_any_threshold():
    run = Run()
    for sequence, late_s in enumerate((0, 10, 10.001, 60, 61, 3_601, 700_000), start=1):
        run.receive(sequence, received_ms=at(sequence) + round(late_s * 1000))
    run.receive(7, received_ms=at(7) + 900_000_000)
    assert [run.head.late(edge) for edge in LATENESS_EDGES_S] == [5, 4, 3, 2, 2, 2, 1, 1, 1]
    assert run.head.max_lateness_ms == 700_000_000
    assert (run.head.duplicates, run.head.untimed) == (1, 0)


def test_what_has_no_trusted_time_is_not_called_late():
    run = Run().apply(arrivals=[Arrival(1, 0, NOW_MS, is_event=False)])
    assert run.head.untimed == 1
    assert sum(run.head.lateness) == 0
    assert run.head.last_ms is None


def test_the_commands_thresholds_are_those_that_are_counted():
    assert tuple(LATE_AFTER_S.values()) == LATENESS_EDGES_S


def test_a_last_will_changes_the_state_and_not_the_figures():
    run = Run().say(50, waiting=3)
    run.apply(told=[Told(at(99), at(1), "offline", 1, 0)])
    assert (run.head.told.state, run.head.told.last_sequence) == ("offline", 50)
    assert run.head.told.backlog_messages == 3


def test_drop_totals_only_grow_and_are_not_added_up():
    run = Run().say(9, drops=[drop(3, first=1, last=5)])
    run.apply(drops=[drop(5, first=1, last=9)]).apply(drops=[drop(3, first=1, last=5)])
    assert run.head.drops == {RUN: {"thinned": Dropped(5, 1, 9)}}


def test_details_of_a_drop_that_are_not_of_this_version_say_nothing():
    assert told_drops({"thinned": 3}) == []
    (told,) = told_drops({"reason": "expired", "messages": 2, "total_messages": 7, "run_id": RUN})
    assert (told.reason, told.total_messages) == ("expired", 7)


# --- reconciliation ----------------------------------------------------------------


def test_nothing_is_missing_of_a_complete_run():
    (run,) = accounts(Run().receive(*range(1, 11), events={4}).say(10))
    assert (run.state, run.missing, run.causes(), run.gaps) == (RunState.OPEN, 0, {}, [])
    assert (run.head.samples, run.head.events) == (9, 1)


def test_a_gap_that_the_vehicle_says_nothing_of_is_unexplained():
    (run,) = accounts(Run().receive(1, 2, 3, 6, 7).say(7))
    assert run.causes() == {UNEXPLAINED: 2}
    (gap,) = run.gaps
    assert gap.gap == Gap(4, 5, at(3), at(6))


def test_late_arrivals_fill_the_gap():
    run = Run().receive(1, 2, 5).say(5, waiting=2)
    assert account(run)["waiting"] == 2
    run.receive(4, 3, received_ms=at(200))
    assert account(run)["missing"] == 0
    assert account(run)["late"] == 2


def test_what_waits_is_not_unexplained_and_what_is_newer_than_the_status_is_not_judged():
    (run,) = accounts(Run().receive(1, 2, 8, 10, 12).say(10, waiting=6))
    assert run.causes() == {WAITING: 6, TOO_NEW: 1}


def test_the_tail_that_only_a_status_tells_of_is_missing_too():
    assert account(Run().receive(1, 2).say(9, waiting=4))["causes"] == {WAITING: 4, UNEXPLAINED: 3}


def test_drops_explain_gaps_between_their_ends_and_no_more_than_were_dropped():
    run = Run().receive(1, 2, 4, 6, 8, 9, 11, 12).say(12, drops=[drop(3, first=3, last=7)])
    (found,) = accounts(run)
    assert found.causes() == {"thinned": 3, UNEXPLAINED: 1}
    assert found.gaps[-1].causes == {UNEXPLAINED: 1}
    run.say(12, drops=[drop(2, first=3, last=7), drop(99, "expired", first=10, last=10)])
    assert account(run)["unexplained"] == 0


def test_a_drop_told_by_a_later_run_explains_the_run_that_lost_it():
    first = Run().receive(1, 2, 5).say(5, waiting=2).end(5)
    second = Run("bbbbbbbb", seen_ms=at(50)).receive(60).say(60, waiting=59)
    assert account(first, second)["causes"] == {WAITING: 59, UNEXPLAINED: 2}
    second.say(60, waiting=59, drops=[drop(2, "expired")])
    assert account(first, second)["causes"] == {WAITING: 59, "expired": 2}


def test_a_drop_of_an_unknown_run_explains_the_oldest_gaps():
    first = Run().receive(1, 2, 5).say(5).end(5)
    second = Run("bbbbbbbb", seen_ms=at(50)).receive(60).say(60, 58)
    second.apply(drops=[drop(2, "damaged", run_id=None)])
    old, new = accounts(first, second)
    assert old.causes() == {"damaged": 2}
    assert new.causes() == {WAITING: 58, UNEXPLAINED: 1}


def test_what_waits_is_looked_for_in_the_newest_run_first():
    first = Run().receive(1, 4).say(4).end(4)
    second = Run("bbbbbbbb", seen_ms=at(50)).receive(*range(55, 58)).say(57, waiting=54)
    old, new = accounts(first, second)
    assert (old.unexplained, new.unexplained) == (2, 0)


def test_a_run_of_which_nothing_arrived_is_known_by_its_successor():
    silent = Run(seen_ms=at(50)).end(20)
    second = Run("bbbbbbbb", seen_ms=at(50)).receive(*range(1, 3)).say(2, waiting=20)
    old, _ = accounts(silent, second)
    assert (old.state, old.missing, old.causes()) == (RunState.ENDED, 20, {WAITING: 20})


def test_a_run_newer_than_the_last_status_is_not_judged_yet():
    first = Run().receive(1, 2).say(2)
    second = Run("bbbbbbbb", seen_ms=at(50)).receive(61, 63)
    assert account(first, second)["causes"] == {TOO_NEW: 61}


def crashed(received, last_on_disk=0, said=10):
    first = Run().receive(*received).say(said).end(last_on_disk, unflushed_s=1.0)
    second = Run("bbbbbbbb", seen_ms=at(500)).receive(1).say(1, received_ms=at(500))
    return next(run for run in accounts(first, second) if run.head.run_id == RUN)


def test_a_hole_in_the_last_moments_before_a_crash_is_the_crashs():
    run = crashed([*range(1, 10), 11])
    assert (run.state, run.tail_unknown_s) == (RunState.CRASHED, 1.0)
    assert run.causes() == {LOST_IN_CRASH: 1}


def test_a_crash_is_no_excuse_for_an_older_hole_or_for_what_was_on_disk():
    assert crashed([1, 2, *range(5, 12)]).causes() == {UNEXPLAINED: 2}
    assert crashed([*range(1, 10), 11], last_on_disk=11).causes() == {UNEXPLAINED: 1}
    # the last status knew of ten that never came, long after the last that came
    assert crashed([1, 2], said=30).causes() == {UNEXPLAINED: 28}


def test_an_orderly_end_excuses_nothing():
    run = Run().receive(*range(1, 10), 11).say(11).end(11)
    assert accounts(run)[0].causes() == {UNEXPLAINED: 1}


@pytest.mark.parametrize(
    ("told", "end", "state"),
    [
        ("online", None, RunState.OPEN),
        ("offline", None, RunState.OFFLINE),
        ("offline", 0.0, RunState.ENDED),
        ("offline", 1.0, RunState.CRASHED),
        ("online", 0.0, RunState.ENDED),
    ],
)
def test_how_far_a_run_has_come(told, end, state):
    run = Run().receive(1).say(1, state=told)
    assert accounts(run if end is None else run.end(1, end))[0].state is state


def test_a_run_whose_end_nobody_told_says_so():
    first = Run().receive(1).say(1)
    second = Run("bbbbbbbb", seen_ms=at(50)).receive(1).say(1, received_ms=at(60))
    assert accounts(first, second)[0].state is RunState.END_UNKNOWN


FATES = st.sampled_from(["received", "waiting", "thinned", "expired", "vanished"])


@given(st.lists(FATES, max_size=60), st.lists(FATES, max_size=60), st.randoms())
def test_every_sequence_has_one_cause_and_exactly_what_vanished_is_unexplained(old, new, random):
    """Whatever became of the messages of two runs, and in whatever order they arrived."""
    runs = [Run(RUN), Run("bbbbbbbb", seen_ms=at(1000))]
    drops = []
    for run, fates in zip(runs, (old, new), strict=True):
        there = [n for n, fate in enumerate(fates, start=1) if fate == "received"]
        random.shuffle(there)
        run.receive(*there)
        for reason in ("thinned", "expired"):
            gone = [n for n, fate in enumerate(fates, start=1) if fate == reason]
            if gone:
                drops.append(drop(len(gone), reason, run.head.run_id, min(gone), max(gone)))
    fates = old + new
    runs[0].end(len(old))
    runs[1].say(len(new), fates.count("waiting"), drops=drops)
    found = account(*runs)
    assert found["received"] == fates.count("received")
    assert found["missing"] == len(fates) - fates.count("received")
    assert sum(found["causes"].values()) == found["missing"]
    assert found["unexplained"] == fates.count("vanished")
    assert found["waiting"] == fates.count("waiting")
    assert found["dropped"] == fates.count("thinned") + fates.count("expired")


def test_a_head_survives_the_store_whole():
    run = Run().receive(1, 2, 5, events={2}).say(5, drops=[drop(1)]).end(5)
    assert RunHead.from_json(run.head.to_json()) == run.head
