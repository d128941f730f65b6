"""The engine as a whole, step by step: what a sample holds and which events come."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.config import CanSettings, PositionSettings, SamplingSettings
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.engine.trips import TripKeeper
from agent.inputs import QUEUE_LIMIT, Fix, FixReceived, Inbox, SourceChanged
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.dbc.compile import compile_in_process
from contract import Mode, TimeQuality, decode_sample, encode
from tests.fakes.can_frames import frames_of
from tests.fakes.clock import FakeClock
from tests.fakes.recorder import FixedReader, ListRecorder

BOOT_1970 = datetime(1970, 1, 1, tzinfo=UTC)
UNSYNCED = TimeQuality.UNSYNCED
METRES_PER_DEGREE = 111_195


class Rig:
    """An engine on a fake clock; ``run`` lets time pass in steps of 0.1 s."""

    def __init__(self, folder, *readers, boot_id="boot", clock=None, drops=dict, believe=True):
        self.clock = clock or FakeClock()
        self.recorder = ListRecorder()
        self.modes = []
        self.inbox = Inbox()
        self.state = VehicleState(
            observe_time=lambda fix_time, received_s: fix_time if believe else None,
            readers=readers,
            position=PositionSettings(),
            stale_after_s=5.0,
            odometer=GpsOdometer(folder),
        )
        self.engine = Engine(
            identity=EngineIdentity("van-1", "f3a1c2d40000"),
            sampling=SamplingSettings(),
            clock=self.clock,
            inbox=self.inbox,
            state=self.state,
            trips=TripKeeper(folder, boot_id=boot_id, resume_s=900),
            recorder=self.recorder,
            on_rate=lambda rate: self.modes.append((rate.mode, rate.interval_s)),
            take_unreported_drops=drops,
        )
        self.lat = 50.0
        self.engine.prepare()

    def run(self, length_s, item_every_s=None, make_item=None):
        for tick in range(round(length_s * 10)):
            item = None
            if item_every_s and tick % round(item_every_s * 10) == 0:
                item = make_item()
            self.engine.step(item, self.clock.monotonic_s())
            self.clock.advance(0.1)

    def fix(self, lat=50.0, speed_kmh=0.0, **fields):
        now_s = self.clock.monotonic_s()
        time_of_fix = fields.pop("time", self.clock.utc() - timedelta(seconds=0.2))
        fields = {"lon": 8.0, "heading": 90.0, "accuracy_m": 3.0, **fields}
        return FixReceived(
            Fix(received_s=now_s, lat=lat, speed_kmh=speed_kmh, time=time_of_fix, **fields)
        )

    def drive(self, length_s, speed_kmh):
        """North at a constant speed, one fix a second."""

        def next_fix():
            self.lat += speed_kmh / 3.6 / METRES_PER_DEGREE
            return self.fix(lat=self.lat, speed_kmh=speed_kmh)

        self.run(length_s, 1.0, next_fix)

    @property
    def samples(self):
        return self.recorder.samples


def test_without_sources_a_sample_holds_only_what_is_always_there(tmp_path):
    rig = Rig(tmp_path)
    rig.run(3)
    assert [sample.sequence for sample in rig.samples] == [1, 2, 3]
    assert rig.samples[0].model_dump(exclude_none=True).keys() == {
        "schema_version",
        "vehicle_id",
        "run_id",
        "sequence",
        "timestamp",
        "time_quality",
    }


def test_an_unchanged_fix_keeps_its_own_time_and_a_stale_one_is_left_out(tmp_path):
    rig = Rig(tmp_path)
    rig.engine.step(rig.fix(), rig.clock.monotonic_s())
    first = rig.clock.utc() - timedelta(seconds=0.2)
    rig.clock.advance(0.5)
    rig.run(9)
    with_fix = [sample for sample in rig.samples if sample.location is not None]
    assert len(with_fix) in (5, 6)
    assert {sample.location.fix_time for sample in with_fix} == {first}
    assert len({sample.timestamp for sample in with_fix}) == len(with_fix)
    assert rig.samples[-1].location is None
    assert rig.samples[-1].motion is None


def test_a_fix_time_that_is_not_believed_is_replaced_by_that_of_arrival(tmp_path):
    rig = Rig(tmp_path, believe=False)
    arrived = []
    for _ in range(5):
        arrived.append(rig.clock.utc())
        rollover = rig.clock.utc() + timedelta(weeks=1024)
        rig.engine.step(rig.fix(time=rollover), rig.clock.monotonic_s())
        rig.clock.advance(1)
    told = [sample.location and sample.location.fix_time for sample in rig.samples]
    assert told == [None, None, *arrived[2:]], "a receiver that stays in the future has its place"
    assert rig.engine.account()["fixes_rejected"] == {"future_time": 2}


def test_a_trip_begins_samples_fast_and_ends(tmp_path):
    rig = Rig(tmp_path)
    rig.drive(10, 30.0)
    trip_id = rig.samples[-1].vehicle_status.trip_id
    assert rig.recorder.event_types() == ["trip_started", "mode_changed"]
    assert {event.trip_id for event in rig.recorder.events} == {trip_id}
    assert rig.modes == [(Mode.NORMAL, 1.0), (Mode.IN_TRIP, 0.2)]
    before = len(rig.samples)
    rig.drive(10, 30.0)
    assert len(rig.samples) - before == 50
    rig.drive(1, 14.0)
    rig.drive(130, 0.0)
    assert rig.recorder.event_types()[2:] == ["harsh_braking", "mode_changed", "trip_ended"]
    ended = rig.recorder.events[-1]
    assert ended.trip_id == trip_id
    assert ended.details["duration_s"] == pytest.approx(136, abs=2)
    assert ended.details["distance_km"] == pytest.approx(0.13, abs=0.01)
    assert ended.details["distance_source"] == "gps"
    assert rig.samples[-1].vehicle_status is None
    numbers = [m.sequence for m in rig.samples + rig.recorder.events]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_the_account_counts_what_was_created(tmp_path):
    rig = Rig(tmp_path)
    rig.drive(20, 30.0)
    rig.engine.step(rig.fix(lat=0.0, lon=0.0), rig.clock.monotonic_s())
    account = rig.engine.account()
    assert account["samples_created"] == len(rig.samples)
    assert account["events_created"] == len(rig.recorder.events) == len(account["events"])
    assert account["last_sequence"] == account["samples_created"] + account["events_created"]
    assert account["fixes_received"] == 21
    assert account["fixes_rejected"] == {"zero_position": 1}
    assert account["mode"] == "in_trip"
    assert sum(account["seconds_in_mode"].values()) == pytest.approx(20, abs=0.2)


def test_can_goes_before_gps_and_gps_fills_in(tmp_path):
    reader = FixedReader(**{"motion.speed_kmh": 12.5, "battery.percent": 55, "signals.rpm": 900})
    rig = Rig(tmp_path, reader)
    rig.engine.step(rig.fix(speed_kmh=10.0), rig.clock.monotonic_s())
    sample = rig.samples[0]
    assert (sample.motion.speed_kmh, sample.motion.heading) == (12.5, 90.0)
    assert sample.battery.percent == 55
    assert sample.signals == {"rpm": 900, "gps_distance_km": 0.0}
    assert decode_sample(encode(sample)) == sample
    reader.values.clear()
    rig.clock.advance(1)
    rig.engine.step(None, rig.clock.monotonic_s())
    assert rig.samples[1].motion.speed_kmh == 10.0
    assert rig.samples[1].battery is None
    assert rig.samples[1].signals == {"gps_distance_km": 0.0}


def test_what_the_contract_refuses_is_left_out_and_counted(tmp_path):
    reader = FixedReader(**{"battery.percent": 140, "battery.voltage": 48.5})
    rig = Rig(tmp_path, reader)
    rig.run(2)
    assert rig.samples[0].battery.percent is None
    assert rig.samples[0].battery.voltage == 48.5
    assert rig.engine.account()["values_refused"] == 2


def test_an_altitude_where_no_vehicle_drives_is_left_out_and_counted(tmp_path):
    rig = Rig(tmp_path)
    rig.engine.step(rig.fix(altitude_m=-704.0), rig.clock.monotonic_s())
    rig.clock.advance(1)
    rig.engine.step(rig.fix(lat=50.0001, altitude_m=-430.0), rig.clock.monotonic_s())
    assert [sample.location.altitude for sample in rig.samples] == [None, -430.0]
    assert rig.engine.account()["values_refused"] == 1


def test_an_acceleration_needs_all_its_axes(tmp_path):
    axes = {f"motion.acceleration.{axis}": 1.0 for axis in "xyz"}
    rig = Rig(tmp_path, FixedReader(**axes))
    rig.run(0.1)
    assert rig.samples[0].motion.acceleration.z == 1.0
    del axes["motion.acceleration.y"]
    rig = Rig(tmp_path, FixedReader(**axes))
    rig.run(0.1)
    assert rig.samples[0].motion is None


def test_faults_come_from_codes_and_from_sources(tmp_path):
    reader = FixedReader(**{"diagnostics.error_codes": ("P0301",)})
    rig = Rig(tmp_path, reader)
    rig.run(0.1)
    reader.values["diagnostics.error_codes"] = ()
    rig.run(0.1)
    rig.engine.step(SourceChanged("gps", available=False, reason="gone"), 0.0)
    rig.engine.step(SourceChanged("gps", available=True), 0.0)
    assert [(event.event_type, event.details) for event in rig.recorder.events] == [
        ("fault_raised", {"code": "P0301"}),
        ("fault_cleared", {"code": "P0301"}),
        ("fault_raised", {"code": "source:gps", "reason": "gone"}),
        ("fault_cleared", {"code": "source:gps"}),
    ]
    assert rig.samples[0].diagnostics.error_codes == ("P0301",)


def test_the_account_has_the_last_sample_and_the_faults_that_stand(tmp_path):
    reader = FixedReader(**{"diagnostics.error_codes": ("P0301",), "battery.percent": 60.0})
    rig = Rig(tmp_path, reader)
    assert rig.engine.account()["last_sample"] is None
    rig.run(0.1)
    rig.engine.step(SourceChanged("gps", available=False, reason="gone"), 0.0)
    rig.clock.advance(4.9)
    account = rig.engine.account()
    assert account["last_sample"]["battery"] == {"percent": 60.0}
    assert account["last_sample"]["sequence"] == rig.samples[-1].sequence
    assert account["faults"] == [
        {"code": "P0301", "reason": "", "lasts_s": 5.0},
        {"code": "source:gps", "reason": "gone", "lasts_s": 4.9},
    ]
    rig.engine.step(SourceChanged("gps", available=True), 0.0)
    assert [fault["code"] for fault in rig.engine.account()["faults"]] == ["P0301"]


def test_battery_low_and_drops_are_told_by_events(tmp_path):
    told = [[{"reason": "outbox_full", "total_messages": 7}]]
    rig = Rig(
        tmp_path,
        FixedReader(**{"battery.percent": 12.0}),
        drops=lambda: told.pop() if told else [],
    )
    rig.run(15)
    assert sorted(rig.recorder.event_types()) == ["battery_low", "dropped"]
    dropped = next(event for event in rig.recorder.events if event.event_type == "dropped")
    assert dropped.details == {"reason": "outbox_full", "total_messages": 7}


def test_a_trip_keeps_its_id_across_a_restart_in_the_middle(tmp_path):
    first = Rig(tmp_path)
    first.drive(10, 30.0)
    trip_id = first.samples[-1].vehicle_status.trip_id
    second = Rig(tmp_path, boot_id="after the power cut", clock=first.clock)
    second.clock.advance(40)
    second.drive(5, 30.0)
    assert second.samples[0].vehicle_status.trip_id == trip_id
    assert second.modes == [(Mode.IN_TRIP, 0.2)]
    assert second.recorder.event_types() == []


def test_a_trip_that_is_long_over_is_ended_at_the_start(tmp_path):
    first = Rig(tmp_path)
    first.drive(10, 30.0)
    trip_id = first.samples[-1].vehicle_status.trip_id
    first.clock.advance(30 * 3600)
    second = Rig(tmp_path, boot_id="next day", clock=first.clock)
    second.run(1)
    assert second.recorder.events[0].event_type == "trip_ended"
    assert second.recorder.events[0].trip_id == trip_id
    assert second.samples[0].vehicle_status is None


def test_time_quality_is_that_of_the_clock(tmp_path):
    rig = Rig(tmp_path)
    rig.clock.set_quality(TimeQuality.UNSYNCED)
    rig.run(0.1)
    assert rig.samples[0].time_quality is TimeQuality.UNSYNCED


def test_a_fix_from_before_the_time_was_known_is_told_on_the_scale_of_its_message(tmp_path):
    rig = Rig(tmp_path, believe=False, clock=FakeClock(start=BOOT_1970, quality=UNSYNCED))
    rig.engine.step(rig.fix(time=None), rig.clock.monotonic_s())
    rig.clock.advance(1.0)
    rig.run(0.1)
    rig.clock.step_utc(1_700_000_000, TimeQuality.GPS)
    rig.clock.advance(0.9)
    rig.run(0.1)
    ages = [one.timestamp - one.location.fix_time for one in rig.samples]
    assert ages == [timedelta(seconds=age_s) for age_s in (0, 1, 2)]
    assert [one.time_quality for one in rig.samples] == [UNSYNCED, UNSYNCED, TimeQuality.GPS]


def test_the_account_tells_events_with_the_time_that_became_known(tmp_path):
    rig = Rig(tmp_path, clock=FakeClock(start=BOOT_1970, quality=UNSYNCED))
    rig.engine.step(SourceChanged("gpsd", available=False), rig.clock.monotonic_s())
    rig.clock.step_utc(1_700_000_000, TimeQuality.GPS)
    rig.clock.advance(60)
    [event] = rig.engine.account()["events"]
    assert event["timestamp"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.needs_traces
def test_the_recorded_car_gives_its_position_from_can(tmp_path, traces):
    config = CanSettings.model_validate(
        {
            "dbc": [traces / "can/canmod-gps.dbc"],
            "signals": {
                "location.lat": {"signal": "Latitude", "valid_if": "PositionValid"},
                "location.lon": {"signal": "Longitude", "valid_if": "PositionValid"},
                "location.accuracy": "PositionAccuracy",
                "motion.speed_kmh": {
                    "signal": "gnss_speed.Speed",
                    "scale": 3.6,
                    "valid_if": "SpeedValid",
                },
            },
        }
    )
    signals = SignalMap(config, compile_in_process(config.dbc, references(config)))
    rig = Rig(tmp_path, signals)
    start_s, begin = rig.clock.monotonic_s(), None
    for at, frame in frames_of(traces / "can/dev01_car_gps_obd_start.candump"):
        if frame[0] == 9:
            continue
        begin = begin or at
        now_s = start_s + at - begin
        rig.clock.advance(max(0.0, now_s - rig.clock.monotonic_s()))
        signals.take([frame], rig.clock.monotonic_s())
        rig.engine.step(None, rig.clock.monotonic_s())
    located = [sample for sample in rig.samples if sample.location is not None]
    before = [sample for sample in rig.samples if sample.sequence < located[0].sequence]
    assert located[0].timestamp - rig.samples[0].timestamp > timedelta(seconds=100)
    assert all(sample.location is None for sample in before)
    assert all(56.0 < sample.location.lat < 56.2 for sample in located)
    assert all(10.1 < sample.location.lon < 10.3 for sample in located)
    assert len({sample.location.fix_time for sample in located}) > 300
    assert rig.engine.account()["fixes_rejected"] == {}
    assert rig.engine.account()["fixes_received"] > 300
    assert "trip_started" in rig.recorder.event_types()


def test_the_thread_takes_in_what_is_queued_and_stops_at_once(tmp_path):
    clock = FakeClock()
    rig = Rig(tmp_path, clock=clock)
    rig.engine.start()
    rig.inbox.put(SourceChanged("gps", available=False, reason="x"))
    deadline = time.monotonic() + 10
    while not rig.recorder.events:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    rig.engine.stop()
    rig.engine.stop()
    assert time.monotonic() - began < 5
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def test_a_full_inbox_drops_the_oldest_fix_but_no_change_of_state(tmp_path):
    inbox = Inbox()
    inbox.put(SourceChanged("gps", available=False))
    for index in range(QUEUE_LIMIT + 9):
        inbox.put(FixReceived(Fix(float(index), 50.0, 8.0)))
    assert inbox.dropped == 10
    assert isinstance(inbox.get(0), SourceChanged)
    assert inbox.get(0).fix.received_s == 10.0
    inbox.close()
    assert inbox.get(60).fix.received_s == 11.0


def test_a_reader_that_is_due_soon_sleeps_through_fixes_and_finds_them_all(tmp_path):
    inbox = Inbox()
    got = []
    reader = threading.Thread(target=lambda: got.extend(inbox.take(60, fixes_wait=True)))
    reader.start()
    for index in range(3):
        inbox.put(FixReceived(Fix(float(index), 50.0, 8.0)))
    reader.join(0.3)
    assert reader.is_alive(), "a fix is no reason to wake"
    inbox.put(SourceChanged("gps", available=False))
    reader.join(10)
    assert [type(item) for item in got] == [FixReceived] * 3 + [SourceChanged]
    assert [item.fix.received_s for item in got[:3]] == [0.0, 1.0, 2.0]


def test_fixes_that_waited_are_there_when_the_time_is_up(tmp_path):
    inbox = Inbox()
    inbox.put(FixReceived(Fix(1.0, 50.0, 8.0)))
    (item,) = inbox.take(0.05, fixes_wait=True)
    assert item.fix.received_s == 1.0
    assert inbox.take(0, fixes_wait=True) == []
    inbox.put(FixReceived(Fix(2.0, 50.0, 8.0)))
    (item,) = inbox.take(60, fixes_wait=False)
    assert item.fix.received_s == 2.0
    inbox.close()
    assert inbox.take(60, fixes_wait=True) == [], "a closed inbox is not waited for"


def test_a_reader_that_asks_for_fixes_is_woken_by_one(tmp_path):
    inbox = Inbox()
    got = []
    reader = threading.Thread(target=lambda: got.extend(inbox.take(60, fixes_wait=False)))
    reader.start()
    inbox.put(FixReceived(Fix(1.0, 50.0, 8.0)))
    reader.join(10)
    assert len(got) == 1


def test_all_fixes_that_came_before_a_sample_are_in_its_state(tmp_path):
    """Also those that did not wake the engine: the newest one is the sample's."""
    clock = FakeClock()
    rig = Rig(tmp_path, clock=clock)
    for number in range(1, 4):
        clock.advance(1)
        rig.inbox.put(rig.fix(lat=50.0 + number / 10_000))
    rig.engine.start()
    deadline = time.monotonic() + 10
    while not rig.recorder.samples:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    rig.engine.stop()
    assert rig.engine.account()["fixes_received"] == 3
    assert rig.recorder.samples[0].location.fix_time == clock.utc() - timedelta(seconds=0.2)
