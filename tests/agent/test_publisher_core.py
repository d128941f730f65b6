import json

import pytest

from agent.outbox import Kind
from agent.publisher import LinkState, PublisherLimits
from contract import decode_batch_rows
from tests.fakes.publisher_bench import BATCH, EVENTS, STATUS, TELEMETRY, Bench
from tests.fakes.transport import FakeTransport


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_on_connect_the_status_goes_first_retained_then_events_then_samples(bench):
    bench.put(2)
    bench.put(1, Kind.EVENT)
    bench.turn()
    bench.turn()
    assert bench.topics() == [STATUS, EVENTS, TELEMETRY, TELEMETRY]
    assert bench.transport.published[0].retain
    assert not bench.transport.published[1].retain


def test_nothing_is_handed_over_while_disconnected(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_connect=False))
    bench.put(5)
    for _ in range(5):
        bench.turn(0.5)
    assert bench.transport.published == []
    assert bench.outbox.waiting() == 5


NO_LONGER_NEWS_S = 6.0


def test_a_message_is_settled_by_its_puback_alone(bench):
    bench.connect()
    bench.put(3)
    bench.turn()
    assert bench.outbox.waiting() == 3
    bench.transport.ack(bench.transport.waiting[1])
    bench.turn()
    assert bench.outbox.waiting() == 2
    assert bench.delivered() == [("samples", 2)]


def test_the_window_is_never_exceeded(tmp_path):
    bench = Bench(tmp_path, in_flight=5)
    bench.connect()
    bench.put(50)
    bench.turn()
    assert len(bench.transport.waiting) == 5
    bench.transport.ack(bench.transport.waiting[0])
    bench.turn()
    assert len(bench.transport.waiting) == 5


def test_what_was_in_flight_when_the_connection_was_lost_is_sent_again_unchanged(bench):
    bench.connect()
    bench.put(3)
    bench.turn()
    first = [one.payload for one in bench.transport.waiting]
    bench.transport.lose()
    bench.turn()
    bench.turn(2.0)
    bench.until_quiet()
    again = [one.payload for one in bench.transport.acknowledged if one.topic == TELEMETRY]
    assert sorted(bench.delivered()) == [("samples", n) for n in (1, 2, 3)]
    assert set(again) <= set(first) or len(again) == 0


def test_after_an_outage_live_goes_first_and_the_backlog_beside_it_in_batches(bench):
    bench.connect()
    bench.transport.lose()
    bench.transport.auto_connect = False
    bench.turn()
    for _ in range(200):
        bench.put()
        bench.turn(0.2)
    for _ in range(40):
        bench.turn(1.0)
    bench.transport.auto_connect = True
    bench.transport.published.clear()
    bench.put()
    live = bench.sequence
    bench.transport.accept()
    bench.turn()
    topics = bench.topics()
    assert topics[:3] == [STATUS, TELEMETRY, BATCH]
    assert json.loads(bench.transport.published[1].payload)["sequence"] == live
    bench.until_quiet()
    assert sorted(bench.delivered()) == [("samples", n) for n in range(1, live + 1)]


def test_what_the_start_wrote_to_disk_before_the_first_connection_is_still_news(bench):
    bench.put(200)
    bench.clock.advance(NO_LONGER_NEWS_S)
    bench.outbox.flush()
    bench.put()
    bench.outbox.flush()
    bench.connect()
    first = bench.transport.published[bench.topics().index(TELEMETRY)]
    assert json.loads(first.payload)["sequence"] == 201
    assert bench.topics().index(TELEMETRY) < bench.topics().index(BATCH)
    bench.until_quiet()
    assert sorted(bench.delivered()) == [("samples", n) for n in range(1, 202)]


def test_all_rows_of_a_lost_batch_stay(bench):
    bench.put(100)
    bench.turn()
    bench.clock.advance(NO_LONGER_NEWS_S)
    bench.outbox.flush()
    bench.turn()
    assert bench.topics().count(BATCH) == 1
    bench.transport.lose()
    bench.turn()
    assert bench.outbox.waiting() == 100
    bench.clock.advance(40)
    bench.until_quiet()
    assert sorted(bench.delivered()) == [("samples", n) for n in range(1, 101)]


def test_events_from_the_backlog_go_singly_and_before_samples(bench):
    bench.put(50)
    bench.put(3, Kind.EVENT)
    bench.clock.advance(NO_LONGER_NEWS_S)
    bench.outbox.flush()
    bench.turn()
    bench.turn()
    assert bench.topics()[:5] == [STATUS, EVENTS, EVENTS, EVENTS, BATCH]


def test_the_rate_stays_under_the_limits(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_ack=True), max_publishes_per_s=20)
    bench.connect()
    start = len(bench.transport.published)
    for _ in range(100):
        bench.put(10, Kind.EVENT)
        bench.turn(0.1)
        bench.turn()
    assert len(bench.transport.published) - start <= 20 * 10 + 10
    assert len(bench.transport.published) - start >= 20 * 10 * 0.9


def test_live_samples_are_not_starved_by_a_backlog_at_the_rate_limit(tmp_path):
    bench = Bench(
        tmp_path,
        FakeTransport(auto_ack=True),
        limits=PublisherLimits(batch_rows=2),
        max_publishes_per_s=10,
    )
    bench.put(2000)
    bench.clock.advance(NO_LONGER_NEWS_S)
    bench.outbox.flush()
    bench.connect()
    late = 0
    for _ in range(100):
        bench.put()
        bench.turn(0.2)
        bench.turn()
        late += bench.outbox.live(Kind.SAMPLE)[0] > 0
    assert late == 0
    assert bench.topics().count(BATCH) > 20


def test_no_puback_for_too_long_drops_the_connection_and_loses_nothing(bench):
    bench.connect()
    bench.put(2)
    bench.turn()
    bench.turn(19.0)
    assert bench.transport.disconnects == 0
    bench.turn(2.0)
    assert bench.transport.disconnects == 1
    bench.turn()
    assert not bench.publisher.connected
    bench.clock.advance(40)
    bench.until_quiet()
    assert sorted(bench.delivered()) == [("samples", 1), ("samples", 2)]


def test_a_quiet_connection_with_nothing_in_flight_is_left_alone(bench):
    bench.connect()
    for _ in range(20):
        bench.turn(100.0)
        bench.transport.ack_all()
    assert bench.transport.disconnects == 0


def test_a_connect_that_is_never_answered_is_given_up_and_tried_again(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_connect=False))
    bench.turn()
    bench.turn(61.0)
    assert bench.transport.disconnects == 1
    bench.turn()
    bench.turn(61.0)
    assert bench.transport.connects == 2


def test_attempts_become_rarer(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_connect=False))
    for _ in range(3600):
        bench.turn(1.0)
        if bench.transport.connects > 0 and bench.publisher.link_state is LinkState.CONNECTING:
            bench.transport.lose("refused")
    assert 3600 / 30 * 0.8 < bench.transport.connects < 3600 / 15 * 1.4


def test_a_message_that_the_transport_refuses_is_set_aside_and_the_rest_goes_on(bench):
    bench.connect()
    bench.put(3)
    bench.turn()
    bench.transport.refuse(bench.transport.waiting[0])
    bench.until_quiet()
    assert bench.delivered() == [("samples", 2), ("samples", 3)]
    assert bench.outbox.tally().dropped == {"refused": 1}


class PoisonTransport(FakeTransport):
    """A broker that closes the connection on one sequence, also in a batch."""

    poison = 7

    def publish(self, token, topic, payload, *, retain=False):
        super().publish(token, topic, payload, retain=retain)
        if self._has_poison(topic, payload) and self.up:
            self.lose("the broker ended the connection")
        elif self.up and self.waiting:
            self.ack(self.waiting[-1])

    def _has_poison(self, topic, payload):
        if topic == BATCH:
            return any(row["sequence"] == self.poison for row in decode_batch_rows(payload))
        return topic in {TELEMETRY, EVENTS} and json.loads(payload)["sequence"] == self.poison


def test_a_poison_message_is_isolated_also_out_of_a_batch_and_only_it_is_lost(tmp_path):
    bench = Bench(tmp_path, PoisonTransport())
    bench.put(40)
    bench.outbox.flush()
    for _ in range(3000):
        bench.turn(1.0)
        if not bench.outbox.waiting():
            break
    assert sorted(set(bench.delivered())) == [("samples", n) for n in range(1, 41) if n != 7]
    assert bench.outbox.tally().dropped == {"refused": 1}


class NarrowTransport(FakeTransport):
    """A link that carries no message of more than so many bytes within the publisher's patience."""

    most_bytes = 300

    def publish(self, token, topic, payload, *, retain=False):
        super().publish(token, topic, payload, retain=retain)
        if self.up and all(len(one.payload) <= self.most_bytes for one in self.waiting):
            self.ack_all()


def test_a_link_too_slow_for_a_batch_gets_smaller_ones_until_they_go_through(tmp_path):
    bench = Bench(tmp_path, NarrowTransport())
    bench.put(500)
    bench.outbox.flush()
    for _ in range(3000):
        bench.turn(1.0)
        if not bench.outbox.waiting():
            break
    assert {n for _, n in bench.delivered()} == set(range(1, 501))
    assert bench.outbox.tally().dropped == {}


class WithholdingTransport(FakeTransport):
    """A broker that acknowledges all but one sequence, alone or in a batch."""

    withheld = 7

    def publish(self, token, topic, payload, *, retain=False):
        super().publish(token, topic, payload, retain=retain)
        if self.up and not self._is_withheld(topic, payload):
            self.ack(self.waiting[-1])

    def _is_withheld(self, topic, payload):
        if topic == BATCH:
            return any(row["sequence"] == self.withheld for row in decode_batch_rows(payload))
        return topic == TELEMETRY and json.loads(payload)["sequence"] == self.withheld


@pytest.mark.parametrize("on_disk", [False, True], ids=["live", "out of a batch"])
def test_a_message_whose_puback_never_comes_is_isolated_and_only_it_is_lost(tmp_path, on_disk):
    bench = Bench(tmp_path, WithholdingTransport())
    bench.put(40)
    if on_disk:
        bench.outbox.flush()
    for number in range(3000):
        bench.turn(1.0)
        if number % 5 == 0 and number < 1500:
            bench.put()
    assert bench.outbox.waiting() == 0
    assert {n for _, n in bench.delivered()} == set(range(1, bench.sequence + 1)) - {7}
    assert bench.outbox.tally().dropped == {"refused": 1}


class KickingTransport(FakeTransport):
    """A broker that accepts the connection and kicks at the first publish."""

    def publish(self, token, topic, payload, *, retain=False):
        super().publish(token, topic, payload, retain=retain)
        if self.up:
            self.lose("the broker ended the connection")


def test_a_broker_that_kicks_everything_costs_no_message_and_is_not_stormed(tmp_path):
    bench = Bench(tmp_path, KickingTransport())
    bench.put(20)
    for _ in range(1800):
        bench.turn(1.0)
    assert bench.outbox.waiting() == 20
    assert bench.transport.connects < 1800 / 15 * 1.4


def test_live_samples_are_gathered_into_batches_when_so_configured(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_ack=True), batch_s=10)
    bench.connect()
    for _ in range(125):
        bench.put()
        bench.turn(0.2)
    bench.turn()
    assert bench.topics().count(TELEMETRY) == 0
    assert bench.topics().count(BATCH) == 2
    assert bench.delivered() == [("samples", n) for n in range(1, len(bench.delivered()) + 1)]
    assert len(bench.delivered()) > 95


def test_what_waits_for_its_live_batch_is_on_disk_within_the_flush_interval(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_ack=True), batch_s=60)
    bench.connect()
    for _ in range(50):
        bench.put()
        bench.turn(0.2)
    assert bench.outbox.on_disk() >= 45


def test_draining_does_not_wait_for_the_live_batch_to_fill(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_ack=True), batch_s=60)
    bench.connect()
    bench.put(5)
    bench.turn(0.1)
    assert bench.outbox.waiting() == 5
    bench.publisher.drain()
    bench.turn()
    bench.turn()
    assert bench.outbox.waiting() == 0


def test_the_status_follows_the_backlog_and_not_more_often_than_needed(bench):
    bench.transport.auto_ack = True
    bench.connect()
    before = bench.topics().count(STATUS)
    for _ in range(600):
        bench.put()
        bench.turn(0.2)
        bench.turn()
    assert bench.topics().count(STATUS) - before == 2
    bench.publisher.request_status()
    bench.turn(1.0)
    assert bench.topics().count(STATUS) - before == 3


def test_a_broker_that_denies_the_vehicle_its_topics_costs_no_message_and_is_asked_rarely(bench):
    bench.connect()
    bench.put(3)
    for _ in range(600):
        for one in list(bench.transport.waiting):
            bench.transport.deny(one)
        bench.turn(1.0)
    assert bench.outbox.waiting() == 3
    assert bench.outbox.tally().dropped == {}
    assert 2 <= bench.transport.connects <= 12
