"""The guest's CAN buses, as the kernel, the agent and peers that know nothing of it have them."""

import itertools
import json
import time

import cantools

from tests.rigs.board import recipe
from tests.rigs.board.errors import RigError

CLASSIC, FD, TRUCK, OBD = "vcan0", "vcan1", "vcan1", "obd0"
"""All but the first are missing when the board starts; CAN FD and J1939 are two scenarios."""

FD_DBC = recipe.GUEST / "can-fd.dbc"
TRUCK_DBC = recipe.ROOT / "firmware-config/dbc/truck-j1939.dbc"
DATABASES = {CLASSIC: [recipe.DBC], FD: [FD_DBC, TRUCK_DBC]}

HEED_S = 180.0
"""For the agent to see what happened; on an emulated processor everything takes its time."""

_ID_BITS = 0x1FFF_FFFF
_FILTERS = "cd /proc/net/can; cat rcvlist_all rcvlist_fil rcvlist_sff rcvlist_eff"


class Buses:
    """What is put on the buses, and what the kernel and the agent make of it."""

    def __init__(self, bench):
        self.bench = bench
        self.run = bench.run
        self._encode = {channel: _database(files) for channel, files in DATABASES.items()}
        self._kept = {}
        self._units = itertools.count(1)

    def account(self):
        """What the agent says of itself now; one that gets no time is asked again."""
        deadline = time.monotonic() + HEED_S
        while True:
            told = self.bench.machine.shell.run("python3", "/opt/rig/helper.py", "account")
            if told.code == 0:
                return json.loads(told.out)
            if time.monotonic() > deadline:
                raise RigError(f"the agent gives no account for {HEED_S:.0f} s: {told.out}")
            time.sleep(1)

    def bus(self, channel, kind="can"):
        """The agent's account of one bus; ``kind`` is the section of the config."""
        return next(bus for bus in self.account()[kind] if bus["channel"] == channel)

    def faults(self, *sources):
        """Which of these sources the agent calls faulty now."""
        told = {fault["code"] for fault in self.account()["faults"]}
        return [source for source in sources if f"source:{source}" in told]

    def sample(self):
        """The newest sample."""
        return self.account().get("last_sample") or {}

    def signals(self):
        """The newest sample's further signals."""
        return self.sample().get("signals", {})

    def codes(self):
        """The newest sample's trouble codes."""
        return set(self.sample().get("diagnostics", {}).get("error_codes", ()))

    def events(self, kind):
        """The codes of the events of one kind that reached the listener outside."""
        events = self.bench.received.update().events
        return {event.details["code"] for event in events if event.event_type == kind}

    def add(self, channel):
        """A vcan interface of this name, up."""
        self.run("ip", "link", "add", "dev", channel, "type", "vcan")
        self.run("ip", "link", "set", channel, "up")

    def send(self, channel, message, *, source_address=None, **signals):
        """One frame through cansend, encoded by cantools; what cantools decodes of it."""
        name, data, decoded = self._frame(channel, message, source_address, signals)
        self.run("cansend", channel, f"{name}{'##1' if len(data) > 16 else '#'}{data}")
        return decoded

    def repeat(self, name, channel, message, **signals):
        """The same frame through cangen, five times a second, until ``end(name)``."""
        frame_id, data, _ = self._frame(channel, message, None, signals)
        fixed = ("-I", frame_id, "-L", str(len(data) // 2), "-D", data)
        self.keep(name, "cangen", channel, *fixed, "-g", "200", "-i")

    def generate(self, frame_id, count, gap_ms, channel=CLASSIC):
        """Frames of one id through cangen; it ends when they are sent."""
        self.run(
            *("cangen", channel, "-I", frame_id, "-L", "8", "-g", str(gap_ms), "-n", str(count)),
            *(("-e",) if len(frame_id) > 3 else ()),
            "-i",
            timeout_s=300.0,
        )

    def keep(self, name, *argv):
        """A peer that runs in the guest until ``end(name)``."""
        self.end(name)
        # numbered: systemd may still know the one that was ended
        unit = self._kept[name] = f"rig-{name}-{next(self._units)}.service"
        self.run(
            *("systemd-run", "--quiet", "--collect", f"--unit={unit}"),
            *("--setenv=PYTHONPATH=/opt/rig/simulator.zip", *argv),
        )

    def end(self, name):
        """End a peer; one that does not run is no fault."""
        if name in self._kept:
            self.bench.machine.shell.run("systemctl", "stop", self._kept.pop(name))

    def end_all(self):
        """End all peers."""
        for name in list(self._kept):
            self.end(name)

    def sent(self, channel):
        """Frames that anybody has put on an interface, as the kernel counts them."""
        return int(self.run("cat", f"/sys/class/net/{channel}/statistics/tx_packets"))

    def delivered(self, channel):
        """Frames that the kernel's filters let through to sockets on this interface."""
        text = self.run("sh", "-c", "cat /proc/net/can/rcvlist_*")
        rows = [line.split() for line in text.splitlines()]
        return sum(int(row[-2]) for row in rows if row[:1] == [channel] and row[-1] == "raw")

    def filters(self, channel):
        """``{(id, mask)}`` that anybody listens to, as the kernel lists them, without errors."""
        rows = [line.split() for line in self.run("sh", "-c", _FILTERS).splitlines()]
        return {
            (int(row[1], 16) & _ID_BITS, int(row[2], 16) & _ID_BITS)
            for row in rows
            if row[:1] == [channel]
        }

    def logged(self, what, word=""):
        """Lines of the agent's log with both."""
        text = self.run("journalctl", "-u", "milepost-agent", "-o", "cat", "--no-pager")
        return sum(what in line and word in line for line in text.splitlines())

    def until(self, what, seen):
        """Wait until ``seen()`` is true; give what it gave."""
        deadline = time.monotonic() + HEED_S
        while True:
            found = seen()
            if found:
                return found
            if time.monotonic() > deadline:
                names = ("can", "obd", "j1939", "faults", "last_sample")
                told = {name: self.account()[name] for name in names}
                raise RigError(f"{what}: not within {HEED_S:.0f} s; {told}")
            time.sleep(0.3)

    def _frame(self, channel, message, source_address, signals):
        definition = self._encode[channel].get_message_by_name(message)
        # the other signals of a message are zero
        values = {signal.name: 0 for signal in definition.signals} | signals
        data = definition.encode(values, strict=False)
        frame_id = definition.frame_id
        if source_address is not None:
            frame_id = frame_id & ~0xFF | source_address
        width = 8 if definition.is_extended_frame else 3
        return f"{frame_id:0{width}X}", data.hex(), definition.decode(data)


def _database(files):
    found = cantools.database.Database()
    for file in files:
        found.add_dbc_file(file)
    return found
