"""The outbox against a plain model: put, flush, claim, ack, give back, crash, reopen."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.outbox import Eviction, Kind, Message, Outbox, Store
from tests.fakes.clock import FakeClock


class OutboxModel(RuleBasedStateMachine):
    """``memory`` and ``disk`` are what must be there; a crash forgets ``memory`` alone."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-model-"))
        self.generation = 0
        self.clock = FakeClock()
        self.memory = {}
        self.disk = {}
        self.settled_on_disk = {}
        self.claimed = []
        self.open()

    def teardown(self):
        self.outbox.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self):
        self.generation += 1
        self.run_id = f"{self.generation:08x}"
        self.sequence = 0
        self.claimed = []
        self.outbox = Outbox(
            store=Store(self.folder / str(self.generation) / "outbox.db"),
            clock=self.clock,
            run_id=self.run_id,
            flush_interval_s=1.0,
            eviction=Eviction(max_bytes=10_000_000, max_age_s=1e9),
        )
        self.outbox.open()

    def key(self, message):
        return (message.kind, message.run_id, message.sequence)

    @rule(kind=st.sampled_from(Kind), count=st.integers(1, 5))
    def put(self, kind, count):
        for _ in range(count):
            self.sequence += 1
            payload = b'{"sequence":%d}' % self.sequence
            message = Message(
                kind, self.run_id, self.sequence, payload, None, self.clock.monotonic_s()
            )
            self.outbox.put(message)
            self.memory[self.key(message)] = payload

    @rule()
    def flush(self):
        self.outbox.flush()
        self.disk.update(self.memory)
        self.memory = {}
        self.settled_on_disk = {}

    @rule(duration_s=st.floats(0.05, 2.0))
    def time_passes_and_the_writer_does_its_duty(self, duration_s):
        self.clock.advance(duration_s)
        due_s = self.outbox.flush_in_s()
        if due_s == 0:
            self.flush()

    @rule(kind=st.sampled_from(Kind), limit=st.integers(1, 7))
    def claim_live(self, kind, limit):
        for message in self.outbox.claim_live(kind, limit):
            assert self.key(message) in self.memory
            self.take(message)

    @rule(kind=st.sampled_from(Kind), limit=st.integers(1, 7))
    def claim_backlog(self, kind, limit):
        for message in self.outbox.claim_backlog(kind, limit):
            assert self.key(message) in self.disk
            self.take(message)

    def take(self, message):
        assert self.key(message) not in {self.key(one) for one in self.claimed}
        held = self.memory.get(self.key(message)) or self.disk.get(self.key(message))
        assert message.payload == held
        self.claimed.append(message)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def acknowledge(self, data):
        message = self.claimed.pop(data.draw(st.integers(0, len(self.claimed) - 1)))
        self.outbox.acknowledge([message])
        key = self.key(message)
        self.memory.pop(key, None)
        if key in self.disk:
            self.settled_on_disk[key] = self.disk.pop(key)

    @rule()
    def give_all_back(self):
        given, self.claimed = self.claimed, []
        self.outbox.give_back(given)

    @rule()
    def everything_that_waits_can_be_claimed(self):
        self.give_all_back()
        for kind in Kind:
            found = self.outbox.claim_live(kind, 10_000) + self.outbox.claim_backlog(kind, 10_000)
            wanted = {key for key in (*self.memory, *self.disk) if key[0] is kind}
            assert sorted(self.key(one) for one in found) == sorted(wanted)
            self.outbox.give_back(found)

    @rule()
    def end_in_order(self):
        self.outbox.close(self.sequence)
        self.disk.update(self.memory)
        self.memory, self.settled_on_disk = {}, {}
        self.reopen_from(self.folder / str(self.generation))

    @rule()
    def crash(self):
        """What is in the file now is all that is left; unsettled deletes come again."""
        old = self.outbox
        self.disk.update(self.settled_on_disk)
        self.memory, self.settled_on_disk = {}, {}
        self.reopen_from(self.folder / str(self.generation))
        old._store._close_connections()
        old._writer._salvage.close()

    def reopen_from(self, folder):
        shutil.copytree(folder, self.folder / str(self.generation + 1))
        self.open()
        assert self.outbox.waiting() == len(self.disk)

    @invariant()
    def every_message_is_in_exactly_one_place(self):
        tally = self.outbox.tally()
        assert tally.imbalance() == 0
        assert tally.waiting == len(self.memory) + len(self.disk)
        for kind in Kind:
            there = self.outbox.live(kind)[0] + self.outbox.backlog(kind)
            there += sum(1 for message in self.claimed if message.kind is kind)
            wanted = [key for key in (*self.memory, *self.disk) if key[0] is kind]
            assert there == len(wanted)


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
