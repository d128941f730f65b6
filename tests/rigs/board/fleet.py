"""The fleet scenario: from a bare board to a vehicle in the fleet, and back to a bare board.

The Debian package of this source tree, the real one-machine cloud outside, systemd, gpsd and
SocketCAN inside. Three boots: a bare board that is set up, its first boot as a vehicle, a
reboot. Each check is a promise; those that follow need what those before have made.
"""

import json
import re
import shutil
import time
from dataclasses import asdict

from tests.fakes.one_machine import milepost_cloud
from tests.rigs.board import recipe
from tests.rigs.board.checks import checked, memory_mb_of, no_time_for
from tests.rigs.board.depot import CONFIG, STATE
from tests.rigs.board.office import VEHICLE

CHECK_S = 60.0
"""What a check is given at least before the time bound."""

CPU_S = 30.0
"""How long the agent's processor time is measured."""

UPDATE_S = 1200
"""For a job to end that installs a package on an emulated processor."""

STEP_S = 900.0
"""At most for one command of the board; an emulated processor may be one of many on its machine."""

UNITS = ("milepost-agent.service", "milepost-provision.service", "milepost-rotate.timer")
_EXPOSURE = re.compile(r"exposure level for \S+: ([0-9.]+)")


def installs(depot):
    """The package installs with nothing fetched, enables its units and waits for a config."""
    depot.files_before, depot.etc_before = depot.files(), depot.settings()
    began_s = time.monotonic()
    file = f"/{recipe.SHELF}/{depot.debs[0]}"
    said = depot.run("dpkg", "--install", file, timeout_s=STEP_S)
    took_s = time.monotonic() - began_s
    assert "milepost-agent init" in said, said
    for unit in UNITS:
        assert depot.run("systemctl", "is-enabled", unit).strip() == "enabled", unit
    assert depot.shows("milepost-agent", "ActiveState") == "inactive"
    assert depot.run("dpkg", "--verify", "milepost-agent") == ""
    depot.figures |= {
        "package_bytes": int(depot.run("stat", "--format=%s", file)),
        "installed_kib": int(depot.run("du", "-sk", "/opt/milepost").split()[0]),
    }
    version = depot.run("milepost-agent", "--version").split()[-1]
    assert version == recipe.VERSIONS[0], version
    return f"{version} in {took_s:.0f} s, {depot.figures['installed_kib'] / 1000:.0f} MB"


def sets_the_board_up(depot):
    """``board apply`` writes gpsd, chrony, watchdog and journal, and a second time nothing."""
    apply = ("milepost-agent", "board", "apply", "--yes")
    device = depot.architecture.gps_device
    said = depot.run(*apply, "--board", "generic", "--gps-device", device)
    assert f'DEVICES="{device}"' in depot.run("cat", "/etc/default/gpsd")
    assert "Everything stands as wanted" in depot.run(*apply)
    return f"{said.count('+++')} files"


def prepares(depot):
    """One image serves the fleet: its config names no vehicle and no certificate."""
    depot.operator("fleet", "claim", "create", "--out", depot.folder / "claim")
    config = (recipe.GUEST / "agent-fleet.toml").read_text()
    config = config.replace("{port}", str(depot.cloud.port))
    claim = depot.folder / "claim"
    depot.put(CONFIG, config.encode(), 0o644)
    depot.put("/etc/milepost/milepost-demo.dbc", recipe.DBC.read_bytes(), 0o644)
    depot.put("/etc/milepost/ca.pem", (claim / "ca.pem").read_bytes(), 0o644)
    for name in ("certificate.pem", "key.pem"):
        depot.put(f"/etc/milepost/claim/{name}", (claim / name).read_bytes(), 0o600)
    serial = depot.run("cat", "/etc/machine-id").strip()
    depot.operator("fleet", "allow", "add", serial, VEHICLE)
    shown = depot.ask("milepost-agent", "provision", "--dry-run", timeout_s=STEP_S)
    assert serial in shown.out, shown.out
    return f"claim certificate on the board, {VEHICLE} on the allow list"


def joins(depot):
    """At its first boot the vehicle gets its identity by claim, and its samples reach the cloud."""
    depot.pid = depot.until_running()
    depot.until("a sample in the cloud", lambda: depot.stored()["samples_stored"] > 0)
    runs = depot.witness.runs.values()
    depot.figures["first_acknowledged_s"] = depot.until(
        "an acknowledged sample",
        lambda: min((run.first_acknowledged_s or 0.0 for run in runs), default=0.0),
    )
    (certificate,) = depot.certificates()
    assert certificate["status"] == "ACTIVE", certificate
    return (
        f"first sample acknowledged {depot.figures['first_acknowledged_s']:.0f} s after the "
        "kernel's start"
    )


def keeps_its_key(depot):
    """The private key is the agent's alone, and the claim's is out of its reach."""
    shown = depot.run("stat", "-L", "--format=%U %a", f"{STATE}/identity/current/key.pem")
    assert shown.split() == ["milepost", "600"], shown
    agent = ("runuser", "-u", "milepost", "--", "cat")
    for file in ("/etc/milepost/claim/key.pem", "/etc/milepost/claim/certificate.pem"):
        assert depot.ask(*agent, file).code != 0, file
    log = depot.log("milepost-provision") + depot.log("milepost-agent")
    assert "PRIVATE KEY" not in log
    return "0600, milepost"


def samples(depot):
    """Positions of the real gpsd and values of the kernel's CAN are in the samples."""
    found = depot.until(
        "a sample with a position and a state of charge",
        lambda: (
            (sample := depot.account().get("last_sample") or {})
            and "location" in sample
            and "battery" in sample
            and sample
        ),
    )
    return f"{sorted(found)}"


def is_sandboxed(depot):
    """The agent's exposure, as systemd rates it, is 1.5 at most on this board."""
    said = depot.run("systemd-analyze", "security", "--no-pager", "milepost-agent.service")
    exposure = float(_EXPOSURE.search(said)[1])
    depot.figures["exposure"] = exposure
    assert exposure <= 1.5, said
    return f"{exposure}"


def is_small(depot):
    """The agent stays within the limits of its unit."""
    before_ns = int(depot.shows("milepost-agent", "CPUUsageNSec"))
    began_s = time.monotonic()
    time.sleep(CPU_S)
    used_ns = int(depot.shows("milepost-agent", "CPUUsageNSec")) - before_ns
    percent = used_ns / 1e9 / (time.monotonic() - began_s) * 100
    memory_mb = memory_mb_of(depot.run, "milepost-agent")
    depot.figures |= {"cpu_percent": round(percent, 1), "memory_mb": memory_mb}
    assert memory_mb["Rss"] < 192
    return f"{memory_mb} MB, {percent:.1f} % of one emulated processor"


def is_doctored(depot):
    """``doctor`` finds no error in a vehicle of the fleet."""
    done = depot.ask("milepost-agent", "doctor", "--json", timeout_s=STEP_S)
    told = json.loads(done.out[done.out.index("{") :])
    errors = [one for one in told["findings"] if one["severity"] == "error"]
    assert not errors, errors
    return f"exit code {done.code}, {len(told['findings'])} findings, no error"


def survives_a_hang(depot):
    """The watchdog kills an agent that hangs, and systemd starts it again."""
    pid = depot.until_running()
    depot.run("kill", "-STOP", pid)
    began_s = time.monotonic()
    depot.until_running(not_pid=pid)
    log = depot.log("milepost-agent")
    assert "Watchdog timeout" in log, log[-2000:]
    return f"killed and READY again after {time.monotonic() - began_s:.0f} s"


def upgrades(depot):
    """An update job brings the newer version; config and state are kept, samples go on."""
    pid = depot.until_running()
    kept = _kept(depot)
    runs = set(depot.stored()["runs"])
    keys, package = depot.folder / "release", depot.folder / depot.debs[1]
    shutil.copy(depot.packages / package.name, package)
    milepost_cloud("release", "keygen", "--out", keys)
    depot.put("/etc/milepost/release-keys/fleet.pem", (keys / "public.pem").read_bytes(), 0o644)
    signed = milepost_cloud("release", "sign", package, "--key", keys / "private.pem")
    assert signed.returncode == 0, signed.stderr
    began_s = time.monotonic()
    depot.operator("jobs", "update", "--deb", package, VEHICLE, "--wait", UPDATE_S)
    took_s = time.monotonic() - began_s
    depot.until_running(not_pid=pid)
    assert _kept(depot) == kept
    assert depot.run("milepost-agent", "--version").split()[-1] == recipe.VERSIONS[1]
    depot.until("samples of the new run", lambda: set(depot.stored()["runs"]) - runs)
    depot.figures["update_s"] = round(took_s)
    return f"{recipe.VERSIONS[0]} to {recipe.VERSIONS[1]}, signed, in {took_s:.0f} s"


def rotates(depot):
    """A rotation ends with a new certificate ACTIVE and the old one INACTIVE."""
    (old,) = [one for one in depot.certificates() if one["status"] == "ACTIVE"]
    depot.run("milepost-agent", "rotate", "--wait", timeout_s=STEP_S)

    def settled():
        found = {one["certificate_id"]: one["status"] for one in depot.certificates()}
        return found if found.get(old["certificate_id"]) == "INACTIVE" else None

    found = depot.until("the old certificate INACTIVE", settled)
    assert sorted(found.values()) == ["ACTIVE", "INACTIVE"], found
    return f"{old['certificate_id'][:12]} is INACTIVE"


def stays(depot):
    """After a reboot it is still the same vehicle, with no second registration."""
    certificates = [one["certificate_id"] for one in depot.certificates()]
    runs = set(depot.stored()["runs"])
    depot.power_off()
    depot.boot()
    depot.until_running()
    depot.until("samples of a new run", lambda: set(depot.stored()["runs"]) - runs)
    assert [one["certificate_id"] for one in depot.certificates()] == certificates
    assert depot.shows("milepost-provision", "ConditionResult") == "no"
    return "samples of a new run, the same certificate"


def leaves(depot):
    """Purge asks nothing and leaves nothing."""
    depot.run("dpkg", "--purge", "milepost-agent", timeout_s=STEP_S)
    left = sorted(name for name in depot.files() - depot.files_before if not _is_the_board_s(name))
    assert not left, left[:20]
    gone = sorted(name for name in depot.files_before - depot.files() if not _is_the_board_s(name))
    assert gone in ([], ["/opt"]), gone[:20]
    for database in ("passwd", "group"):
        assert depot.ask("getent", database, "milepost").code != 0, database
    units = depot.ask("systemctl", "list-unit-files", "--no-legend", "--no-pager").out
    assert "milepost" not in units, units
    return "no file, no user, no unit; what board apply had set is as it was"


CHECKS = (
    (installs, sets_the_board_up, prepares),
    (
        joins, keeps_its_key, samples, is_sandboxed, is_small, is_doctored, survives_a_hang,
        upgrades, rotates, stays, leaves,
    ),
)  # fmt: skip
"""By boot; ``stays`` reboots by itself."""


def run(depot, *, deadline_s):
    """The report as plain data."""
    begun_s = time.monotonic()
    checks = []
    for number, functions in enumerate(CHECKS, 1):
        depot.boot()
        depot.say(f"boot {number}")
        for function in functions:
            left_s = deadline_s - (time.monotonic() - begun_s)
            enough = left_s > CHECK_S
            checks.append(
                checked(function, depot, depot.say) if enough else no_time_for(function, deadline_s)
            )
        depot.power_off()
    return {
        "scenario": "fleet",
        "architecture": depot.architecture.debian,
        "accelerator": depot.machine.accel,
        "checks": [asdict(check) for check in checks],
        "figures": depot.figures,
        "took_s": round(time.monotonic() - begun_s),
        "faults": [f"{check.promise}: {check.told}" for check in checks if not check.held],
    }


def words(report):
    """The report for a person."""
    return [
        *(f"{check['promise']}: {check['told']}" for check in report["checks"] if check["held"]),
        *(f"{name}: {value}" for name, value in report["figures"].items()),
        f"took {report['took_s']} s",
    ]


def _kept(depot):
    """What an upgrade may not touch."""
    files = (CONFIG, f"{STATE}/identity/current/certificate.pem")
    return depot.run("sha256sum", *files)


def _is_the_board_s(name):
    """What any board changes by itself while it runs."""
    return name.startswith(
        (
            "/var/log/journal",
            "/var/lib/systemd",
            "/var/lib/chrony",
            "/var/lib/dpkg",
            "/var/lib/private",
            "/var/log/chrony",
            "/var/cache",
            "/tmp",
            "/var/tmp",
            "/root",
            "/etc/machine-id",
            # as they were before the last change of users
            "/etc/passwd-",
            "/etc/group-",
            "/etc/shadow-",
            "/etc/gshadow-",
            "/etc/.pwd.lock",
        )
    )
