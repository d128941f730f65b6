"""The agent's package on another architecture: a Debian of arm64 or armhf, without its kernel.

Every program of it runs, under QEMU's user emulation, on this machine's kernel: so the wheels,
the maintainer scripts and the whole agent are tried on that architecture, but neither systemd
nor SocketCAN. It joins the fleet of a real one-machine cloud. proot starts the foreign programs,
so no binfmt_misc is needed.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass

from package import deb
from package.errors import PackageError
from package.platforms import PLATFORMS
from tests.rigs.board import image, recipe
from tests.rigs.board.checks import checked
from tests.rigs.board.depot import CONFIG, STATE
from tests.rigs.board.errors import MissingProgramsError, RigError
from tests.rigs.board.office import VEHICLE, Office

EMULATORS = {"arm64": "qemu-aarch64-static", "armhf": "qemu-arm-static"}
PACKAGES = ("gpgv", "init-system-helpers", "iproute2", "passwd", "python3", "systemd")
EPOCH_S = 1_760_000_000
STEP_S = 900.0
"""For one command; user emulation is ten times slower than the machine."""


@dataclass(frozen=True)
class Made:
    """What the scenario begins with."""

    architecture: str
    tree: object
    """The bare Debian in the cache; never written, each run works on a copy."""
    package: object


def build(architecture, say):
    """Debian and the agent's package of that architecture, from the cache or made now."""
    needed = ("debootstrap", "unshare", "proot", EMULATORS[architecture], "dpkg-deb")
    path = image.PROGRAMS_PATH
    missing = [name for name in needed if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        missing.append("root (debootstrap makes device nodes)")
    if missing:
        raise MissingProgramsError(", ".join(missing))
    packages = PACKAGES + PLATFORMS[architecture].depends
    key = recipe.digest([architecture, recipe.SUITE, repr(packages)])
    tree = image.CACHE / f"userland-{key}"
    if not tree.is_dir():
        say(f"making a Debian for {architecture} under user emulation (once; ten minutes)")
        with image.workspace() as work:
            made = work / "tree"
            image.execute(
                *("debootstrap", "--foreign", "--variant=minbase", f"--arch={architecture}"),
                *(f"--include={','.join(packages)}", recipe.SUITE, made, image.mirror()),
            )
            second = ("/bin/sh", "/debootstrap/debootstrap", "--second-stage")
            _under(made, architecture, *second, bound=())
            image.into_place(made, tree)
    return Made(architecture, tree, _package(architecture, say))


def _package(architecture, say):
    folder = image.CACHE / f"packages-{architecture}-{recipe.sources_digest()}"
    if not folder.is_dir():
        say(f"building the Debian package for {architecture} (under a minute)")
        with image.workspace() as work:
            made = work / "packages"
            try:
                deb.build(PLATFORMS[architecture], recipe.VERSIONS[:1], made, epoch_s=EPOCH_S)
            except PackageError as error:
                raise RigError(str(error)) from error
            image.into_place(made, folder)
    (found,) = folder.glob("*.deb")
    return found


def _under(tree, architecture, *command, **options):
    """Run a program of the tree that must succeed, to its end; its output."""
    done = subprocess.run(
        _words(tree, architecture, *command, **options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=STEP_S * 4,
        env=_ENVIRONMENT,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise RigError(f"on {architecture}, {' '.join(map(str, command))} failed:\n{tail}")
    return done.stdout


_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBOOTSTRAP_DIR": "/debootstrap",
    "PROOT_NO_SECCOMP": "1",
}


def _words(tree, architecture, *command, bound=("/proc", "/dev")):
    return [
        # as root proot lets mounts through: debootstrap's /proc and /sys end with the command
        *("unshare", "--mount", "proot", "-q", EMULATORS[architecture], "-0", "-r", str(tree)),
        *(word for name in bound for word in ("-b", name)),
        *("-w", "/", *map(str, command)),
    ]


class Board(Office):
    """A board of that architecture, and the cloud; a context manager."""

    def __init__(self, made, folder, *, say):
        super().__init__(folder)
        self.say = say
        self.architecture = made.architecture
        self.package = made.package
        self.tree = folder / "tree"
        self.figures = {}
        shutil.copytree(made.tree, self.tree, symlinks=True, ignore=_no_devices)
        self._agent = None

    def __exit__(self, *exception):
        self.stop()
        super().__exit__(*exception)
        shutil.rmtree(self.tree, ignore_errors=True)

    def run(self, *command):
        """A program of the board that must succeed; its output."""
        return _under(self.tree, self.architecture, *command)

    def put(self, path, data, mode):
        """A file that the installer copies onto the board."""
        place = self.tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(mode)

    def start(self):
        """The agent, as its unit starts it."""
        (self.tree / "run/milepost").mkdir(parents=True, exist_ok=True)
        log = (self.folder / "agent.log").open("ab")
        self._agent = subprocess.Popen(
            _words(self.tree, self.architecture, "/usr/bin/milepost-agent", "run"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_ENVIRONMENT,
            start_new_session=True,
        )

    def stop(self):
        """In order; idempotent."""
        if self._agent is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._agent.pid, 15)
            try:
                self._agent.wait(120)
            except subprocess.TimeoutExpired:
                os.killpg(self._agent.pid, 9)
                self._agent.wait(30)
            self._agent = None

    def files(self):
        """Every file and folder of the board."""
        return {str(path.relative_to(self.tree)) for path in self.tree.rglob("*")}


def _no_devices(folder, names):
    return names if folder.endswith(("/dev", "/proc", "/sys")) else []


def installs(board):
    """The package installs, and what it has is of this architecture."""
    board.files_before = board.files()
    shutil.copy(board.package, board.tree / "root")
    began_s = time.monotonic()
    board.run("dpkg", "--install", f"/root/{board.package.name}")
    took_s = time.monotonic() - began_s
    version = board.run("milepost-agent", "--version").split()[-1]
    assert version == recipe.VERSIONS[0], version
    board.figures["package_bytes"] = board.package.stat().st_size
    board.figures["installed_kib"] = int(board.run("du", "-sk", "/opt/milepost").split()[0])
    return f"{version} on {board.run('uname', '-m').strip()} in {took_s:.0f} s"


def joins(board):
    """It gets its identity by claim."""
    claim = board.folder / "claim"
    board.operator("fleet", "claim", "create", "--out", claim)
    config = (recipe.GUEST / "agent-userland.toml").read_text()
    board.put(CONFIG, config.replace("{port}", str(board.cloud.port)).encode(), 0o644)
    board.put("/etc/milepost/ca.pem", (claim / "ca.pem").read_bytes(), 0o644)
    for name in ("certificate.pem", "key.pem"):
        board.put(f"/etc/milepost/claim/{name}", (claim / name).read_bytes(), 0o600)
    serial = "10000000a1b2c3d4"
    board.put("/etc/machine-id", f"{serial}\n".encode(), 0o644)
    board.operator("fleet", "allow", "add", serial, VEHICLE)
    said = board.run("milepost-agent", "provision", "--json")
    told = json.loads(said[said.index("{") : said.rindex("}") + 1])
    (certificate,) = board.certificates()
    assert certificate["status"] == "ACTIVE", certificate
    assert (board.tree / STATE.lstrip("/") / "identity/current/key.pem").is_file()
    return f"{told['vehicle_id']}, certificate {certificate['certificate_id'][:12]}"


def delivers(board):
    """Its samples reach the cloud, acknowledged."""
    board.start()
    began_s = time.monotonic()
    deadline = began_s + STEP_S
    while not board.stored()["samples_stored"]:
        if time.monotonic() > deadline:
            raise RigError((board.folder / "agent.log").read_text()[-2000:])
        time.sleep(1)
    took_s = time.monotonic() - began_s
    board.stop()
    stored = board.stored()
    assert not any(stored["missing"].values()), stored["missing"]
    return f"the first after {took_s:.0f} s, {stored['samples_stored']} in all, none missing"


def leaves(board):
    """Purge leaves nothing."""
    board.run("dpkg", "--purge", "milepost-agent")
    left = {
        name
        for name in board.files() - board.files_before
        if not name.startswith(("root/", "tmp", "var/lib/dpkg", "etc/machine-id"))
        and not name.endswith(("passwd-", "group-", "shadow-", ".pwd.lock"))
    }
    assert not left, sorted(left)[:20]
    return "no file"


CHECKS = (installs, joins, delivers, leaves)


def run(board):
    """The report as plain data."""
    begun_s = time.monotonic()
    checks = [checked(function, board, board.say) for function in CHECKS]
    return {
        "scenario": f"userland {board.architecture}",
        "checks": [asdict(check) for check in checks],
        "figures": board.figures,
        "took_s": round(time.monotonic() - begun_s),
        "faults": [f"{check.promise}: {check.told}" for check in checks if not check.held],
    }
