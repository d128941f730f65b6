"""The two sides of the account: what the guest's witness saw created, what a listener got.

A message counts as owed when the witness had seen its sequence at least ``grace_s`` before
the power went (the flush interval and an allowance for the witness itself). Owed and never
received is a loss. What was younger may be lost, and is counted.
"""

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from contract import (
    ContractError,
    MessageKind,
    decode_batch,
    decode_event,
    decode_sample,
    decode_status,
    parse_topic,
)


@dataclass
class Run:
    """What is known of one start of the agent."""

    boot: int = 0
    seen: list[tuple[float, int]] = field(default_factory=list)
    """(moment_s, last_sequence) each time that the witness saw it grow."""
    created: list[tuple[int, int, float, float]] = field(default_factory=list)
    """(first, last, not before, not after): sequences, and the guest's clock, seconds."""
    offset_s: float = float("inf")
    """This machine's monotonic clock less the guest's: the least that was seen, so the best."""
    asked_s: float = 0.0
    """When the witness last asked, by the guest's clock."""
    acknowledged: int = 0
    """Of its own messages, as the agent said last."""
    first_acknowledged_s: float | None = None
    """The guest's clock since its kernel started."""
    owed: int = 0
    """All sequences up to this one must arrive."""

    @property
    def newest(self):
        """The newest sequence that the witness saw."""
        return self.seen[-1][1] if self.seen else 0


class Witness:
    """Keeps what the guest said; ``take`` is called from a thread."""

    def __init__(self):
        self.runs = defaultdict(Run)
        self.boot = 0
        self.last = None
        self._lock = threading.Lock()

    def take(self, line, moment_s):
        """One line of the guest's helper."""
        with self._lock:
            run = self.runs[line["run_id"]]
            run.boot = self.boot
            if not run.seen or line["last_sequence"] > run.newest:
                span = (run.newest + 1, line["last_sequence"], run.asked_s, line["boot_s"])
                run.created.append(span)
                run.seen.append((moment_s, line["last_sequence"]))
            run.asked_s = line["asked_s"]
            run.offset_s = min(run.offset_s, moment_s - line["boot_s"])
            run.acknowledged = line["samples_acknowledged"] + line["events_acknowledged"]
            if line["samples_acknowledged"] and run.first_acknowledged_s is None:
                run.first_acknowledged_s = line["boot_s"]
            self.last = line

    def begin_boot(self):
        """What is said from now on is of a new boot."""
        with self._lock:
            self.boot += 1
            self.last = None

    def end_boot(self, cut_s, grace_s):
        """The power went at ``cut_s``: what must have been on disk, or acknowledged, by then?"""
        with self._lock:
            for run in self.runs.values():
                if run.boot == self.boot:
                    old = [number for moment, number in run.seen if moment <= cut_s - grace_s]
                    run.owed = max(old, default=0)

    def end_orderly(self, run_id, last_sequence):
        """The agent was stopped and drained: everything is owed."""
        with self._lock:
            self.runs[run_id].owed = last_sequence


class Received:
    """What an independent subscriber got, by run."""

    def __init__(self, listener):
        self._listener = listener
        self._done = 0
        self.sequences = defaultdict(set)
        self.samples = {}
        """(run_id, sequence): Sample."""
        self.events = []
        self.duplicates = 0
        """Messages that came again."""
        self.duplicate_publishes = 0
        """Publishes in which at least one message came again."""
        self.publishes = 0
        self.drops = Counter()
        """By reason, as the newest status of each run said."""
        self._drops_of_run = {}
        self.broken = []

    def update(self):
        """Take in what came since the last time."""
        messages = self._listener.messages
        end = len(messages)
        for topic, payload in messages[self._done : end]:
            try:
                self._take(topic, payload)
            except ContractError as error:
                self.broken.append(f"{topic}: {error}")
        self._done = end
        self.drops = Counter()
        for dropped in self._drops_of_run.values():
            self.drops.update(dropped)
        return self

    def _take(self, topic, payload):
        kind, _ = parse_topic(topic)
        if kind is MessageKind.STATUS:
            status = decode_status(payload)
            if status.dropped_messages is not None:
                self._drops_of_run[status.run_id] = status.dropped_messages
            return
        if kind is MessageKind.EVENTS:
            messages = [decode_event(payload)]
        elif kind is MessageKind.BATCH:
            messages = decode_batch(payload)
        else:
            messages = [decode_sample(payload)]
        self.publishes += 1
        again = 0
        for message in messages:
            known = self.sequences[message.run_id]
            if message.sequence in known:
                again += 1
            known.add(message.sequence)
            if kind is MessageKind.EVENTS:
                self.events.append(message)
            else:
                self.samples[message.run_id, message.sequence] = message
        self.duplicates += again
        self.duplicate_publishes += bool(again)


@dataclass(frozen=True)
class Balance:
    """The account of all runs; ``faults`` is empty when the promise was kept."""

    runs: int
    owed: int
    received: int
    duplicates: int
    duplicate_publishes: int
    lost_young: int
    """Seen by the witness, younger than the grace at a cut, and never received: allowed."""
    oldest_lost_s: float
    """How long before the cut the oldest of those had been seen, at most."""
    dropped: dict[str, int]
    faults: tuple[str, ...]


def balance(witness, received, cuts):
    """Hold both sides against each other; ``cuts`` is ``{boot: moment_s}``."""
    faults = [f"a broken message: {line}" for line in received.broken]
    owed = lost_young = 0
    oldest_lost_s = 0.0
    for run_id, run in witness.runs.items():
        got = received.sequences[run_id]
        missing = sorted(set(range(1, run.owed + 1)) - got)
        owed += run.owed
        if missing:
            faults.append(
                f"run {run_id} (boot {run.boot}): {len(missing)} of {run.owed} owed messages are "
                f"missing, {missing[0]} to {missing[-1]}"
            )
        if run.acknowledged > len(got):
            faults.append(
                f"run {run_id} (boot {run.boot}): {run.acknowledged} acknowledged, "
                f"only {len(got)} received"
            )
        young = set(range(run.owed + 1, run.newest + 1)) - got
        lost_young += len(young)
        if young and run.boot in cuts:
            seen_s = min(moment for moment, number in run.seen if number >= min(young))
            oldest_lost_s = max(oldest_lost_s, cuts[run.boot] - seen_s)
    if received.drops:
        faults.append(f"dropped: {dict(received.drops)}")
    return Balance(
        runs=len(witness.runs),
        owed=owed,
        received=sum(map(len, received.sequences.values())),
        duplicates=received.duplicates,
        duplicate_publishes=received.duplicate_publishes,
        lost_young=lost_young,
        oldest_lost_s=round(oldest_lost_s, 3),
        dropped=dict(received.drops),
        faults=tuple(faults),
    )
