"""The promises of ``[[can]]`` on the kernel's SocketCAN, with can-utils as peers."""

import time

from tests.rigs.board import recipe
from tests.rigs.board.buses import CLASSIC, FD

NAME = "can"
CONFIG = recipe.GUEST / "agent-can.toml"
MAPPED = ("100", "110", "120")
"""The ids of the config's signals, in hexadecimal."""

UNMAPPED_ID = "101"
FRAMES = 2_000
FLOOD_FRAMES = 20_000
STOPPED_FRAMES = 5_000


def missing_at_boot(buses):
    """A bus that is missing at boot stops nothing, is told of, and is taken when it comes."""
    before = buses.account()
    gone = next(bus for bus in before["can"] if bus["channel"] == FD)
    assert gone["state"] == "down", gone
    assert buses.faults(f"can:{FD}"), before["faults"]
    assert buses.logged(f"CAN bus {FD} ", "lost") == 1
    buses.run("ip", "link", "add", "dev", FD, "type", "vcan")
    buses.run("ip", "link", "set", FD, "mtu", "72", "up")
    buses.until("the new bus", lambda: buses.bus(FD)["state"] != "down")
    buses.until("no fault", lambda: not buses.faults(f"can:{FD}"))
    assert buses.logged(f"CAN bus {FD} ", "recovered") == 1
    return "one line when it was missed, one when it came; a fault raised and cleared"


def can_fd(buses):
    """A CAN FD frame of 64 bytes with a 29-bit id gives cantools' value."""
    sent = buses.send(FD, "PackEnergy", Energy=123.45)["Energy"]
    buses.until(
        f"{sent} kWh in a sample",
        lambda: buses.signals().get("pack_energy_kwh") == sent,
    )
    return f"{sent} kWh from byte 60"


def kernel_filters(buses):
    """Frames of ids that are not mapped do not reach the agent's process."""
    buses.run("systemctl", "stop", "rig-can.service")
    filters = {frame_id for frame_id, _ in buses.filters(CLASSIC)}
    assert filters == {int(one, 16) for one in MAPPED}, filters
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
        _show_percent(buses, percent)
    return "42.5 % and 99.99 %"


def down_and_up(buses):
    """A bus that goes down and up again recovers by itself; both are logged once."""
    before = _told_of(buses)
    buses.run("ip", "link", "set", CLASSIC, "down")
    buses.until("the bus to be down", lambda: buses.bus(CLASSIC)["state"] == "down")
    buses.until("samples without its values", lambda: "battery" not in buses.sample())
    during = buses.account()["samples_created"]
    assert buses.faults(f"can:{CLASSIC}", f"can:{FD}") == [f"can:{CLASSIC}"]
    buses.run("ip", "link", "set", CLASSIC, "up")
    buses.until("the bus to be up", lambda: buses.bus(CLASSIC)["state"] != "down")
    _show_percent(buses, 51.25)
    buses.until("no fault", lambda: not buses.faults(f"can:{CLASSIC}"))
    went_on = buses.account()["samples_created"] - during
    assert went_on > 0
    lost, recovered = (now - then for now, then in zip(_told_of(buses), before, strict=True))
    assert (lost, recovered) == (1, 1), (lost, recovered)
    return f"{went_on} samples meanwhile, without what the bus gives"


def removed(buses):
    """An interface that is removed and made anew, as an unplugged adapter's is, is taken again."""
    buses.run("ip", "link", "del", CLASSIC)
    buses.until("the bus to be down", lambda: buses.bus(CLASSIC)["state"] == "down")
    buses.run("ip", "link", "add", "dev", CLASSIC, "type", "vcan")
    buses.run("ip", "link", "set", CLASSIC, "up")
    buses.until("the bus to be up", lambda: buses.bus(CLASSIC)["state"] != "down")
    _show_percent(buses, 61.5)
    return "without a restart of the agent"


def drop_counter(buses):
    """What does not fit into the socket is counted, to the frame, by the kernel's drop counter."""
    before, passed = buses.bus(CLASSIC), buses.delivered(CLASSIC)
    # an agent that gets no time at all
    buses.run("systemctl", "kill", "--signal=STOP", "milepost-agent")
    buses.generate(MAPPED[0], STOPPED_FRAMES, 0)
    buses.run("systemctl", "kill", "--signal=CONT", "milepost-agent")
    _show_percent(buses, 71.0)  # the counter comes with a frame
    given, taken, dropped = _reckoned(buses, before, passed)
    assert dropped > 0, f"{given} frames, none dropped"
    return f"of {given} frames {taken} were taken and {dropped} counted as dropped"


def flood(buses):
    """A flood stops neither samples nor watchdog; the newest value counts after it."""
    before, bus, passed = buses.account(), buses.bus(CLASSIC), buses.delivered(CLASSIC)
    began_s = time.monotonic()
    buses.generate(MAPPED[0], FLOOD_FRAMES, 0)
    took_s = time.monotonic() - began_s
    _show_percent(buses, 81.0)
    given, _, dropped = _reckoned(buses, bus, passed)
    after = buses.account()
    assert after["run_id"] == before["run_id"], "the agent was restarted"
    assert after["samples_created"] > before["samples_created"]
    return f"{given} frames in {took_s:.0f} s, {dropped} of them dropped and counted"


CHECKS = (
    missing_at_boot,
    can_fd,
    kernel_filters,
    values,
    down_and_up,
    removed,
    drop_counter,
    flood,
)


def _show_percent(buses, percent):
    """Send a state of charge until samples carry it as cantools decodes it."""

    def seen():
        # again and again: one that finds the socket's buffer full is lost, and values age
        sent = buses.send(CLASSIC, "BatteryState", StateOfCharge=percent)["StateOfCharge"]
        return buses.sample().get("battery", {}).get("percent") == sent

    buses.until(f"battery.percent = {percent} in a sample", seen)


def _reckoned(buses, before, passed):
    """Wait until what passed the filters is all accounted for: passed, taken, dropped."""

    def seen():
        now, given = buses.bus(CLASSIC), buses.delivered(CLASSIC) - passed
        taken, dropped = (now[name] - before[name] for name in ("frames", "kernel_dropped"))
        return (given, taken, dropped) if taken + dropped == given else None

    return buses.until("every frame in the account", seen)


def _told_of(buses):
    """How often the agent's log says that the bus was lost, and that it recovered."""
    return tuple(buses.logged(f"CAN bus {CLASSIC} ", word) for word in ("lost", "recovered"))
