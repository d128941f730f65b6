"""The engine in its thread, on the real clock, recording into lists: what a source leads to."""

from agent.config import PositionSettings, SamplingSettings
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.engine.trips import TripKeeper
from agent.host import SystemClock
from agent.inputs import Inbox
from tests.fakes.recorder import ListRecorder


class RunningEngine:
    """A context manager; five samples a second in every mode."""

    def __init__(self, folder, stale_after_s=2.0):
        self.clock = SystemClock()
        self.inbox = Inbox()
        self.recorder = ListRecorder()
        often = {"interval_s": 0.2}
        self._engine = Engine(
            identity=EngineIdentity("van-1", "f3a1c2d40000"),
            sampling=SamplingSettings(in_trip=often, normal=often, idle=often, saver=often),
            clock=self.clock,
            inbox=self.inbox,
            state=VehicleState(
                observe_time=self.clock.observe_gps,
                readers=(),
                position=PositionSettings(),
                stale_after_s=stale_after_s,
                odometer=GpsOdometer(folder),
            ),
            trips=TripKeeper(folder, boot_id="boot", resume_s=900),
            recorder=self.recorder,
            on_rate=lambda rate: None,
            take_unreported_drops=list,
        )

    def __enter__(self):
        self._engine.start()
        return self

    def __exit__(self, *_):
        self._engine.stop()

    def faults(self):
        """Raised and cleared, in their order: type, code, cause."""
        return [
            (event.event_type, event.details["code"], event.details.get("cause"))
            for event in list(self.recorder.events)
            if event.event_type.startswith("fault_")
        ]

    def newest(self):
        """The newest sample, or None."""
        samples = list(self.recorder.samples)
        return samples[-1] if samples else None

    def has_position(self):
        """Whether the newest sample says where the vehicle is."""
        sample = self.newest()
        return sample is not None and sample.location is not None
