"""What a campaign of kills must show, judged from records alone; pure.

What was created, and when, is known from the control socket, which is asked every few
milliseconds: a sequence was created after the last answer that did not know it and before
the first that did. What arrived is known from the subscriber, what the broker took from
the broker's own log. Nothing here asks the agent what it lost.
"""

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Seen:
    """``last_sequence`` was not yet so high at ``before_s`` and was at ``seen_s``."""

    before_s: float
    seen_s: float
    last_sequence: int


@dataclass
class Life:
    """One run of the agent, from its start to its kill. Times are monotonic."""

    vehicle: str
    moment: str
    network: str
    started_s: float
    run_id: str | None = None
    created: list[Seen] = field(default_factory=list)
    acknowledged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    imbalances: int = 0
    previous_run: tuple[str, int] | None = None
    killed_s: float | None = None
    """None: it had ended by itself before the kill, or was stopped in an orderly way."""
    exit_code: int | None = None
    on_disk: dict[str, int] = field(default_factory=dict)
    """Highest sequence by run that was found in the file after the kill."""
    unsound: list[str] = field(default_factory=list)

    @property
    def last_sequence(self) -> int:
        return self.created[-1].last_sequence if self.created else 0

    def age_s(self, sequence: int) -> float:
        """How old a sequence was at the kill, at least."""
        for seen in self.created:
            if seen.last_sequence >= sequence:
                return self.killed_s - seen.seen_s
        return 0.0


@dataclass(frozen=True)
class Arrival:
    """One message as the subscriber got it, with the content that must not change."""

    vehicle: str
    run_id: str
    sequence: int
    content: object
    """Everything but its times."""
    times: object
    """None where the board's own clock was all there was: they may be corrected later."""


@dataclass
class Verdict:
    """Figures, and in ``faults`` a line for each promise that was broken."""

    kills: int = 0
    kills_by_moment: dict[str, int] = field(default_factory=dict)
    kills_by_network: dict[str, int] = field(default_factory=dict)
    ended_before_the_kill: int = 0
    created_messages: int = 0
    received_messages: int = 0
    distinct_messages: int = 0
    duplicate_messages: int = 0
    publishes_broker_took: int = 0
    publishes_received: int = 0
    acknowledged_then_missing: int = 0
    lost_older_than_limit: int = 0
    lost_in_last_interval: int = 0
    oldest_lost_s: float = 0.0
    watched_within_s: float = 0.0
    """Of 100 moments of creation 99 are known as closely as this."""
    dropped_messages: int = 0
    changed_messages: int = 0
    unsound_databases: int = 0
    previous_runs_checked: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults


def judge(lives, arrivals, *, limit_s, broker_took=0, publishes_received=0):
    """Weigh all lives, in their order for each vehicle, against all that arrived.

    ``limit_s``: what a kill may lose, the flush interval and the time a commit may take.
    """
    verdict = Verdict(publishes_broker_took=broker_took, publishes_received=publishes_received)
    if publishes_received < broker_took:
        verdict.acknowledged_then_missing += broker_took - publishes_received
        verdict.faults.append(
            f"the broker took {broker_took} publishes, the subscriber has {publishes_received}"
        )
    received = _look_at_arrivals(arrivals, verdict)
    for life in lives:
        _look_at_end(life, verdict)
        if life.run_id is not None:
            _look_for_losses(life, received[life.vehicle, life.run_id], limit_s, verdict)
    # a life that is killed in its start may have published before it was ever asked
    asked = {(life.vehicle, life.run_id) for life in lives}
    for run, sequences in received.items():
        if run not in asked:
            verdict.created_messages += max(sequences)
    gaps = sorted(one.seen_s - one.before_s for life in lives for one in life.created[1:])
    verdict.watched_within_s = round(gaps[len(gaps) * 99 // 100], 3) if gaps else 0.0
    by_vehicle = defaultdict(list)
    for life in lives:
        by_vehicle[life.vehicle].append(life)
    for own in by_vehicle.values():
        _look_at_previous_runs(own, received, verdict)
    return verdict


def _look_at_arrivals(arrivals, verdict):
    first = {}
    received = defaultdict(set)
    for one in arrivals:
        verdict.received_messages += 1
        key = (one.vehicle, one.run_id, one.sequence)
        known = first.setdefault(key, one)
        received[one.vehicle, one.run_id].add(one.sequence)
        times_differ = None not in (one.times, known.times) and one.times != known.times
        if one.content != known.content or times_differ:
            verdict.changed_messages += 1
            verdict.faults.append(f"{key} came twice and differs: {known} and {one}")
    verdict.distinct_messages = len(first)
    verdict.duplicate_messages = verdict.received_messages - len(first)
    return received


def _look_at_end(life, verdict):
    if life.killed_s is None:
        verdict.ended_before_the_kill += life.moment != "end"
        if life.exit_code != 0:
            verdict.faults.append(f"{life.vehicle} {life.run_id}: exit code {life.exit_code}")
    else:
        verdict.kills += 1
        for counts, name in (
            (verdict.kills_by_moment, life.moment),
            (verdict.kills_by_network, life.network),
        ):
            counts[name] = counts.get(name, 0) + 1
    if life.unsound:
        verdict.unsound_databases += 1
        verdict.faults.append(f"{life.vehicle} {life.run_id}: {'; '.join(life.unsound)}")
    if life.dropped:
        verdict.dropped_messages += sum(life.dropped.values())
        verdict.faults.append(f"{life.vehicle} {life.run_id} dropped {life.dropped}")
    if life.imbalances:
        verdict.faults.append(f"{life.vehicle} {life.run_id}: the account did not balance")


def _look_for_losses(life, received, limit_s, verdict):
    name = f"{life.vehicle} {life.run_id}, killed while {life.network}, {life.moment}"
    verdict.created_messages += max(life.last_sequence, max(received, default=0))
    if life.acknowledged > len(received):
        verdict.acknowledged_then_missing += life.acknowledged - len(received)
        verdict.faults.append(f"{name}: {life.acknowledged} acknowledged, {len(received)} arrived")
    committed = life.on_disk.get(life.run_id, 0)
    last = max(life.last_sequence, committed)
    wrongly = []
    for sequence in sorted(set(range(1, last + 1)) - received):
        if life.killed_s is None or sequence <= committed:
            wrongly.append(sequence)
            continue
        age_s = life.age_s(sequence)
        verdict.oldest_lost_s = max(verdict.oldest_lost_s, age_s)
        if age_s > limit_s:
            wrongly.append(sequence)
        else:
            verdict.lost_in_last_interval += 1
    if wrongly:
        verdict.lost_older_than_limit += len(wrongly)
        verdict.faults.append(f"{name}: {wrongly} of {last} never arrived")


def _look_at_previous_runs(lives, received, verdict):
    """What a run says of the one before it: the right one, and no sequence made up."""
    earlier = []
    for before, life in zip([None, *lives], lives, strict=False):
        known = [one.run_id for one in earlier if one.run_id is not None]
        if life.run_id is not None and known and life.previous_run is None:
            verdict.faults.append(f"{life.vehicle} {life.run_id} knows of no previous run")
        elif life.run_id is not None and known:
            verdict.previous_runs_checked += 1
            said, last_sequence = life.previous_run
            # a run that was killed before it could be asked may be the one that it names
            unknown_between = before is None or before.run_id is None
            if said != known[-1] and (said in known or not unknown_between):
                verdict.faults.append(
                    f"{life.vehicle} {life.run_id} says {said} was before it, not {known[-1]}"
                )
            elif said == known[-1]:
                own = next(one for one in reversed(earlier) if one.run_id == said)
                on_disk = max((one.on_disk.get(said, 0) for one in earlier), default=0)
                arrived = max(received[life.vehicle, said], default=0)
                most = max(own.last_sequence, on_disk, arrived)
                if not own.on_disk.get(said, 0) <= last_sequence <= most:
                    verdict.faults.append(
                        f"{life.vehicle} {life.run_id} says {said} ended at {last_sequence}, "
                        f"its file had {own.on_disk.get(said, 0)}, it made {most}"
                    )
        earlier.append(life)
