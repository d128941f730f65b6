"""The diagnostics scenario: ``[[obd]]`` and ``[[j1939]]`` on the kernel's SocketCAN.

Their peers are ``milepost-sim ecu``, which sleeps and wakes, and ECUs of the kernel's own
ISO-TP and J1939 (``guest/ecu.py``), which share no line of code with the agent.
"""

from tests.rigs.board import recipe
from tests.rigs.board.buses import CLASSIC, OBD, TRUCK

NAME = "diagnostics"
CONFIG = recipe.GUEST / "agent-diagnostics.toml"
PYTHON = "/opt/milepost/bin/python"
ANSWER_IDS = {(0x7E8, 0x7F8), (0x7E9, 0x7FF)}
"""ISO 15765-4's, and that of the config's UDS entry, with their masks."""

GROUPS = {
    0xF004, 0xFEF1,  # EEC1, CCVS1: mapped by [[can]]
    0xFECA, 0xFEE5, 0xFEEC,  # DM1, engine hours, vehicle identification
    0xECFF, 0xEBFF,  # messages of several packets, to everyone
    0xEEFF, 0xEAFF, 0xEAF9,  # address claims; requests to everyone and to the agent
}  # fmt: skip
GROUP_MASK = 0x03FF_FF00
UNMAPPED_FRAMES = 500
ASLEEP_S = 10
"""How long a sleeping bus is watched."""

UDS_ANSWER = "59022F9234110850011C08C1008708"
UDS_CODES = {"B1234-11", "C1001-1C", "U0100-87"}
OBD_CODES = {"P0301", "P0420"}
VIN = "WMPST0000000R1G07"
TRUCK_CODE = "SPN 110 FMI 3"
DM1_MESSAGE = "04FF6400010100F0FF01"
DM1_CODES = {"SPN 100 FMI 1", "SPN 520192 FMI 31"}


def asked_by_nobody(buses):
    """Of an OBD-II bus the kernel lets answers through alone; a vehicle out of use is not asked."""
    buses.run("systemctl", "stop", "rig-can.service")
    buses.repeat("speed", CLASSIC, "DriveState", VehicleSpeed=0)
    buses.repeat("use", CLASSIC, "BodyState", InUse=0)
    assert buses.faults(f"obd:{OBD}"), "no fault although the bus is missing"
    buses.add(OBD)
    _until_regained(buses, f"obd:{OBD}")
    told = buses.logged(f"obd on {OBD} ", "lost"), buses.logged(f"obd on {OBD} ", "recovered")
    assert told == (1, 1), told
    buses.until("heed of the ignition", lambda: _asking(buses) == ("listen", "ignition_off"))
    listened = buses.filters(OBD)
    assert listened == ANSWER_IDS, listened
    passed = buses.delivered(OBD)
    for frame_id in ("0B4", "7E0", "18DB33F1"):
        buses.generate(frame_id, UNMAPPED_FRAMES, 0.1, OBD)
    unmapped = buses.delivered(OBD) - passed
    buses.run("cansend", OBD, "7E8#0641009E3A801100")
    mapped = buses.delivered(OBD) - passed
    assert (unmapped, mapped) == (0, 1), (unmapped, mapped)
    _down_and_up(buses, OBD, f"obd:{OBD}")
    sent = buses.sent(OBD)
    assert sent == 3 * UNMAPPED_FRAMES + 1, f"{sent} frames, more than ours"
    return f"{3 * UNMAPPED_FRAMES} frames sent, 0 passed; down and up noticed without a request"


def asked_in_use(buses):
    """PIDs, trouble codes and the VIN reach the samples, and the codes become events."""
    uds_ecu = ("/opt/rig/ecu.py", "uds", OBD, "7E1", "7E9", UDS_ANSWER)
    buses.keep("uds-ecu", "python3", *uds_ecu)
    _obd_ecu(buses, "--speed-kmh", "43", "--rpm", "1900")
    buses.repeat("use", CLASSIC, "BodyState", InUse=1)
    codes = OBD_CODES | UDS_CODES

    def seen():
        sample = buses.sample()
        signals = sample.get("signals", {})
        return (
            signals.get("engine_rpm") == 1900
            and signals.get("coolant_temperature_c") == 88
            and signals.get("vin") == VIN
            and sample.get("battery", {}).get("voltage") == 14.1
            and sample.get("diagnostics", {}).get("odometer_km") == 2458
            and codes <= buses.codes()
        )

    buses.until("all values in a sample", seen)
    buses.until("the events", lambda: codes <= buses.events("fault_raised"))
    bus = buses.bus(OBD, "obd")
    return f"{bus['answered']} of {bus['requests']} requests answered; {', '.join(sorted(codes))}"


def falls_asleep(buses):
    """An ECU that is asked falls asleep all the same; its own waking is what it is asked after."""
    buses.end("use")
    # in a trip it would be a fault that no ECU answers
    buses.until("the trip's end", lambda: _asking(buses) == ("ask", "engine_runs"))
    _down_and_up(buses, OBD, f"obd:{OBD}")
    _obd_ecu(buses, "--ignition", "off", "--stays-awake", "10")
    # before, the bus was silent too: nobody spoke on it since it came up
    awake = {"bus_awake", "engine_off"}
    buses.until("its own traffic to be noticed", lambda: _asking(buses)[1] in awake)
    buses.until("the bus to sleep", lambda: _asking(buses) == ("listen", "bus_silent"))
    counter = f"/sys/class/net/{OBD}/statistics/tx_packets"
    watched = buses.run("sh", "-c", f"cat {counter}; sleep {ASLEEP_S}; cat {counter}").split()
    assert watched[0] == watched[1], f"frames on a bus that sleeps: {watched}"
    buses.until("no old values", lambda: "engine_rpm" not in buses.signals())
    assert buses.codes() >= OBD_CODES | UDS_CODES, "the codes are forgotten"
    _obd_ecu(buses, "--rpm", "2100")
    buses.until("values again", lambda: buses.signals().get("engine_rpm") == 2100)
    buses.end("obd-ecu")
    return f"not one frame in {ASLEEP_S} s; its codes are held; 2100 1/min once it woke"


def parameter_groups(buses):
    """Of a J1939 bus the kernel lets the mapped groups through, and their values are cantools'."""
    sources = f"can:{TRUCK}", f"j1939:{TRUCK}"
    buses.add(TRUCK)
    _until_regained(buses, *sources)
    listened = buses.filters(TRUCK)
    assert listened == {(group << 8, GROUP_MASK) for group in GROUPS}, listened
    passed = buses.delivered(TRUCK)
    for frame_id in ("0B4", "18FEF200", "18EA0021"):
        buses.generate(frame_id, UNMAPPED_FRAMES, 0.1, TRUCK)
    unmapped = buses.delivered(TRUCK) - passed
    assert unmapped == 0, unmapped
    _show_truck(buses, EngineSpeed=1234.5)
    _down_and_up(buses, TRUCK, *sources)
    _show_truck(buses, EngineSpeed=1300.125)
    return f"{3 * UNMAPPED_FRAMES} frames sent, 0 passed; values before and after down and up"


def truck_faults(buses):
    """DM1 faults of two ECUs, in one frame and in packets of the kernel's J1939, come and go."""
    ecu = ("ecu", "j1939", "--interface", "socketcan", "--channel", TRUCK, "--fault", "110:3")
    buses.keep("truck", PYTHON, "-m", "simulator", *ecu)
    buses.keep("dm1", "python3", "/opt/rig/ecu.py", "dm1", TRUCK, "3", DM1_MESSAGE)
    codes = DM1_CODES | {TRUCK_CODE}
    buses.until("the faults in a sample", lambda: codes <= buses.codes())
    buses.until("the events", lambda: codes <= buses.events("fault_raised"))
    # a request of the agent's, sent after its claim of an address, is answered
    buses.until("engine hours", lambda: buses.signals().get("engine_hours") == 1234.5)
    buses.end("dm1")
    buses.until("the end of the second ECU's", lambda: not DM1_CODES & buses.codes())
    buses.until("its events", lambda: buses.events("fault_cleared") >= DM1_CODES)
    buses.until("the first one's faults", lambda: TRUCK_CODE in buses.codes())
    return f"{', '.join(sorted(codes))}; engine hours on request"


CHECKS = (asked_by_nobody, asked_in_use, falls_asleep, parameter_groups, truck_faults)


def _obd_ecu(buses, *options):
    ecu = ("ecu", "obd", "--interface", "socketcan", "--channel", OBD, "--vin", VIN)
    codes = ("--dtc", "P0301", "--pending", "P0420")
    before = buses.sent(OBD)
    buses.keep("obd-ecu", PYTHON, "-m", "simulator", *ecu, *codes, *options)
    buses.until("the ECU's first frame", lambda: buses.sent(OBD) > before)


def _asking(buses):
    bus = buses.bus(OBD, "obd")
    return bus["state"], bus["reason"]


def _until_regained(buses, *sources):
    buses.until(f"{' and '.join(sources)} to be back", lambda: not buses.faults(*sources))


def _down_and_up(buses, channel, *sources):
    buses.run("ip", "link", "set", channel, "down")
    buses.until(f"{channel} to be down", lambda: buses.faults(*sources) == list(sources))
    buses.run("ip", "link", "set", channel, "up")
    _until_regained(buses, *sources)


def _show_truck(buses, **signals):
    """Send EEC1 and CCVS1, each from another source address, until samples carry them."""

    def seen():
        rpm = buses.send(TRUCK, "EEC1", source_address=0, **signals)["EngineSpeed"]
        kmh = buses.send(TRUCK, "CCVS1", source_address=11, WheelBasedSpeed=43.5)
        told = buses.signals()
        return (told.get("truck_rpm"), told.get("truck_speed_kmh")) == (
            rpm,
            kmh["WheelBasedSpeed"],
        )

    buses.until(f"{signals} in a sample", seen)
