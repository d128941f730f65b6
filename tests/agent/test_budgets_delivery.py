"""What a budget does to engine, outbox and publisher; and its cap against a real broker."""

import dataclasses
import os
import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.account import flash_bytes_written, imbalance
from agent.budgets import Budget, Budgets, Stage
from agent.config import (
    BudgetSettings,
    DeliverySettings,
    PositionSettings,
    RateSettings,
    SamplingSettings,
)
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.engine.trips import TripKeeper
from agent.inputs import Fix, FixReceived, Inbox
from agent.outbox import Eviction, Kind, Message, Outbox, Store
from agent.ports import Allowance, Flow, TimeBase
from agent.publisher import Publisher
from agent.publisher.spending import GATHER_S, PUBLISH_OVERHEAD_BYTES
from contract import Mode, TimeQuality, Topics, decode_batch, decode_event, decode_sample, encode
from tests.agent.test_publisher_core import BATCH, EVENTS, STATUS, TELEMETRY, Bench
from tests.fakes.clock import START, FakeClock
from tests.fakes.delivering_vehicle import RealTime, make_delivery, make_sample
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.fakes.relay import Relay
from tests.fakes.transport import FakeTransport

TRICKLE = Allowance(Flow.TRICKLE, left_bytes=0, trickle_s=900.0)


# --- the publisher -----------------------------------------------------------------


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_used_up_budget_lets_events_go_and_one_sample_now_and_then(bench):
    bench.connect()
    bench.publisher.allow(TRICKLE)
    for _ in range(2000):
        bench.put(1)
        bench.turn()
        bench.turn(1.0)
        bench.transport.ack_all()
    bench.put(1, Kind.EVENT)
    bench.turn()
    bench.transport.ack_all()
    bench.turn()
    topics = bench.topics()
    assert topics.count(TELEMETRY) == 3
    assert topics.count(EVENTS) == 1
    assert BATCH not in topics
    assert topics.count(STATUS) <= 4
    assert bench.outbox.waiting() == 2000 - 3


def test_what_a_used_up_budget_held_back_goes_when_there_is_a_new_one(bench):
    bench.connect()
    bench.publisher.allow(TRICKLE)
    bench.put(300)
    for _ in range(5):
        bench.turn(1.0)
        bench.transport.ack_all()
    bench.publisher.allow(Allowance(Flow.FREE, left_bytes=10_000_000))
    bench.until_quiet()
    assert sorted(bench.delivered()) == [("samples", n) for n in range(1, 301)]


def test_a_backlog_stops_by_itself_at_what_is_left_before_the_next_measurement(bench):
    bench.put(5_000)
    bench.turn(2.0)
    left = 3_000
    bench.publisher.allow(Allowance(Flow.FREE, left_bytes=left))
    before = bench.publisher.estimated_wire_bytes
    for _ in range(200):
        bench.turn(0.1)
        bench.transport.ack_all()
    most = max(len(one.payload) for one in bench.transport.published) + PUBLISH_OVERHEAD_BYTES
    went = bench.publisher.estimated_wire_bytes - before
    assert left - most <= went <= left + most + 900
    assert bench.publisher.holds_back


def test_what_was_in_flight_at_a_measurement_is_taken_off_too(bench):
    bench.connect()
    bench.put(10)
    bench.turn()
    in_flight = sum(len(one.payload) + PUBLISH_OVERHEAD_BYTES for one in bench.transport.waiting)
    bench.publisher.allow(Allowance(Flow.FREE, left_bytes=in_flight))
    bench.put(1)
    bench.turn()
    assert bench.publisher.holds_back


def test_near_the_cap_samples_go_in_batches_of_a_minute(bench):
    bench.connect()
    bench.publisher.allow(Allowance(Flow.GATHER, left_bytes=1_000_000))
    bench.turn()
    for _ in range(int(GATHER_S) * 3):
        bench.put(1)
        bench.turn(1.0)
        bench.transport.ack_all()
    assert TELEMETRY not in bench.topics()
    assert 2 <= bench.topics().count(BATCH) <= 3
    assert bench.outbox.waiting() <= GATHER_S + 2


def test_an_orderly_stop_does_not_wait_for_what_the_budget_holds_back(tmp_path):
    delivery = make_delivery(
        tmp_path,
        1,
        {"ca_file": "/none", "certificate_file": "/none", "key_file": "/none"},
        transport=FakeTransport(auto_ack=True),
        budget=BudgetSettings(data_mb_per_day=0.000001),
    )
    delivery.start()
    wait(lambda: delivery.publisher.holds_back, "held back")
    for sequence in range(1, 50):
        delivery.record_sample(make_sample(sequence, RealTime(), "0000000a"))
    slept = []
    delivery._clock = FakeClock()
    delivery._clock.sleep_s = slept.append
    delivery.stop(3600)
    assert slept == []
    assert imbalance(delivery.account()) == 0


# --- a day in the life -------------------------------------------------------------


class Vehicle:
    """Engine, budgets, outbox, publisher and an obliging broker on one fake clock."""

    def __init__(self, folder, start, **caps):
        self.clock = FakeClock(start=start)
        self.transport = FakeTransport(auto_ack=True)
        self.run_id = "f3a1c2d40000"
        self.flash = 0
        self.rates = []
        self.outbox = Outbox(
            store=Store(folder / "outbox.db"),
            clock=self.clock,
            run_id=self.run_id,
            flush_interval_s=1.0,
            eviction=Eviction(max_bytes=50_000_000, max_age_s=1e9),
        )
        self.outbox.open()
        self.publisher = Publisher(
            clock=self.clock,
            random=random.Random(1),
            outbox=self.outbox,
            transport=self.transport,
            topics=Topics("van-1"),
            settings=DeliverySettings(),
            make_status=lambda: b'{"status":1}',
        )
        self.budgets = Budgets(
            clock=self.clock,
            vehicle_id="van-1",
            folder=folder,
            settings=BudgetSettings(**{"flash_mb_per_day": 0, "day_spread_s": 600, **caps}),
            read_bytes={
                Budget.DATA: lambda: self.publisher.estimated_wire_bytes,
                Budget.FLASH: lambda: self.flash,
            },
            on_allowance=self.publisher.allow,
        )
        self.budgets.start()
        self.engine = Engine(
            identity=EngineIdentity("van-1", self.run_id),
            sampling=SamplingSettings(in_trip=RateSettings(interval_s=0.5)),
            clock=self.clock,
            inbox=Inbox(),
            state=VehicleState(
                observe_time=lambda fix_time, _: fix_time,
                readers=(),
                position=PositionSettings(),
                odometer=GpsOdometer(folder),
                stale_after_s=5.0,
            ),
            trips=TripKeeper(folder, boot_id="boot", resume_s=900),
            recorder=self,
            on_rate=self.rates.append,
            take_unreported_drops=self.outbox.take_unreported_drops,
            budget_stages=self.budgets.stages,
            take_budget_changes=self.budgets.take_changes,
        )
        self.engine.prepare()

    def record_sample(self, sample):
        self._put(Kind.SAMPLE, sample)

    def record_event(self, event):
        self._put(Kind.EVENT, event)

    def _put(self, kind, message):
        taken_ms = int(message.timestamp.timestamp() * 1000)
        self.outbox.put(
            Message(
                kind,
                message.run_id,
                message.sequence,
                encode(message),
                taken_ms,
                self.clock.monotonic_s(),
            )
        )

    def run(self, length_s, speed_kmh):
        for tick in range(round(length_s * 2)):
            now_s = self.clock.monotonic_s()
            fix = None
            if tick % 2 == 0:
                fix = FixReceived(
                    Fix(now_s, 50.0 + now_s * 1e-5, 8.0, self.clock.utc(), speed_kmh=speed_kmh)
                )
            self.engine.step(fix, now_s)
            if self.outbox.flush_in_s() == 0:
                self.outbox.flush()
            self.budgets.look()
            self.publisher.step()
            self.publisher.step()
            self.clock.advance(0.5)

    def events(self):
        return [
            decode_event(one.payload) for one in self.transport.published if one.topic == EVENTS
        ]

    def received(self):
        sequences = [event.sequence for event in self.events()]
        for one in self.transport.acknowledged:
            if one.topic == TELEMETRY:
                sequences.append(decode_sample(one.payload).sequence)
            elif one.topic == BATCH:
                sequences += [sample.sequence for sample in decode_batch(one.payload)]
        return sequences


def test_a_day_of_driving_through_a_data_cap_and_into_the_next_day(tmp_path):
    """The cap holds, the trip goes on as one, and the next day brings everything."""
    vehicle = Vehicle(
        tmp_path,
        datetime(2026, 3, 1, 23, 0, tzinfo=UTC),
        data_mb_per_day=0.5,
        trickle_s=600,
        near_percent=95,
    )
    vehicle.run(3500, speed_kmh=50.0)
    account = vehicle.engine.account()
    assert (account["mode"], account["wanted_mode"]) == ("saver", "in_trip")
    assert account["limited_by"] == "data"
    assert vehicle.publisher.estimated_wire_bytes <= 500_000 + 40_000
    assert vehicle.outbox.waiting() > 5
    begins_s = vehicle.budgets.account()["day_begins_s_after_midnight_utc"]
    vehicle.run(100 + begins_s + 30, speed_kmh=50.0)
    vehicle.run(200, speed_kmh=0.0)
    kinds = [e.event_type for e in vehicle.events() if e.event_type != "harsh_braking"]
    assert kinds == [
        "trip_started",
        "mode_changed",
        "budget_near",
        "budget_reached",
        "mode_changed",
        "budget_restored",
        "mode_changed",
        "mode_changed",
        "trip_ended",
    ]
    changes = [e.details for e in vehicle.events() if e.event_type == "mode_changed"]
    assert [(d["from"], d["to"], d["reason"]) for d in changes] == [
        ("normal", "in_trip", "driving"),
        ("in_trip", "saver", "data_budget"),
        ("saver", "in_trip", "budget_restored"),
        ("in_trip", "normal", "standing"),
    ]
    assert len({event.trip_id for event in vehicle.events()}) == 1
    reached = next(e.details for e in vehicle.events() if e.event_type == "budget_reached")
    assert (reached["budget"], reached["cap_mb"], reached["day"]) == ("data", 0.5, "2026-03-01")
    vehicle.publisher.drain()
    for _ in range(10):
        vehicle.publisher.step()
    created = vehicle.engine.account()["last_sequence"]
    assert sorted(vehicle.received()) == list(range(1, created + 1))
    assert vehicle.outbox.tally().dropped == {}


def test_a_flash_cap_lowers_the_rate_in_two_steps_and_sends_on(tmp_path):
    vehicle = Vehicle(tmp_path, START, flash_mb_per_day=1)
    vehicle.run(20, speed_kmh=50.0)
    vehicle.flash = 850_000
    vehicle.run(5, speed_kmh=50.0)
    vehicle.flash = 1_000_000
    vehicle.run(130, speed_kmh=50.0)
    assert [(rate.mode, rate.limited_by) for rate in vehicle.rates] == [
        (Mode.NORMAL, None),
        (Mode.IN_TRIP, None),
        (Mode.NORMAL, Budget.FLASH),
        (Mode.SAVER, Budget.FLASH),
    ]
    assert vehicle.engine.account()["seconds_in_mode"]["saver"] > 100
    assert vehicle.outbox.waiting() == 0


# --- real peers --------------------------------------------------------------------


class SteppedTime(RealTime):
    """The real monotonic clock; UTC is moved by the test."""

    def __init__(self):
        self.moved = timedelta(0)

    def utc(self):
        return super().utc() + self.moved

    def base(self):
        return TimeBase(START + self.moved, TimeQuality.GPS)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


def wait(condition, what, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_a_data_cap_holds_on_the_wire_to_a_real_broker_and_loses_nothing(pki, tmp_path, free_port):
    """Counted by a relay that knows nothing of the agent; the reserve is 16 kB."""
    identity = {k: str(path) for k, path in dataclasses.asdict(pki.vehicle("van-1")).items()}
    cap, reserve, count = 60_000, 16_000, 3_000
    clock = SteppedTime()
    with (
        Mosquitto(tmp_path / "broker", pki.broker(), free_port()) as broker,
        Relay(broker.port) as relay,
        MosquittoSub(pki.vehicle(LISTENER), broker.port) as listener,
    ):
        delivery = make_delivery(
            tmp_path / "state",
            relay.port,
            identity,
            clock=clock,
            delivery=DeliverySettings(max_bytes_per_s=50_000),
            budget=BudgetSettings(
                data_mb_per_day=cap / 1e6, near_percent=100, day_spread_s=0, flash_mb_per_day=0
            ),
        )
        delivery.start()
        try:
            wait(lambda: delivery.publisher.connected, "connected")
            for sequence in range(1, count + 1):
                delivery.record_sample(make_sample(sequence, clock, "0000000a"))
                if sequence % 20 == 0:
                    time.sleep(0.02)
            wait(lambda: delivery.account()["budgets"]["data"]["stage"] == "reached", "reached")
            time.sleep(2.5)
            on_the_wire = relay.relayed_bytes
            assert cap * 0.7 < delivery.account()["wire_bytes"] <= cap + reserve
            assert on_the_wire <= delivery.account()["wire_bytes"]
            assert delivery.outbox.waiting() > 0
            clock.moved = timedelta(days=1)
            held = delivery.outbox.waiting()
            wait(lambda: delivery.outbox.waiting() < held / 2, "the next day goes on")
            delivery.budgets.apply(BudgetSettings(day_spread_s=0))
            wait(lambda: delivery.outbox.waiting() == 0, "all sent")
            assert imbalance(delivery.account()) == 0
        finally:
            delivery.stop(0)
        heard = [decode_sample(p).sequence for p in listener.on(TELEMETRY)]
        for payload in listener.on(BATCH):
            heard += [sample.sequence for sample in decode_batch(payload)]
    assert sorted(set(heard)) == list(range(1, count + 1))


def test_files_of_jobs_are_mobile_data_too(pki, tmp_path, free_port):
    identity = {k: str(path) for k, path in dataclasses.asdict(pki.vehicle("van-1")).items()}
    fetched = 0
    delivery = make_delivery(
        tmp_path / "state",
        free_port(),
        identity,
        budget=BudgetSettings(data_mb_per_day=2, day_spread_s=0, flash_mb_per_day=0),
        files_wire_bytes=lambda: fetched,
    )
    delivery.start()
    try:
        assert delivery.account()["budgets"]["data"]["stage"] == "within"
        fetched = 3_000_000
        wait(lambda: delivery.account()["budgets"]["data"]["stage"] == "reached", "reached")
        assert delivery.account()["wire_bytes"] >= fetched
    finally:
        delivery.stop(0)


@pytest.mark.needs("mosquitto")
def test_the_kernels_count_is_what_a_relay_sees_plus_the_headers(pki, tmp_path, free_port):
    identity = {k: str(path) for k, path in dataclasses.asdict(pki.vehicle("van-1")).items()}
    with (
        Mosquitto(tmp_path / "broker", pki.broker(), free_port()) as broker,
        Relay(broker.port) as relay,
    ):
        delivery = make_delivery(tmp_path / "state", relay.port, identity)
        delivery.start()
        try:
            for sequence in range(1, 201):
                delivery.record_sample(make_sample(sequence, RealTime(), "0000000a"))
            wait(lambda: delivery.outbox.waiting() == 0, "all sent")
            first = delivery.account()["wire_bytes"]
            assert relay.relayed_bytes <= first <= 1.5 * relay.relayed_bytes + 10_000
            relay.cut()
            wait(lambda: not delivery.publisher.connected, "cut")
            assert delivery.account()["wire_bytes"] >= relay.relayed_bytes
            relay.mend()
            wait(lambda: delivery.publisher.connected, "connected again")
            assert delivery.account()["wire_bytes"] > first + 3_000
        finally:
            delivery.stop(0)
        assert delivery.account()["wire_bytes"] >= relay.relayed_bytes


def test_offline_the_flash_budget_counts_what_really_goes_to_the_disk(tmp_path):
    probe = tmp_path / "probe"
    before = flash_bytes_written()
    with probe.open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())
    if flash_bytes_written() - before < 100_000:
        pytest.skip("the temporary folder is no storage that the kernel counts (a tmpfs)")
    delivery = make_delivery(
        tmp_path / "state",
        1,
        {"ca_file": "/none", "certificate_file": "/none", "key_file": "/none"},
        flush_interval_s=0.05,
        budget=BudgetSettings(flash_mb_per_day=flash_bytes_written() / 1e6 + 0.5),
    )
    delivery.start()
    try:
        before = flash_bytes_written()
        sequence = 0
        deadline = time.monotonic() + 60
        while delivery.budgets.stages()[Budget.FLASH] is not Stage.REACHED:
            assert time.monotonic() < deadline
            sequence += 1
            delivery.record_sample(make_sample(sequence, RealTime(), "0000000a"))
            time.sleep(0.01)
        written = flash_bytes_written() - before
        assert written >= 200_000
        assert written / sequence > 500
        used = delivery.account()["budgets"]["flash"]
        assert used["stage"] == "reached"
        assert used["used_bytes"] <= flash_bytes_written()
        kinds = [change.stage for change in delivery.budgets.take_changes()]
        assert kinds[-1] is Stage.REACHED
        assert delivery.outbox.tally().dropped == {}
    finally:
        delivery.stop(0)


@pytest.mark.needs("mosquitto")
def test_a_dial_whose_handshake_fails_is_counted_too(pki, tmp_path, free_port):
    other = Pki(tmp_path / "other-pki")
    stranger = {k: str(path) for k, path in dataclasses.asdict(other.vehicle("van-1")).items()}
    with Mosquitto(tmp_path / "broker", pki.broker(), free_port()) as broker:
        delivery = make_delivery(tmp_path / "state", broker.port, stranger)
        delivery.start()
        try:
            wait(lambda: delivery.account()["wire_bytes"] > 500, "counted")
            assert not delivery.publisher.connected
        finally:
            delivery.stop(0)
