"""Settings that change while the agent works: what goes on, and what changes at once."""

import pytest

from agent.config import DeliverySettings, SamplingSettings, ThresholdSettings
from agent.engine.harsh import HarshWatch
from agent.engine.modes import ModeMachine, Situation
from agent.engine.state import Speed
from agent.engine.watches import BatteryChange, BatteryWatch
from agent.inputs import SamplingChanged
from agent.outbox import Kind
from agent.publisher import TokenBucket
from contract import Mode
from tests.agent.test_engine import Rig
from tests.fakes.outbox_bench import Bench as OutboxBench
from tests.fakes.publisher_bench import BATCH, TELEMETRY, Bench

PARKED = Situation(speed_kmh=0.0, in_use=False, battery_percent=50.0)


def change(rig, **sampling):
    rig.engine.apply(SamplingSettings.model_validate(sampling))
    rig.engine.step(rig.inbox.get(0), rig.clock.monotonic_s())


# --- the engine ------------------------------------------------------------------------


def test_another_rate_counts_from_the_last_sample_on(tmp_path):
    rig = Rig(tmp_path)
    rig.run(3)
    change(rig, normal={"interval_s": 0.5})
    rig.run(3)
    numbers = [sample.sequence for sample in rig.samples]
    assert numbers == list(range(1, 10)), "3 at one a second, 6 at two"
    assert rig.modes[-1] == (Mode.NORMAL, 0.5)
    assert rig.engine.account()["sample_interval_s"] == 0.5
    change(rig, normal={"interval_s": 10})
    rig.run(9)
    assert len(rig.samples) == 9


def test_the_mode_and_the_trip_go_on_with_other_settings(tmp_path):
    rig = Rig(tmp_path)
    rig.drive(20, 30.0)
    trip = rig.samples[-1].vehicle_status.trip_id
    events = len(rig.recorder.events)
    change(rig, in_trip={"interval_s": 1}, thresholds={"trip_leave_dwell_s": 5})
    rig.drive(5, 30.0)
    assert rig.samples[-1].vehicle_status.trip_id == trip
    assert len(rig.recorder.events) == events
    assert rig.engine.account()["mode"] == "in_trip"
    rig.drive(15, 0.0)
    assert rig.engine.account()["mode"] == "normal", "the shorter dwell is in force"


def test_what_has_held_so_long_counts_towards_another_dwell():
    machine = ModeMachine(ThresholdSettings(), Mode.IN_TRIP)
    for second in range(30):
        assert machine.observe(PARKED, second) is None
    machine.apply(ThresholdSettings(trip_leave_dwell_s=20))
    transition = machine.observe(PARKED, 30)
    assert (transition.source, transition.target) == (Mode.IN_TRIP, Mode.NORMAL)


def test_watches_take_other_limits():
    battery = BatteryWatch(ThresholdSettings())
    battery.apply(ThresholdSettings(battery_low_percent=60, battery_recovered_percent=70))
    battery.observe(50, charging=False, now_s=0)
    assert battery.observe(50, charging=False, now_s=10) is BatteryChange.LOW
    harsh = HarshWatch(ThresholdSettings())
    harsh.apply(ThresholdSettings(harsh_braking_mps2=2.0))
    speeds = [50.0, 50.0, 40.0, 40.0]
    told = [harsh.observe(Speed(kmh, at, "can"), None, at) for at, kmh in enumerate(speeds)]
    assert told[:3] == [None, None, None]
    assert told[3].mps2 == pytest.approx(2.78, abs=0.01)


def test_a_change_is_never_dropped_for_fixes(tmp_path):
    rig = Rig(tmp_path)
    rig.engine.apply(SamplingSettings())
    for _ in range(1000):
        rig.inbox.put(rig.fix())
    assert isinstance(rig.inbox.get(0), SamplingChanged)


# --- the publisher ---------------------------------------------------------------------


def test_live_samples_are_gathered_from_now_on_and_no_more(tmp_path):
    bench = Bench(tmp_path)
    bench.connect()
    bench.put(1)
    bench.turn()
    assert bench.topics()[-1] == TELEMETRY
    bench.publisher.apply(DeliverySettings(batch_s=10))
    bench.turn()
    sent = len(bench.topics())
    for _ in range(9):
        bench.put(1)
        bench.turn(1.0)
        bench.transport.ack_all()
    assert bench.topics()[sent:].count(TELEMETRY) == 0
    bench.put(1)
    bench.turn(2.0)
    assert BATCH in bench.topics()[sent:]
    bench.publisher.apply(DeliverySettings())
    bench.transport.ack_all()
    bench.put(1)
    bench.turn()
    assert bench.topics()[-1] == TELEMETRY
    bench.until_quiet()
    assert sorted(bench.delivered()) == [("samples", n) for n in range(1, bench.sequence + 1)]


def test_another_rate_limits_from_now_on_and_what_is_in_flight_stays(tmp_path):
    bench = Bench(tmp_path, in_flight=100)
    bench.connect()
    bench.put(10)
    bench.turn()
    assert len(bench.transport.waiting) == 10
    bench.publisher.apply(DeliverySettings(max_publishes_per_s=1, in_flight=100))
    bench.put(40)
    bench.turn()
    at_once = bench.topics().count(TELEMETRY)
    assert at_once <= 10 + 4, "a burst of the new rate at most"
    for _ in range(10):
        bench.turn(1.0)
    assert bench.topics().count(TELEMETRY) - at_once <= 11


def test_a_bucket_keeps_its_debt_and_at_most_the_new_burst():
    bucket = TokenBucket(rate=10, burst=20, now_s=0.0)
    bucket.change(rate=1, burst=4, now_s=0.0)
    for _ in range(4):
        assert bucket.wait_s(0.0) == 0
        bucket.take(0.0, 1)
    assert bucket.wait_s(0.0) == pytest.approx(1.0)
    bucket.take(0.0, 50)
    bucket.change(rate=10, burst=20, now_s=0.0)
    assert bucket.wait_s(0.0) == pytest.approx(5.1)


# --- the outbox ------------------------------------------------------------------------


def test_a_smaller_outbox_is_thinned_and_events_stay(tmp_path):
    bench = OutboxBench(tmp_path)
    for block in range(20):
        bench.put(*range(block * 500 + 1, block * 500 + 501), size=1000, lat=50.0)
        bench.flush()
    bench.put(10_001, kind=Kind.EVENT)
    bench.flush()
    before = bench.outbox.waiting()
    bench.outbox.apply(flush_interval_s=1.0, max_bytes=3_000_000, max_age_s=86_400)
    bench.flush(rounds=60)
    assert bench.outbox.waiting() < before / 2
    assert bench.on_disk(Kind.EVENT) == [10_001]
    tally = bench.outbox.tally()
    assert sum(tally.dropped.values()) == before - bench.outbox.waiting(), "each is counted"


def test_another_flush_interval_is_in_force_at_once(tmp_path):
    bench = OutboxBench(tmp_path)
    bench.put(1)
    assert bench.outbox.flush_in_s() <= 1.0
    bench.outbox.needs_flush.clear()
    bench.outbox.apply(flush_interval_s=20.0, max_bytes=50_000_000, max_age_s=86_400)
    assert bench.outbox.needs_flush.is_set(), "the writer looks again"
    assert bench.outbox.flush_in_s() > 5.0
    assert bench.outbox.flush_interval_s == 20.0
