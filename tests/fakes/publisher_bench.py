"""Outbox, publisher and a transport in memory on one fake clock, driven round by round."""

import json
import random

from agent.config import DeliverySettings
from agent.outbox import Eviction, Kind, Message, Outbox, Store
from agent.publisher import Publisher
from contract import Topics, decode_batch_rows
from tests.fakes.clock import FakeClock
from tests.fakes.transport import FakeTransport

RUN = "00000001"
TELEMETRY, BATCH, EVENTS, STATUS = (
    "telemetry/van-1",
    "telemetry/van-1/batch",
    "events/van-1",
    "status/van-1",
)


class Bench:
    """Outbox, publisher and a transport in memory on one clock; ``turn`` is one round."""

    def __init__(self, folder, transport=None, limits=None, **settings):
        self.clock = FakeClock()
        self.transport = transport or FakeTransport()
        self.sequence = 0
        self.outbox = Outbox(
            store=Store(folder / "outbox.db"),
            clock=self.clock,
            run_id=RUN,
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
            settings=DeliverySettings(**settings),
            make_status=lambda: b'{"status":1}',
            limits=limits,
        )

    def put(self, count=1, kind=Kind.SAMPLE):
        for _ in range(count):
            self.sequence += 1
            payload = json.dumps({"sequence": self.sequence, "speed": self.sequence * 0.37})
            now_s = self.clock.monotonic_s()
            self.outbox.put(Message(kind, RUN, self.sequence, payload.encode(), None, now_s))

    def turn(self, advance_s=0.0):
        self.clock.advance(advance_s)
        if self.outbox.flush_in_s() == 0:
            self.outbox.flush()
        return self.publisher.step()

    def connect(self):
        self.turn()
        self.turn()
        self.transport.ack_all()
        self.turn()

    def until_quiet(self, turns=400, advance_s=0.1):
        for _ in range(turns):
            self.turn(advance_s)
            self.transport.ack_all()
            if not self.outbox.waiting():
                return
        raise AssertionError(f"{self.outbox.waiting()} still wait")

    def delivered(self):
        """Every acknowledged (kind, sequence), with repetitions."""
        found = []
        for one in self.transport.acknowledged:
            if one.topic == BATCH:
                found += [("samples", row["sequence"]) for row in decode_batch_rows(one.payload)]
            elif one.topic == TELEMETRY:
                found.append(("samples", json.loads(one.payload)["sequence"]))
            elif one.topic == EVENTS:
                found.append(("events", json.loads(one.payload)["sequence"]))
        return found

    def topics(self):
        return [one.topic for one in self.transport.published]
