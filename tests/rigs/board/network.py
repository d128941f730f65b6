"""The network scenarios: the kernel's own faults (``tc netem``, both ways) on the guest's link.

Each fault holds for a while under a drive at five samples a second; then the link is well
again, and everything must arrive. Connections are counted by the broker.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.rigs.board.bench import plain
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import balance

DRAIN_S = 240.0
IN_FLIGHT = 20
"""The agent's default window: what one lost connection may send twice."""

_FLAP_S = 4.0


@dataclass(frozen=True)
class Fault:
    """One way in which the link goes bad."""

    name: str
    netem: str
    """What both directions get; nothing for a flapping link."""
    connections_per_minute: float
    """More of them than this, rounded up, and one more is a storm."""


FAULTS = (
    Fault("30 % loss", "loss 30%", 3),
    Fault("5 s delay", "delay 5s", 6),
    Fault("1 KB/s", "rate 8kbit", 6),
    Fault("half-open", "loss 100%", 6),
    Fault("flapping", "", 12),
)
"""After each loss the agent waits up to 1, 2, 4 … 30 s, at random: about ten in the first
minute at the very most, were every attempt refused at once."""

_SETUP = """
modprobe -a ifb sch_netem cls_matchall act_mirred sch_ingress
ip link add ifb0 type ifb && ip link set ifb0 up
tc qdisc add dev eth0 ingress
tc filter add dev eth0 parent ffff: matchall action mirred egress redirect dev ifb0
"""


@dataclass(frozen=True)
class Outcome:
    """What one fault did."""

    name: str
    held_s: float
    recovered_s: float
    """From the link's recovery until nothing waited."""
    waiting_messages: int
    connections: int
    duplicates: int
    duplicate_publishes: int


def run(bench, *, deadline_s, hold_s=60.0, only=()):
    """The report as plain data."""
    begun_s = time.monotonic()
    faults, outcomes = [], []
    bench.boot()
    times = bench.machine.wait_ready()
    bench.say(f"READY after {times.ready_s:.0f} s of the guest's clock; a minute with no fault")
    bench.wait_delivered(DRAIN_S)
    steady = _steady(bench, hold_s)
    bench.run("sh", "-ec", _SETUP)
    for fault in FAULTS:
        if only and fault.name not in only:
            continue
        if time.monotonic() - begun_s + hold_s + DRAIN_S > deadline_s:
            faults.append(f"{fault.name} and what follows did not fit into {deadline_s:.0f} s")
            break
        try:
            outcome = _hold(bench, fault, hold_s)
        except RigError as error:
            faults.append(f"{fault.name}: {error}")
            break
        outcomes.append(outcome)
        bench.say(
            f"{fault.name} for {hold_s:.0f} s: {outcome.connections} connections, "
            f"{outcome.waiting_messages} messages waited at its end, all delivered "
            f"{outcome.recovered_s:.0f} s later, {outcome.duplicates} duplicates"
        )
        minutes = (outcome.held_s + outcome.recovered_s) / 60
        if outcome.connections > fault.connections_per_minute * max(1, minutes) + 1:
            faults.append(f"{fault.name}: {outcome.connections} connections: a storm")
        if outcome.duplicate_publishes > IN_FLIGHT * max(1, outcome.connections):
            faults.append(
                f"{fault.name}: {outcome.duplicate_publishes} publishes came again, more than the "
                f"window of {IN_FLIGHT} at each of {outcome.connections} connections"
            )
    faults += bench.damage()
    account = bench.stop_agent()
    if account["backlog_messages"]:
        faults.append(f"{account['backlog_messages']} messages still wait after the stop")
    bench.machine.power_off()
    found = balance(bench.witness, bench.received, bench.cuts)
    return {
        "scenario": "network",
        "accelerator": bench.machine.accel,
        "steady": steady,
        "netem": [plain(outcome) for outcome in outcomes],
        "balance": plain(found),
        "took_s": round(time.monotonic() - begun_s),
        "faults": [*faults, *found.faults],
    }


def words(report):
    """The report for a person."""
    found, steady = report["balance"], report["steady"]
    return [
        (
            f"{len(report['netem'])} network faults; {found['owed']} messages owed, "
            f"{found['received']} received, {found['duplicates']} duplicates in "
            f"{found['duplicate_publishes']} publishes"
        ),
        (
            f"online with no fault, {steady['held_s']:.0f} s: the agent wrote "
            f"{steady['agent_bytes']} bytes to flash, the whole guest {steady['disk_bytes']}"
        ),
        f"took {report['took_s']} s",
    ]


def _steady(bench, hold_s):
    """What an online agent writes, and what its guest writes in all."""
    agent_before = bench.witness.last["flash_bytes_written"]
    disk_before = bench.machine.disk.bytes_written
    time.sleep(hold_s)
    return {
        "held_s": hold_s,
        "agent_bytes": bench.witness.last["flash_bytes_written"] - agent_before,
        "disk_bytes": bench.machine.disk.bytes_written - disk_before,
    }


def _hold(bench, fault, hold_s):
    before = bench.received.update()
    connections = bench.connections()
    duplicates, publishes = before.duplicates, before.duplicate_publishes
    begun_s = time.monotonic()
    if fault.netem:
        _netem(bench, "add", fault.netem.split())
        time.sleep(hold_s)
        waiting = bench.witness.last["backlog_messages"]
        _netem(bench, "del", [])
    else:
        _flap(bench, lambda: time.monotonic() - begun_s < hold_s)
        waiting = bench.witness.last["backlog_messages"]
    well_s = time.monotonic()
    bench.wait_delivered(DRAIN_S)
    after = bench.received.update()
    return Outcome(
        name=fault.name,
        held_s=round(well_s - begun_s, 1),
        recovered_s=round(time.monotonic() - well_s, 1),
        waiting_messages=waiting,
        connections=bench.connections() - connections,
        duplicates=after.duplicates - duplicates,
        duplicate_publishes=after.duplicate_publishes - publishes,
    )


def _netem(bench, verb, words):
    for device in ("eth0", "ifb0"):
        bench.run("tc", "qdisc", verb, "dev", device, "root", "netem", *words)


def _flap(bench, more: Callable[[], bool]):
    while more():
        for state in ("down", "up"):
            bench.run("ip", "link", "set", "eth0", state)
            time.sleep(_FLAP_S)
