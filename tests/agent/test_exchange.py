"""The control lane: requests of features beside the samples, which they never hold up."""

import json
import logging

import pytest

from agent.outbox import Kind
from agent.publisher.exchange import LEFT_OUT_S, MOST_ARRIVED, MOST_QUEUED, STRIKES, filter_matches
from contract.json_codec import MAX_MESSAGE_BYTES
from tests.fakes.publisher_bench import STATUS, TELEMETRY, Bench
from tests.fakes.transport import FakeTransport

FILTERS = ("shadow/get/+", "shadow/update/#")
ANSWER = "shadow/get/accepted"
ASK = "shadow/get"


class Feature:
    """Notes what it is told; asks on each connect."""

    def __init__(self, exchange, filters=FILTERS, ask=ASK):
        self.told = []
        self.ask = ask
        self.channel = exchange.register(filters, self)

    def connected(self):
        self.told.append("connected")
        assert self.channel.send(self.ask, b"{}")

    def disconnected(self):
        self.told.append("disconnected")

    def received(self, topic, payload):
        self.told.append((topic, payload))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def until(bench, condition, turns=200, advance_s=0.1):
    for _ in range(turns):
        if condition():
            return
        bench.turn(advance_s)
    raise AssertionError("it did not happen")


def test_a_feature_is_connected_once_its_subscriptions_are_granted_and_hears_its_answers(bench):
    bench.transport.answers = False
    feature = Feature(bench.publisher.exchange)
    bench.turn()
    bench.turn()
    assert bench.transport.subscribed == [FILTERS]
    assert feature.told == []
    bench.publisher.on_subscribed(FILTERS[0], None)
    bench.turn()
    assert feature.told == []
    bench.publisher.on_subscribed(FILTERS[1], None)
    bench.turn()
    assert feature.told == ["connected"]
    assert ASK in bench.topics()
    bench.transport.send(ANSWER, b"1")
    bench.transport.send("shadow/other", b"2")
    bench.turn()
    assert feature.told == ["connected", (ANSWER, b"1")]


def test_it_asks_anew_on_each_connection_and_what_it_had_queued_is_forgotten(tmp_path):
    bench = Bench(tmp_path, in_flight=1)
    feature = Feature(bench.publisher.exchange)
    for _ in range(3):
        bench.turn()  # the status fills the window
    assert feature.told == ["connected"]
    bench.transport.send(ANSWER, b"late")
    bench.transport.lose()
    bench.turn()
    assert feature.told == ["connected", "disconnected"]
    assert not feature.channel.send(ASK, b"{}")
    bench.clock.advance(40)
    until(bench, lambda: feature.told.count("connected") == 2)
    bench.transport.ack_all()
    bench.turn()
    bench.transport.ack_all()
    bench.turn()
    assert bench.topics().count(ASK) == 1
    assert "late" not in str(feature.told)


def test_requests_go_before_samples_and_events_and_inside_the_window(tmp_path):
    bench = Bench(tmp_path, in_flight=3)
    feature = Feature(bench.publisher.exchange)
    bench.put(5)
    bench.put(5, Kind.EVENT)
    bench.turn()
    bench.turn()
    assert bench.topics() == [STATUS, "events/van-1", "events/van-1"]
    bench.transport.ack(bench.transport.waiting[1])
    bench.turn()
    assert bench.topics()[3:] == [ASK]
    assert feature.channel.send("shadow/update", b"{}")
    bench.turn()
    assert len(bench.transport.waiting) == 3
    bench.transport.ack(bench.transport.waiting[1])
    bench.turn()
    assert bench.topics()[4:] == ["shadow/update"]
    bench.until_quiet()


def test_requests_count_against_the_rate(tmp_path):
    bench = Bench(tmp_path, FakeTransport(auto_ack=True), max_publishes_per_s=10)
    feature = Feature(bench.publisher.exchange)
    bench.connect()
    before = len(bench.transport.published)
    for _ in range(100):
        while feature.channel.send("shadow/update", b"{}"):
            pass
        bench.turn(0.1)
    assert 90 <= len(bench.transport.published) - before <= 10 * 10 + 10


def test_a_refused_subscription_is_told_and_leaves_the_other_features_and_the_samples(
    bench, caplog
):
    refused = Feature(bench.publisher.exchange, ("jobs/notify",))
    granted = Feature(bench.publisher.exchange)
    bench.transport.refusals = {"jobs/notify": "Not authorized"}
    bench.put(1)
    bench.connect()
    bench.until_quiet()
    assert refused.told == []
    assert "jobs/notify: Not authorized" in refused.channel.refusal
    assert "jobs/notify" in caplog.text
    assert granted.told == ["connected"]
    assert granted.channel.refusal is None
    assert not refused.channel.send("x", b"")


def test_a_subscription_that_is_never_answered_is_given_up_and_the_next_is_opened(bench):
    bench.transport.answers = False
    silent = Feature(bench.publisher.exchange, ("jobs/notify",))
    other = Feature(bench.publisher.exchange)
    bench.connect()
    bench.transport.answers = True
    until(bench, lambda: other.told == ["connected"], turns=300)
    assert "does not answer" in silent.channel.refusal
    assert bench.transport.disconnects == 0


class StrictTransport(FakeTransport):
    """AWS IoT Core without a policy for it: the connection is closed on a topic."""

    forbidden_filter = None
    forbidden_topic = None

    def subscribe(self, filters):
        if self.forbidden_filter in filters:
            self.subscribed.append(tuple(filters))
            self.lose("the broker ended the connection")
            return
        super().subscribe(filters)

    def publish(self, token, topic, payload, *, retain=False):
        super().publish(token, topic, payload, retain=retain)
        if topic == self.forbidden_topic:
            self.lose("the broker ended the connection")
        elif self.up:
            self.ack(self.waiting[-1])


@pytest.mark.parametrize(
    "forbidden", [{"forbidden_filter": "jobs/notify"}, {"forbidden_topic": "jobs/get"}]
)
def test_a_feature_for_which_the_broker_closes_is_left_out_for_an_hour_and_samples_go(
    forbidden, tmp_path, caplog
):
    transport = StrictTransport()
    for name, value in forbidden.items():
        setattr(transport, name, value)
    bench = Bench(tmp_path, transport)
    bad = Feature(bench.publisher.exchange, ("jobs/notify",), ask="jobs/get")
    good = Feature(bench.publisher.exchange)
    bench.put(40)
    for _ in range(600):
        bench.turn(0.5)
    assert bench.outbox.waiting() == 0
    assert bench.outbox.tally().dropped == {}
    assert sorted(bench.delivered()) == [("samples", n) for n in range(1, 41)]
    assert bench.transport.connects == STRIKES + 1
    assert "check the vehicle's policy" in bad.channel.refusal
    assert "jobs/notify" in caplog.text
    assert good.told[-1] != "disconnected"
    # an operator mends the policy; the vehicle need not be restarted
    transport.forbidden_filter = transport.forbidden_topic = None
    bench.clock.advance(LEFT_OUT_S)
    for _ in range(5):
        bench.turn(1.0)
    assert bad.told[-1] == "connected"
    assert bad.channel.refusal is None
    assert bench.transport.connects == STRIKES + 1


def test_a_bad_network_leaves_no_feature_out(bench):
    feature = Feature(bench.publisher.exchange)
    for count in range(1, 8):
        until(bench, lambda count=count: feature.told.count("connected") == count, turns=2000)
        bench.transport.ack_all()
        bench.turn()
        bench.transport.lose()
        bench.turn()
    assert feature.channel.refusal is None


def test_a_poison_sample_is_not_blamed_on_a_feature(tmp_path):
    class Poisoned(StrictTransport):
        def publish(self, token, topic, payload, *, retain=False):
            poison = topic == TELEMETRY and json.loads(payload)["sequence"] == 7
            self.forbidden_topic = TELEMETRY if poison else None
            super().publish(token, topic, payload, retain=retain)

    bench = Bench(tmp_path, Poisoned())
    feature = Feature(bench.publisher.exchange)
    for _ in range(10):
        bench.put(1)
        bench.turn(0.2)
    for _ in range(2000):
        bench.turn(1.0)
    assert bench.outbox.tally().dropped == {"refused": 1}
    assert feature.channel.refusal is None
    assert feature.told[-1] == "connected" or feature.told[-1][0] == ANSWER


def test_queues_are_bounded_in_both_directions(tmp_path, caplog):
    bench = Bench(tmp_path, in_flight=1)
    feature = Feature(bench.publisher.exchange)
    for _ in range(3):
        bench.turn()  # the status fills the window
    taken = 0
    while feature.channel.send("shadow/update", b"{}"):
        taken += 1
    assert taken == MOST_QUEUED - 1  # its own question waits too
    for number in range(MOST_ARRIVED + 10):
        bench.transport.send(ANSWER, b"%d" % number)
    with caplog.at_level(logging.WARNING):
        bench.turn()
    assert len(feature.told) == 1 + MOST_ARRIVED
    assert "some were dropped" in caplog.text


def test_a_message_that_the_broker_would_never_take_is_an_error_at_once(bench):
    feature = Feature(bench.publisher.exchange)
    bench.connect()
    with pytest.raises(ValueError, match="131073 bytes for shadow/update"):
        feature.channel.send("shadow/update", b"x" * (MAX_MESSAGE_BYTES + 1))


def test_a_request_that_the_broker_denies_is_told_and_leaves_the_connection_alone(bench, caplog):
    feature = Feature(bench.publisher.exchange)
    bench.turn()
    bench.turn()
    bench.turn()
    request = next(one for one in bench.transport.waiting if one.topic == ASK)
    bench.transport.deny(request)
    bench.put(3)
    bench.until_quiet()
    assert "was not taken: denied" in caplog.text
    assert feature.told == ["connected"]
    assert bench.transport.disconnects == 0


@pytest.mark.parametrize("count", [0, 9])
def test_filters_that_one_subscribe_cannot_carry_are_an_error(bench, count):
    with pytest.raises(ValueError, match="one SUBSCRIBE takes 1 to 8"):
        bench.publisher.exchange.register(["a"] * count, None)


def test_a_defect_of_a_feature_keeps_no_sample_from_going(bench, caplog):
    class Broken(Feature):
        def received(self, topic, payload):
            raise RuntimeError("defect")

    Broken(bench.publisher.exchange)
    bench.connect()
    bench.transport.send(ANSWER, b"1")
    bench.put(3)
    bench.until_quiet()
    assert "Broken.received failed" in caplog.text


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$aws/x", False),
        ("+/x", "$aws/x", False),
        ("$aws/+", "$aws/x", True),
    ],
)
def test_a_filter_takes_the_topics_that_mqtt_says(topic_filter, topic, matches):
    assert filter_matches(topic_filter, topic) is matches
