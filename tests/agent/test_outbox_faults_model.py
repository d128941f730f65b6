"""The outbox under random faults: thinning, a full disk, crashes and damaged pages together."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.outbox import DropReason, Kind
from agent.outbox.verify import verify
from tests.fakes.clock import FakeClock
from tests.fakes.outbox_bench import Bench

MAX_BYTES = 200_000


class OutboxUnderFaults(RuleBasedStateMachine):
    """``events`` and ``samples`` are what was created and is durable or in memory.

    What a crash may take is what was not flushed; what damage may take is what the books
    call damaged; what thinning may take are samples. Nothing else may ever be missing.
    """

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-faults-"))
        self.clock = FakeClock()
        self.generation = 0
        self.low = False
        self.unflushed, self.durable, self.acknowledged = set(), set(), set()
        self.given_up = 0
        self.damaged = False
        self.reopen(self.folder / "1")

    def teardown(self):
        self.bench.outbox.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def reopen(self, folder):
        self.generation += 1
        self.sequence = 0
        self.bench = Bench(
            folder, run_id=f"{self.generation:08x}", max_bytes=MAX_BYTES, clock=self.clock
        )
        self.bench.store._disk_is_low = lambda: self.low
        self.outbox = self.bench.outbox

    def key(self, message):
        return message.kind, message.run_id, message.sequence

    @rule(kind=st.sampled_from([Kind.SAMPLE] * 3 + [Kind.EVENT]), count=st.integers(1, 60))
    def put(self, kind, count):
        count = min(count, 5) if kind is Kind.EVENT else count
        for _ in range(count):
            self.sequence += 1
            self.bench.put(self.sequence, kind=kind, size=300, lat=50 + self.sequence * 1e-5)
            self.unflushed.add((kind, self.bench.run_id, self.sequence))

    @rule(rounds=st.integers(1, 4))
    def flush(self, rounds):
        for _ in range(rounds):
            self.clock.advance(2.5)
            self.outbox.flush()
        self.note_what_is_durable()

    def note_what_is_durable(self):
        if self.outbox._writer._ledger.unwritten()[0] == 0:
            self.durable |= self.unflushed
            self.unflushed = set()

    @rule(kind=st.sampled_from(Kind), limit=st.integers(1, 50), lives=st.booleans())
    def send(self, kind, limit, lives):
        claim = self.outbox.claim_live if lives else self.outbox.claim_backlog
        messages = claim(kind, limit)
        half = len(messages) // 2
        self.outbox.give_back(messages[half:])
        self.outbox.acknowledge(messages[:half])
        self.acknowledged |= {self.key(one) for one in messages[:half]}

    @rule(low=st.booleans())
    def disk(self, low):
        self.low = low

    @rule()
    def crash(self):
        old = self.bench
        dropped = old.outbox.tally().dropped
        self.given_up += sum(dropped.values())
        copy = old.copy_as_after_a_power_cut(self.folder / f"copy-{self.generation}")
        self.unflushed = set()
        self.reopen(copy)
        old.outbox.close()

    @rule(page=st.integers(0, 60))
    def damage(self, page):
        """A page goes bad; whoever reads it finds out."""
        self.flush(2)
        if self.low or self.unflushed:
            return
        self.bench.store.checkpoint()
        with self.bench.path.open("r+b") as file:
            if page * 4096 >= file.seek(0, 2):
                return
            file.seek(page * 4096)
            file.write(bytes(4096))
        self.damaged = True
        self.crash()
        self.everything_is_somewhere()

    @rule()
    def everything_is_somewhere(self):
        for _ in range(30):
            for kind in Kind:
                self.outbox.give_back(self.bench.backlog(10_000, kind))
            self.clock.advance(2.5)
            self.outbox.flush()
        self.note_what_is_durable()
        assert not self.outbox._writer._salvage.waits()
        there = set()
        for kind in Kind:
            found = self.outbox.claim_live(kind, 10_000) + self.bench.backlog(10_000, kind)
            keys = [self.key(one) for one in found]
            assert len(keys) == len(set(keys))
            there |= set(keys)
            self.outbox.give_back(found)
        assert len(there) == self.outbox.waiting()
        created = self.durable | self.unflushed
        assert there <= created | self.acknowledged
        missing = created - there - self.acknowledged
        dropped = self.outbox.tally().dropped
        if not self.damaged:
            assert {kind for kind, _, _ in missing} <= {Kind.SAMPLE}
            assert set(dropped) <= {DropReason.THINNED, DropReason.OUTBOX_FULL}
            assert len(missing) <= self.given_up + sum(dropped.values())
            assert verify(self.bench.path).sound
        self.durable -= missing
        self.given_up += len(missing)

    @invariant()
    def the_books_balance(self):
        assert self.outbox.tally().imbalance() == 0
        assert self.outbox.waiting() >= 0

    @invariant()
    def the_file_is_bounded(self):
        if self.outbox._writer.is_open:
            assert self.bench.store.space()[0] <= MAX_BYTES + 120_000


TestOutboxUnderFaults = OutboxUnderFaults.TestCase
TestOutboxUnderFaults.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
