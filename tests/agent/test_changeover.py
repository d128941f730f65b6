"""The publisher on its way to another certificate: no sample is lost, and there is a way back."""

import pytest

from agent.publisher.changeover import Order
from tests.fakes.publisher_bench import STATUS, TELEMETRY, Bench
from tests.fakes.transport import FakeTransport

OLD, NEW, STORED = "old", "new", "new, where it stands now"
ASK, ANSWER = "ask", "answer"


class Prover:
    """The listener of the order's channel, and its ``on_end``."""

    def __init__(self, bench):
        self.told = []
        self.verdicts = []
        self.channel = bench.publisher.exchange.register([ANSWER], self, on_demand=True)
        self.order = Order(
            NEW, OLD, self.channel, lambda: self.told.append("on probation"), self.verdicts.append
        )
        self._bench = bench

    def begin(self):
        self.channel.want(wanted=True)
        self._bench.publisher.change_over(self.order)

    def connected(self):
        self.told.append("connected")
        assert self.channel.send(ASK, b"{}")

    def disconnected(self):
        self.told.append("disconnected")

    def received(self, topic, payload):
        self.told.append((topic, payload))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_ack=True))
    bench.transport.credentials = OLD
    return bench


@pytest.fixture
def prover(bench):
    return Prover(bench)


def until(bench, condition, turns=600, advance_s=0.1):
    for _ in range(turns):
        if condition():
            return
        bench.turn(advance_s)
    raise AssertionError("it did not happen")


def test_what_is_in_flight_is_acknowledged_before_it_leaves_so_that_nothing_goes_twice(
    bench, prover
):
    bench.connect()
    bench.transport.auto_ack = False
    bench.put(5)
    bench.turn()
    assert len(bench.transport.waiting) == 5
    prover.begin()
    bench.turn()
    assert bench.transport.leaves == 1
    assert bench.transport.disconnects == 0
    until(bench, lambda: prover.told == ["on probation", "connected"])
    assert bench.transport.dialled_with == [OLD, NEW]
    assert bench.delivered() == [("samples", n) for n in range(1, 6)]


def test_on_probation_only_the_provers_request_goes_and_everything_else_once_it_is_kept(
    bench, prover
):
    others = Prover(bench)
    others.channel.want(wanted=True)
    bench.connect()
    prover.begin()
    until(bench, lambda: prover.told == ["on probation", "connected"])
    before = len(bench.transport.published)
    bench.put(3)
    for _ in range(100):
        bench.turn(0.5)
    assert bench.topics()[before - 1 :] == [ASK]
    assert bench.transport.subscribed.count((ANSWER,)) == 2
    bench.publisher.keep(prover.order, STORED)
    until(bench, lambda: not bench.outbox.waiting())
    assert bench.topics()[before] == STATUS
    assert [verdict.kept for verdict in prover.verdicts] == [True]
    assert others.told == ["connected", "disconnected", "connected"]
    assert sorted(bench.delivered()) == [("samples", n) for n in (1, 2, 3)]
    bench.transport.lose()
    until(bench, lambda: len(bench.transport.dialled_with) == 3)
    assert bench.transport.dialled_with == [OLD, NEW, STORED]


def test_one_that_is_refused_is_left_after_three_attempts_and_the_old_one_is_back_at_once(
    bench, prover
):
    bench.connect()
    bench.transport.refused_credentials = {NEW: ("not active", True)}
    began_s = bench.clock.monotonic_s()
    prover.begin()
    until(bench, lambda: bench.transport.dialled_with.count(NEW) == 3)
    last_s = bench.clock.monotonic_s()
    until(bench, lambda: prover.verdicts)
    assert bench.transport.dialled_with == [OLD, NEW, NEW, NEW, OLD]
    # the refusals of the new one slow the old one by nothing but the least gap
    assert bench.clock.monotonic_s() - last_s <= 1.3
    assert last_s - began_s <= 16
    verdict = prover.verdicts[0]
    assert (verdict.kept, verdict.refused, verdict.reason) == (False, True, "not active")
    bench.put(2)
    bench.until_quiet()
    assert bench.topics()[-1] == TELEMETRY


def test_a_fault_that_the_old_one_shares_condemns_nobody_and_both_are_tried_by_turns(bench, prover):
    bench.connect()
    bench.transport.refused_credentials = {NEW: ("no network", False), OLD: ("no network", False)}
    prover.begin()
    until(bench, lambda: len(bench.transport.dialled_with) >= 9, turns=6000)
    assert prover.verdicts == []
    assert bench.transport.dialled_with[4:8] == [OLD, NEW, OLD, NEW]
    del bench.transport.refused_credentials[NEW]
    until(bench, lambda: prover.told[-1:] == ["connected"], turns=6000)
    bench.publisher.keep(prover.order, STORED)
    bench.put(1)
    bench.until_quiet()
    assert prover.verdicts[0].kept


def test_where_the_network_was_away_only_for_the_new_one_it_is_not_called_refused(bench, prover):
    bench.connect()
    bench.transport.refused_credentials = {NEW: ("no network", False)}
    prover.begin()
    until(bench, lambda: prover.verdicts)
    assert not prover.verdicts[0].kept
    assert not prover.verdicts[0].refused


def test_an_old_one_that_is_no_good_any_more_does_not_keep_the_new_one_from_being_tried_again(
    bench, prover
):
    bench.transport.refused_credentials = {NEW: ("not active yet", True), OLD: ("expired", True)}
    prover.begin()
    until(bench, lambda: OLD in bench.transport.dialled_with, turns=6000)
    bench.transport.refused_credentials = {OLD: ("expired", True)}
    until(bench, lambda: prover.told == ["on probation", "connected"], turns=6000)


def test_one_that_connects_and_is_given_up_is_left_and_the_old_one_delivers(bench, prover):
    bench.connect()
    prover.begin()
    until(bench, lambda: prover.told == ["on probation", "connected"])
    bench.put(2)
    bench.publisher.give_up(prover.order, "nothing answers")
    until(bench, lambda: prover.verdicts)
    verdict = prover.verdicts[0]
    assert (verdict.kept, verdict.refused, verdict.reason) == (False, False, "nothing answers")
    assert bench.transport.dialled_with == [OLD, NEW, OLD]
    bench.until_quiet()
    assert STATUS not in bench.topics()[1 : bench.topics().index(ASK) + 1]


def test_where_no_word_comes_at_all_samples_do_not_wait_for_ever(bench, prover):
    bench.connect()
    prover.begin()
    until(bench, lambda: prover.told == ["on probation", "connected"])
    bench.put(2)
    until(bench, lambda: prover.verdicts, turns=700, advance_s=0.5)
    assert "nobody says" in prover.verdicts[0].reason
    bench.until_quiet()
    assert bench.transport.dialled_with == [OLD, NEW, OLD]


def test_a_word_that_comes_after_it_went_back_still_makes_the_new_one_the_vehicles(bench, prover):
    bench.connect()
    prover.begin()
    until(bench, lambda: prover.told == ["on probation", "connected"])
    bench.transport.refused_credentials = {NEW: ("cut", False)}
    bench.transport.lose()
    until(bench, lambda: prover.verdicts)
    assert bench.transport.dialled_with[-1] == OLD
    bench.publisher.keep(prover.order, STORED)
    until(bench, lambda: bench.transport.dialled_with[-1] == STORED)
    bench.put(1)
    bench.until_quiet()


def test_a_library_that_hangs_at_leaving_is_dropped(bench, prover):
    bench.connect()
    bench.transport.leave = lambda: None
    prover.begin()
    until(bench, lambda: prover.told == ["on probation", "connected"])
    assert bench.transport.disconnects == 1


def test_before_the_first_connection_the_other_one_is_dialled_first(bench, prover):
    prover.begin()
    until(bench, lambda: prover.told == ["on probation", "connected"])
    assert bench.transport.dialled_with == [NEW]
