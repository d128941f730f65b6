"""The CAN scenario: the kernel's SocketCAN, with can-utils as independent peers.

One boot, the vehicle's agent run by systemd, two buses on vcan. What the agent says is held
against the kernel's own counters (``/proc/net/can``) and against cantools' encoding.
"""

import json
import time

import cantools

from tests.rigs.board import recipe
from tests.rigs.board.bench import plain
from tests.rigs.board.checks import checked, memory_mb_of, no_time_for
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import balance

CONFIG = recipe.GUEST / "agent-can.toml"
FD_DBC = recipe.GUEST / "can-fd.dbc"
LOAD = recipe.ROOT / "bench/can_load.py"
FILES = {
    "/etc/milepost/can-fd.dbc": (FD_DBC.read_bytes(), 0o644, 0, 0),
    "/opt/rig/can_load.py": (LOAD.read_bytes(), 0o644, 0, 0),
}
"""For the guest's disk."""

CLASSIC, FD = "vcan0", "vcan1"
MAPPED = ("100", "110", "120")
"""The ids of the config's signals, in hexadecimal."""

UNMAPPED_ID = "101"
FRAMES = 2_000
FLOOD_FRAMES = 20_000
STOPPED_FRAMES = 5_000
HEED_S = 90.0
"""For the agent to see what happened; on an emulated processor everything takes its time."""


class Buses:
    """The guest's buses: what is put on them, what the kernel and the agent make of it."""

    def __init__(self, bench):
        self.bench = bench
        self._encode = {
            CLASSIC: cantools.database.load_file(recipe.DBC),
            FD: cantools.database.load_file(FD_DBC),
        }

    def account(self):
        """What the agent says of itself now."""
        return json.loads(self.bench.run("python3", "/opt/rig/helper.py", "account"))

    def bus(self, channel):
        """The agent's account of one bus."""
        return next(bus for bus in self.account()["can"] if bus["channel"] == channel)

    def sample(self):
        """The newest sample."""
        return self.account().get("last_sample") or {}

    def send(self, channel, message, **signals):
        """One frame through cansend, encoded by cantools; what cantools decodes of it."""
        definition = self._encode[channel].get_message_by_name(message)
        # the other signals of a message are zero
        values = {signal.name: 0 for signal in definition.signals} | signals
        data = definition.encode(values, strict=False)
        width = 8 if definition.is_extended_frame else 3
        mark = "##1" if channel == FD else "#"
        self.bench.run("cansend", channel, f"{definition.frame_id:0{width}X}{mark}{data.hex()}")
        return definition.decode(data)

    def generate(self, frame_id, count, gap_ms):
        """Frames of one id through cangen; it ends when they are sent."""
        self.bench.run(
            *("cangen", CLASSIC, "-I", frame_id, "-L", "8", "-g", str(gap_ms), "-n", str(count)),
            *(("-e",) if len(frame_id) > 3 else ()),
            "-i",
            timeout_s=300.0,
        )

    def delivered(self, channel):
        """Frames that the kernel's filters let through to sockets on this interface."""
        text = self.bench.run("sh", "-c", "cat /proc/net/can/rcvlist_*")
        rows = [line.split() for line in text.splitlines()]
        return sum(int(row[-2]) for row in rows if row[:1] == [channel] and row[-1] == "raw")

    def filters(self, channel):
        """Ids that anybody listens to, as the kernel lists them, error frames left out."""
        text = self.bench.run("sh", "-c", "cat /proc/net/can/rcvlist_[sef][fi][fl]")
        rows = [line.split() for line in text.splitlines()]
        return sorted({int(row[1], 16) for row in rows if row[:1] == [channel]})

    def logged(self, channel, word):
        """Lines of the agent's log about a bus."""
        text = self.bench.run("journalctl", "-u", "milepost-agent", "-o", "cat", "--no-pager")
        return sum(f"CAN bus {channel} " in line and word in line for line in text.splitlines())

    def until(self, what, seen):
        """Wait until ``seen()`` is true; give what it gave."""
        deadline = time.monotonic() + HEED_S
        while True:
            found = seen()
            if found:
                return found
            if time.monotonic() > deadline:
                told = {name: self.account()[name] for name in ("can", "faults", "last_sample")}
                raise RigError(f"{what}: not within {HEED_S:.0f} s; {told}")
            time.sleep(0.3)

    def show_percent(self, percent):
        """Send a state of charge until samples carry it as cantools decodes it."""

        def seen():
            # again and again: one that finds the socket's buffer full is lost, and values age
            sent = self.send(CLASSIC, "BatteryState", StateOfCharge=percent)["StateOfCharge"]
            return self.sample().get("battery", {}).get("percent") == sent

        self.until(f"battery.percent = {percent} in a sample", seen)

    def reckoned(self, before, passed):
        """Wait until what passed the filters is all accounted for: passed, taken, dropped."""

        def seen():
            now, given = self.bus(CLASSIC), self.delivered(CLASSIC) - passed
            taken, dropped = (now[name] - before[name] for name in ("frames", "kernel_dropped"))
            return (given, taken, dropped) if taken + dropped == given else None

        return self.until("every frame in the account", seen)


def missing_at_boot(buses):
    """A bus that is missing at boot stops nothing, is told of, and is taken when it comes."""
    before = buses.account()
    gone = next(bus for bus in before["can"] if bus["channel"] == FD)
    faults = [fault["code"] for fault in before["faults"]]
    assert gone["state"] == "down", gone
    assert f"source:can:{FD}" in faults, faults
    assert buses.logged(FD, "lost") == 1
    buses.bench.run("ip", "link", "add", "dev", FD, "type", "vcan")
    buses.bench.run("ip", "link", "set", FD, "mtu", "72", "up")
    buses.until("the new bus", lambda: buses.bus(FD)["state"] != "down")
    buses.until("no fault", lambda: not buses.account()["faults"])
    assert buses.logged(FD, "recovered") == 1
    return "one line when it was missed, one when it came; a fault raised and cleared"


def can_fd(buses):
    """A CAN FD frame of 64 bytes with a 29-bit id gives cantools' value."""
    sent = buses.send(FD, "PackEnergy", Energy=123.45)["Energy"]
    buses.until(
        f"{sent} kWh in a sample",
        lambda: buses.sample().get("signals", {}).get("pack_energy_kwh") == sent,
    )
    return f"{sent} kWh from byte 60"


def kernel_filters(buses):
    """Frames of ids that are not mapped do not reach the agent's process."""
    buses.bench.run("systemctl", "stop", "rig-can.service")
    filters = buses.filters(CLASSIC)
    assert filters == sorted(int(one, 16) for one in MAPPED), filters
    passed, frames = buses.delivered(CLASSIC), buses.bus(CLASSIC)["frames"]
    buses.generate(UNMAPPED_ID, FRAMES, 0.1)
    buses.generate("18FEF100", FRAMES, 0.1)
    unmapped = buses.delivered(CLASSIC) - passed, buses.bus(CLASSIC)["frames"] - frames
    buses.generate(MAPPED[1], 100, 2)
    buses.until("mapped frames", lambda: buses.bus(CLASSIC)["frames"] - frames == 100)
    mapped = buses.delivered(CLASSIC) - passed
    assert unmapped == (0, 0), unmapped
    assert mapped == 100, mapped
    return f"{2 * FRAMES} frames sent, 0 passed; of 100 mapped ones all"


def values(buses):
    """A frame from cansend gives cantools' value in the next sample."""
    for percent in (42.5, 99.99):
        buses.show_percent(percent)
    return "42.5 % and 99.99 %"


def down_and_up(buses):
    """A bus that goes down and up again recovers by itself; both are logged once."""
    lost, back = buses.logged(CLASSIC, "lost"), buses.logged(CLASSIC, "recovered")
    buses.bench.run("ip", "link", "set", CLASSIC, "down")
    buses.until("the bus to be down", lambda: buses.bus(CLASSIC)["state"] == "down")
    buses.until("samples without its values", lambda: "battery" not in buses.sample())
    during = buses.account()["samples_created"]
    assert [fault["code"] for fault in buses.account()["faults"]] == [f"source:can:{CLASSIC}"]
    buses.bench.run("ip", "link", "set", CLASSIC, "up")
    buses.until("the bus to be up", lambda: buses.bus(CLASSIC)["state"] != "down")
    buses.show_percent(51.25)
    buses.until("no fault", lambda: not buses.account()["faults"])
    went_on = buses.account()["samples_created"] - during
    assert went_on > 0
    logged = buses.logged(CLASSIC, "lost") - lost, buses.logged(CLASSIC, "recovered") - back
    assert logged == (1, 1), logged
    return f"{went_on} samples meanwhile, without what the bus gives"


def removed(buses):
    """An interface that is removed and made anew, as an unplugged adapter's is, is taken again."""
    buses.bench.run("ip", "link", "del", CLASSIC)
    buses.until("the bus to be down", lambda: buses.bus(CLASSIC)["state"] == "down")
    buses.bench.run("ip", "link", "add", "dev", CLASSIC, "type", "vcan")
    buses.bench.run("ip", "link", "set", CLASSIC, "up")
    buses.until("the bus to be up", lambda: buses.bus(CLASSIC)["state"] != "down")
    buses.show_percent(61.5)
    return "without a restart of the agent"


def drop_counter(buses):
    """What does not fit into the socket is counted, to the frame, by the kernel's drop counter."""
    before, passed = buses.bus(CLASSIC), buses.delivered(CLASSIC)
    # an agent that gets no time at all
    buses.bench.run("systemctl", "kill", "--signal=STOP", "milepost-agent")
    buses.generate(MAPPED[0], STOPPED_FRAMES, 0)
    buses.bench.run("systemctl", "kill", "--signal=CONT", "milepost-agent")
    buses.show_percent(71.0)  # the counter comes with a frame
    given, taken, dropped = buses.reckoned(before, passed)
    assert dropped > 0, f"{given} frames, none dropped"
    return f"of {given} frames {taken} were taken and {dropped} counted as dropped"


def flood(buses):
    """A flood stops neither samples nor watchdog; the newest value counts after it."""
    before, bus, passed = buses.account(), buses.bus(CLASSIC), buses.delivered(CLASSIC)
    began_s = time.monotonic()
    buses.generate(MAPPED[0], FLOOD_FRAMES, 0)
    took_s = time.monotonic() - began_s
    buses.show_percent(81.0)
    given, _, dropped = buses.reckoned(bus, passed)
    after = buses.account()
    assert after["run_id"] == before["run_id"], "the agent was restarted"
    assert after["samples_created"] > before["samples_created"]
    return f"{given} frames in {took_s:.0f} s, {dropped} of them dropped and counted"


def isotp(buses):
    """The kernel's ISO-TP sockets are there to load and carry a message of many frames."""
    sent = " ".join(f"{number % 256:02X}" for number in range(200))
    got = buses.bench.run(
        "sh",
        "-ec",
        f"modprobe can-isotp; isotprecv -s 7E0 -d 7E8 {CLASSIC} > /tmp/isotp & sleep 2; "
        f"echo '{sent}' | isotpsend -s 7E8 -d 7E0 {CLASSIC}; wait; cat /tmp/isotp",
    )
    assert got.split() == sent.split(), got
    return "200 bytes through isotpsend and isotprecv"


CHECKS = (
    missing_at_boot, can_fd, kernel_filters, values, down_and_up, removed, drop_counter, flood,
    isotp,
)  # fmt: skip


def load(bench):
    """The benchmark of two full buses, on SocketCAN; its figures."""
    channels = ("vcan2", "vcan3")
    for channel in channels:
        bench.run("ip", "link", "add", "dev", channel, "type", "vcan")
        bench.run("ip", "link", "set", channel, "up")
    told = bench.run(
        *("/opt/milepost/bin/python", "/opt/rig/can_load.py", "--interface", "socketcan"),
        *("--channels", ",".join(channels), "--rounds", "1", "--json"),
        timeout_s=900.0,
    )
    return json.loads(told.splitlines()[-1])


def run(bench, *, deadline_s, with_load=False):
    """The report as plain data."""
    begun_s = time.monotonic()
    bench.boot()
    times = bench.machine.wait_ready()
    bench.say(f"READY after {times.ready_s:.0f} s of the guest's clock")
    buses = Buses(bench)
    checks = []
    for function in CHECKS:
        if time.monotonic() - begun_s + HEED_S > deadline_s:
            checks.append(no_time_for(function, deadline_s))
            continue
        checks.append(checked(function, buses, bench.say))
    bench.run("systemctl", "start", "rig-can.service")
    memory_mb = memory_mb_of(bench.run, "milepost-agent")
    figures = load(bench) if with_load else None
    restarts = bench.run("systemctl", "show", "milepost-agent", "--property=NRestarts", "--value")
    faults = [f"{check.promise}: {check.told}" for check in checks if not check.held]
    if restarts.strip() != "0":
        faults.append(f"the agent was restarted {restarts.strip()} times")
    try:
        bench.wait_delivered(HEED_S)
    except RigError as error:
        faults.append(str(error))
    bench.stop_agent()
    bench.machine.power_off()
    found = balance(bench.witness, bench.received, bench.cuts)
    return {
        "scenario": "can",
        "accelerator": bench.machine.accel,
        "checks": [plain(check) for check in checks],
        "balance": plain(found),
        "memory_mb": memory_mb,
        "load": figures,
        "took_s": round(time.monotonic() - begun_s),
        "faults": [*faults, *found.faults],
    }


def words(report):
    """The report for a person."""
    return [
        *(f"{check['promise']}: {check['told']}" for check in report["checks"] if check["held"]),
        f"{report['balance']['owed']} messages owed, {report['balance']['received']} received",
        f"the agent's memory, MB: {report['memory_mb']}",
        *([f"two full buses: {report['load']}"] if report["load"] else []),
        f"took {report['took_s']} s",
    ]
