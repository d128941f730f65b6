"""The scenarios of CAN: the kernel's SocketCAN, its buses played by peers.

One boot, the vehicle's agent run by systemd, the buses on vcan. What the agent says is held
against the kernel's own counters and against cantools' encoding. The promises are those of
the raw buses (``raw_bus``) or of the diagnostic protocols (``diagnostics``).
"""

import io
import json
import time
import zipfile

from tests.rigs.board import recipe
from tests.rigs.board.bench import plain
from tests.rigs.board.buses import FD_DBC, HEED_S, TRUCK_DBC, Buses
from tests.rigs.board.checks import checked, memory_mb_of, no_time_for
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import balance


def files():
    """For the guest's disk; the simulator as Python imports it, the package has none."""
    texts = {
        "/etc/milepost/can-fd.dbc": FD_DBC,
        "/etc/milepost/truck-j1939.dbc": TRUCK_DBC,
        "/opt/rig/can_load.py": recipe.ROOT / "bench/can_load.py",
        "/opt/rig/ecu.py": recipe.GUEST / "ecu.py",
    }
    simulator = io.BytesIO()
    with zipfile.ZipFile(simulator, "w") as archive:
        for file in sorted((recipe.ROOT / "simulator").rglob("*.py")):
            archive.write(file, file.relative_to(recipe.ROOT))
    found = {target: file.read_bytes() for target, file in texts.items()}
    found["/opt/rig/simulator.zip"] = simulator.getvalue()
    return {target: (data, 0o644, 0, 0) for target, data in found.items()}


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


def run(bench, *, promises, deadline_s, with_load=False):
    """Try the promises of one of the modules; the report as plain data."""
    begun_s = time.monotonic()
    bench.boot()
    times = bench.machine.wait_ready()
    bench.say(f"READY after {times.ready_s:.0f} s of the guest's clock")
    buses = Buses(bench)
    checks = []
    for function in promises.CHECKS:
        if time.monotonic() - begun_s > deadline_s:
            checks.append(no_time_for(function, deadline_s))
            continue
        checks.append(checked(function, buses, bench.say))
    buses.end_all()
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
        "scenario": promises.NAME,
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
