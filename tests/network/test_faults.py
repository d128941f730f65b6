"""Every fault of the fault proxy between a recording vehicle and a real Mosquitto.

After each: nothing is lost, what came twice had been in flight when a connection ended,
the books balance (``Scene.end`` asserts these), and the broker was not stormed.
MILEPOST_FULL=1 makes the faults last minutes, and some of them worse.
"""

import os
import threading
import time

import pytest

from agent.config import DeliverySettings
from agent.outbox import Kind
from agent.publisher import BackoffSettings, PublisherLimits
from tests.fakes.network_scene import BACKOFF, Scene, identities, most_attempts, wait

FULL = os.environ.get("MILEPOST_FULL") == "1"

pytestmark = [
    pytest.mark.needs("mosquitto", "mosquitto_sub"),
    pytest.mark.timeout(900 if FULL else 120),
]


def long(short_s, full_s):
    return full_s if FULL else short_s


@pytest.mark.parametrize("fault", ["cut", "half-open", "answers-lost", "close", "kick=300ms"])
def test_a_network_that_fails_and_comes_back_costs_nothing(scene, fault):
    # what is silent must first be found out, and then nobody answers the next attempt either
    for_s = long(6 if fault in {"half-open", "answers-lost"} else 3, 120)
    made = scene.hold(fault, for_s)
    assert made >= 2, "the agent stopped trying"
    assert made <= most_attempts(BACKOFF, for_s)
    verdict = scene.end()
    if fault == "answers-lost":
        assert verdict.duplicated, "what was sent and not answered comes again"


def test_a_half_open_link_is_found_and_rebuilt_while_the_nat_has_forgotten_only_the_old_one(scene):
    scene.become("nat-timeout")
    before = scene.attempts
    scene.wait_progress(20)
    assert scene.attempts == before + 1, "one new connection is all it takes"
    scene.end()


def test_a_short_stall_is_sat_out_on_the_same_connection(broker, listener, vehicle, tmp_path):
    patient = PublisherLimits(ack_timeout_s=20.0, backoff=BACKOFF)
    with Scene(tmp_path, broker.port, vehicle, witness=listener, limits=patient) as scene:
        scene.wait_connected()
        scene.wait_progress()
        scene.hold("stall", long(2, 15))
        scene.wait_progress()
        assert scene.end().duplicated == 0
        assert scene.attempts == 1


@pytest.mark.parametrize(
    "fault",
    ["loss=30%", "delay=5s" if FULL else "delay=400ms", "rate=1KB/s"],
)
def test_a_slow_network_is_used_as_it_is(fault, broker, listener, vehicle, tmp_path):
    """The limits are the real ones: slow is not dead, and no connection is given up."""
    limits = PublisherLimits()
    with Scene(tmp_path, broker.port, vehicle, witness=listener, limits=limits, rate=5) as scene:
        scene.become(fault)
        scene.wait_connected()
        time.sleep(long(3, 120))
        scene.wait_progress()
        assert scene.attempts == 1
        scene.become()
        assert scene.end().duplicated == 0


def test_a_flapping_network_is_no_storm_and_progress_is_made_between_the_flaps(scene):
    good_s, bad_s, times = long((0.6, 0.4, 6), (4, 2, 40))
    before, acknowledged = scene.attempts, scene.acknowledged()
    for _ in range(times):
        scene.become("cut")
        time.sleep(bad_s)
        scene.become()
        time.sleep(good_s)
    assert scene.attempts - before <= most_attempts(BACKOFF, times * (good_s + bad_s))
    assert scene.acknowledged() > acknowledged
    scene.end()


def test_live_comes_first_after_a_tunnel_and_the_backlog_beside_it(
    broker, listener, vehicle, tmp_path
):
    settings = DeliverySettings(in_flight=8)
    with Scene(
        tmp_path,
        broker.port,
        vehicle,
        witness=listener,
        delivery=settings,
        flush_interval_s=1.0,
    ) as scene:
        scene.wait_connected()
        scene.wait_progress()
        scene.become("cut")
        outbox = scene.delivery.outbox
        for rows in (3000, 6000):
            scene.record(3000)
            wait(
                lambda rows=rows: outbox.backlog(Kind.SAMPLE) >= rows, "the backlog is not on disk"
            )
        heard_before = len(listener.messages)
        newest_old = len(scene.created)
        scene.become()
        scene.wait_progress(6100)
        scene.end()
        after = [
            message
            for message in listener.messages[heard_before:]
            if message[0].startswith("telemetry/")
        ]
        first_live = next(
            place
            for place, message in enumerate(after)
            if max(n for _, n in identities([message])) > newest_old
        )
        batches = [topic for topic, _ in after].count("telemetry/van-1/batch")
        assert batches >= 10
        # the window may be full of backlog already when the first live one is created
        assert first_live <= settings.in_flight, "the backlog went first"


def test_a_handshake_that_never_ends_is_given_up_again_and_again_and_leaves_no_threads(
    broker, listener, vehicle, tmp_path
):
    for_s = long(5, 120)
    limits = PublisherLimits(connect_timeout_s=0.4, backoff=BACKOFF)
    with Scene(tmp_path, broker.port, vehicle, witness=listener, limits=limits) as scene:
        scene.become("half-open")
        time.sleep(for_s)
        assert 2 <= scene.attempts <= most_attempts(BACKOFF, for_s)
        dialling = [one for one in threading.enumerate() if one.name.startswith("mqtt-")]
        assert len(dialling) <= 2, "an attempt that was given up still holds its thread"
        scene.become()
        assert scene.end().duplicated == 0


def test_the_back_off_of_a_real_vehicle_stays_under_what_iot_core_takes_from_one_client_id():
    """One CONNECT a second at most, and in the long run less than one in ten seconds."""
    real = BackoffSettings()
    assert real.least_gap_s >= 1.0
    assert 2 / real.cap_s < 0.1
    assert most_attempts(real, 3600) < 3600 / 10
