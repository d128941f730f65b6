"""The power scenario: cut it off again and again, then balance the account."""

import time
from collections import Counter
from dataclasses import dataclass

from tests.rigs.board.bench import plain
from tests.rigs.board.disk import Fate
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import balance

FLUSH_INTERVAL_S = 1.0
"""The agent's default, which the rig's config leaves alone."""

DEFAULT_ALLOWANCE_S = 1.0
"""For what stands between a sample and the witness's word of it, and for the commit itself."""

DRAIN_S = 180.0
RUN_S = (1.0, 9.0)
"""On top of the checks after each boot, in which it runs too."""
AIM_S = 5.0
PLAN = ("offline", "online", "midway", "booting", "offline")
"""The network before the cut: never there, there, gone on the way; or cut while it boots."""


@dataclass(frozen=True)
class Cut:
    """One power cut."""

    number: int
    network: str
    fate: str
    ready_s: float | None
    ran_s: float
    waiting_messages: int | None
    unflushed_writes: int
    unflushed_bytes: int
    lost: int
    torn: int


def run(bench, *, cuts, deadline_s, allowance_s=DEFAULT_ALLOWANCE_S):
    """The report as plain data; ``faults`` is empty when the promise was kept."""
    say, random, machine = bench.say, bench.random, bench.machine
    grace_s = FLUSH_INTERVAL_S + allowance_s
    begun_s = time.monotonic()
    done, faults, outside, ready = [], [], [], []
    replays = 0
    slowest_round_s = 0.0
    usual_boot_s = 30.0
    for number in range(1, cuts + 1):
        round_s = time.monotonic()
        if round_s - begun_s + slowest_round_s + DRAIN_S > deadline_s:
            faults.append(f"only {number - 1} of {cuts} cuts fit into {deadline_s:.0f} s")
            break
        network = PLAN[(number - 1) % len(PLAN)]
        fate = random.choice(tuple(Fate))
        bench.boot(link_up=network != "offline")
        times = None
        if network == "booting":
            ran_s = random.uniform(0.2, 1.1) * usual_boot_s
            time.sleep(ran_s)
        else:
            times = machine.wait_ready()
            ready.append(times.ready_s)
            outside.append(times.outside_s)
            usual_boot_s = times.outside_s
            ready_s = time.monotonic()
            replays += bench.replayed_journal()
            faults += [f"boot {number}: {fault}" for fault in bench.damage()]
            ran_s = random.uniform(*RUN_S)
            unplugged_s = random.uniform(0, ran_s) if network == "midway" else ran_s
            time.sleep(unplugged_s)
            if network == "midway":
                machine.set_link(up=False)
                time.sleep(ran_s - unplugged_s)
            ran_s = time.monotonic() - ready_s
        told = bench.witness.last
        # every second one at the worst moment: writes are on their way to the disk
        damage = bench.cut_power(fate, grace_s, aim_s=AIM_S * (number % 2))
        cut = Cut(
            number=number,
            network=network,
            fate=fate.value,
            ready_s=times and round(times.ready_s, 1),
            ran_s=round(ran_s, 1),
            waiting_messages=told and told["backlog_messages"],
            unflushed_writes=damage.unflushed_writes,
            unflushed_bytes=damage.unflushed_bytes,
            lost=damage.lost,
            torn=damage.torn,
        )
        done.append(cut)
        slowest_round_s = max(slowest_round_s, time.monotonic() - round_s)
        say(
            f"cut {number} of {cuts}: {network}, "
            + (f"READY after {times.outside_s:.0f} s, " if times else "")
            + f"cut {ran_s:.1f} s later, {cut.waiting_messages or 0} messages waited; of "
            f"{damage.unflushed_writes} unflushed writes {damage.lost} lost, {damage.torn} torn"
        )
    say("the last boot, online: everything must arrive now")
    bench.boot()
    times = machine.wait_ready()
    ready.append(times.ready_s)
    outside.append(times.outside_s)
    replays += bench.replayed_journal()
    faults += [f"last boot: {fault}" for fault in bench.damage()]
    try:
        bench.wait_delivered(DRAIN_S)
    except RigError as error:
        faults.append(str(error))
    account = bench.stop_agent()
    if account["backlog_messages"]:
        faults.append(f"{account['backlog_messages']} messages still wait after the last stop")
    machine.power_off()
    runs = bench.witness.runs.values()
    first_acknowledged = [one.first_acknowledged_s for one in runs if one.first_acknowledged_s]
    runs_per_boot = Counter(one.boot for one in runs)
    faults += [
        f"boot {boot}: the agent started {count} times"
        for boot, count in runs_per_boot.items()
        if count > 1
    ]
    found = balance(bench.witness, bench.received, bench.cuts)
    return {
        "scenario": "power",
        "accelerator": machine.accel,
        "cuts": [plain(cut) for cut in done],
        "journal_replays": replays,
        "balance": plain(found),
        "ready_s": _spread(ready),
        "ready_outside_s": _spread(outside),
        "first_acknowledged_s": _spread(first_acknowledged),
        "took_s": round(time.monotonic() - begun_s),
        "faults": [*faults, *found.faults],
    }


def words(report):
    """The report for a person."""
    found = report["balance"]
    cuts = report["cuts"]
    return [
        (
            f"{len(cuts)} power cuts ({sum(cut['ready_s'] is None for cut in cuts)} of them in "
            f"the boot), {report['journal_replays']} times the file system's journal was replayed"
        ),
        (
            f"{sum(cut['unflushed_writes'] for cut in cuts)} unflushed writes at the cuts, of them "
            f"{sum(cut['lost'] for cut in cuts)} lost and {sum(cut['torn'] for cut in cuts)} torn"
        ),
        (
            f"{found['runs']} runs of the agent; {found['owed']} messages owed, "
            f"{found['received']} received, {found['duplicates']} duplicates"
        ),
        (
            f"{found['lost_young']} lost, younger than the flush interval and an allowance "
            f"for the witness; the oldest was seen {found['oldest_lost_s']} s before its cut"
        ),
        (
            f"READY after {report['ready_s']} s of the guest's clock "
            f"({report['ready_outside_s']} s outside, {report['accelerator']})"
        ),
        f"first acknowledged sample after {report['first_acknowledged_s']} s of the guest's clock",
        f"took {report['took_s']} s",
    ]


def _spread(values):
    """Least, median and most, or nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return [round(ordered[i], 1) for i in (0, len(ordered) // 2, -1)]
