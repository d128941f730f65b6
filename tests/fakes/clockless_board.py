"""A board without a clock, and the agent on it, turn by turn on fake clocks.

The delivery, the engine and the clock are the real ones; the transport is in memory, and
the threads' rounds are made by ``Process.turn``. A board outlives its processes.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.config import (
    BrokerSettings,
    DeliverySettings,
    OutboxSettings,
    PositionSettings,
    SamplingSettings,
)
from agent.delivery import Delivery
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.engine.trips import TripKeeper
from agent.host import SystemClock
from agent.inputs import Fix, FixReceived, Inbox, SourceChanged
from agent.time_anchor import TimeAnchor
from contract import decode_batch, decode_event, decode_sample
from tests.fakes.recorder import FixedReader
from tests.fakes.transport import FakeTransport

FLUSH_S = 20.0
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Board:
    """``truth`` is the time; ``system_utc`` what the board takes for it."""

    def __init__(self, folder, system_start=datetime(1970, 1, 1, tzinfo=UTC)):
        self.folder = Path(folder)
        self.system_start = system_start
        self.truth = BEGIN
        self.images = 0
        self.state = self.folder / "state-0"
        self.runtime = self.folder / "run"
        self.runtime.mkdir(parents=True)
        self.boots = 0
        self.synchronised = False
        self.boot()

    def boot(self):
        """Start of the board: its clock begins again at ``system_start``, /run is empty."""
        self.boots += 1
        self.boot_id = f"boot-{self.boots}"
        self.now_s = 8.0
        self.system_error = self.system_start - self.truth
        for file in self.runtime.iterdir():
            file.unlink()

    def system_utc(self):
        return self.truth + self.system_error

    def advance(self, duration_s):
        self.truth += timedelta(seconds=duration_s)
        self.now_s += duration_s

    def crash(self):
        """The process dies now: only what its disk holds is there for the next one."""
        self.images += 1
        image = self.folder / f"state-{self.images}"
        shutil.copytree(self.state, image)
        self.state = image

    def power_cut(self, off_s=60.0):
        self.crash()
        self.truth += timedelta(seconds=off_s)
        self.boot()


class Process:
    """One run of the agent on the board. ``truths`` is when each message was created."""

    def __init__(self, board, run_id, *, connected=True, anchor=True, **delivery):
        self.board = board
        self.run_id = run_id
        keeper = TimeAnchor(board.runtime, board.boot_id)
        self.clock = SystemClock(
            monotonic_s=lambda: board.now_s,
            system_utc=board.system_utc,
            kernel_is_synchronised=lambda: board.synchronised,
            kept=keeper.load() if anchor else None,
        )
        self.transport = FakeTransport(auto_connect=connected, auto_ack=True)
        board.state.mkdir(parents=True, exist_ok=True)
        self.delivery = Delivery(
            clock=self.clock,
            vehicle_id="van-1",
            run_id=run_id,
            state_dir=board.state,
            # seldom, so that minutes pass quickly: real syncs take real time
            outbox=OutboxSettings(flush_interval_s=FLUSH_S),
            delivery=DeliverySettings(**delivery),
            broker=BrokerSettings(host="x", ca_file="x", certificate_file="x", key_file="x"),
            software_version="1",
            boot_id=board.boot_id,
            remember_time=keeper.save,
            transport=self.transport,
        )
        self.outbox = self.delivery.outbox
        self.can = FixedReader(**{"location.lat": 50.0, "location.lon": 8.0})
        self.engine = Engine(
            identity=EngineIdentity("van-1", run_id),
            sampling=SamplingSettings(),
            clock=self.clock,
            inbox=Inbox(),
            state=VehicleState(
                observe_time=self.clock.observe_gps,
                readers=[self.can],
                position=PositionSettings(),
                odometer=GpsOdometer(board.state),
                stale_after_s=5.0,
            ),
            trips=TripKeeper(board.state, boot_id=board.boot_id, resume_s=900),
            recorder=self,
            on_rate=self.delivery.set_rate,
            take_unreported_drops=list,
        )
        self.truths = {}
        self.outbox.open()
        self.delivery.time_watch.look()
        self.engine.prepare()

    def record_sample(self, sample):
        self.truths[sample.run_id, sample.sequence] = self.board.truth
        self.delivery.record_sample(sample)

    def record_event(self, event):
        self.truths[event.run_id, event.sequence] = self.board.truth
        self.delivery.record_event(event)

    def turn(self, item=None, step_s=0.5):
        """A round of each thread, then time passes."""
        self.can.at_s = self.board.now_s
        self.engine.step(item, self.board.now_s)
        self.delivery.time_watch.look()
        if self.outbox.flush_in_s() == 0:
            self.outbox.flush()
        else:
            self.outbox.restamp()
        self.delivery.publisher.step()
        self.board.advance(step_s)

    def run(self, length_s, *, fix_delay_s=None):
        """With a fix a second, reported late by ``fix_delay_s``, if one is given."""
        for tick in range(round(length_s * 2)):
            fix = fix_delay_s is not None and tick % 2 == 0
            self.turn(self.fix(fix_delay_s) if fix else None)

    def fix(self, delay_s=0.0):
        moment = self.board.truth - timedelta(seconds=delay_s)
        return FixReceived(Fix(received_s=self.board.now_s, lat=50.0, lon=8.0, time=moment))

    def something_happens(self):
        self.turn(SourceChanged("gpsd", available=False))

    def connect(self):
        self.transport.auto_connect = True
        self.run(130)  # past a dial that gets no answer, and the pause after it

    def received_of(self, earlier):
        """When those messages of an earlier process were created that were delivered now."""
        received = self.received()
        return {key: truth for key, truth in earlier.truths.items() if key in received}

    def received(self):
        """Every sample and event that was delivered, by identity."""
        found = {}
        for one in self.transport.acknowledged:
            if one.topic.startswith("status/"):
                continue
            if one.topic.endswith("/batch"):
                messages = decode_batch(one.payload)
            elif one.topic.startswith("events/"):
                messages = [decode_event(one.payload)]
            else:
                messages = [decode_sample(one.payload)]
            for message in messages:
                assert (message.run_id, message.sequence) not in found, "sent twice"
                found[message.run_id, message.sequence] = message
        return found
