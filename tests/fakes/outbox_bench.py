"""An outbox on a folder with a clock of its own, and messages for it."""

import sqlite3

from agent.outbox import Eviction, Kind, Message, Outbox, Store
from tests.fakes.clock import FakeClock

RUN = "00000001"


def message(
    sequence, kind=Kind.SAMPLE, run_id=RUN, *, created_s=0.0, size=40, taken_ms=None, lat=None
):
    location = b"" if lat is None else b',"location":{"lat":%.7f,"lon":8.5}' % lat
    payload = b'{"run_id":"%s","sequence":%d,"pad":"%s"%s%s}' % (
        run_id.encode(),
        sequence,
        b"x" * size,
        location,
        b',"event_type":"test"' if kind is Kind.EVENT else b"",
    )
    return Message(kind, run_id, sequence, payload, taken_ms, created_s)


class Bench:
    """``put``, ``flush`` and looks at what is in the file."""

    def __init__(self, folder, *, run_id=RUN, max_bytes=50_000_000, max_age_s=86_400.0, clock=None):
        self.clock = clock or FakeClock()
        self.path = folder / "outbox.db"
        self.store = Store(self.path)
        self.run_id = run_id
        self.outbox = Outbox(
            store=self.store,
            clock=self.clock,
            run_id=run_id,
            flush_interval_s=1.0,
            eviction=Eviction(max_bytes=max_bytes, max_age_s=max_age_s),
        )
        self.outbox.open()

    def put(self, *sequences, kind=Kind.SAMPLE, **more):
        for sequence in sequences:
            self.outbox.put(
                message(sequence, kind, self.run_id, created_s=self.clock.monotonic_s(), **more)
            )

    def flush(self, rounds=1):
        for _ in range(rounds):
            self.clock.advance(1.0)
            self.outbox.flush()

    def on_disk(self, kind=Kind.SAMPLE):
        with sqlite3.connect(self.path) as db:
            query = f"SELECT sequence FROM {kind.value} ORDER BY id"  # noqa: S608  an enum
            return [row[0] for row in db.execute(query)]

    def backlog(self, limit=100, kind=Kind.SAMPLE):
        return self.outbox.claim_backlog(kind, limit)

    def copy_as_after_a_power_cut(self, folder):
        """What is in the files now, for another outbox."""
        folder.mkdir()
        for part in self.path.parent.glob("outbox.db*"):
            if not part.name.endswith("-shm"):
                (folder / part.name).write_bytes(part.read_bytes())
        return folder


def sequences(messages):
    return [m.sequence for m in messages]
