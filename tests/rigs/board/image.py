"""Builds the guest: debootstrap, the agent from its Debian package, ext4. Cached by what goes in.

Three layers, each a folder in the cache that is renamed into place when it is complete: the
bare Debian (minutes, seldom), the packages of this source tree, and the image with the agent
installed or with its packages beside it (under a minute, whenever sources or recipe change).
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from package import deb
from package.errors import PackageError
from package.platforms import PLATFORMS
from tests.rigs.board import recipe
from tests.rigs.board.errors import MissingProgramsError, RigError

CACHE = Path(
    os.environ.get("MILEPOST_RIG_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "milepost-rig"
)
_EPOCH_S = 1_760_000_000
"""In every package of the rig, so that the same source is the same image whatever was committed."""

PROGRAMS = (
    "dpkg-deb",
    "qemu-system-x86_64",
    "debootstrap",
    "mke2fs",
    "debugfs",
    "chroot",
    "mosquitto",
)
PROGRAMS_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
KEPT_IMAGES = 4
_DROPPED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")


@dataclass(frozen=True)
class Image:
    """A disk image, and what QEMU boots it with."""

    folder: Path
    packages: Path
    """The folder with the agent's packages."""

    @property
    def disk(self):
        """Raw ext4, no partition table. Never written: each run works on a copy."""
        return self.folder / "disk.img"

    @property
    def kernel(self):
        return self.folder / "vmlinuz"

    @property
    def initrd(self):
        return self.folder / "initrd"

    @property
    def agent_ids(self):
        """The ids of the agent's user and group in the guest."""
        return tuple(json.loads((self.folder / "agent-ids.json").read_text()))


def require_programs():
    """Raise ``MissingProgramsError`` unless the rig can work here."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PROGRAMS_PATH) is None]
    if os.geteuid() != 0:
        missing.append("root (debootstrap makes device nodes and changes its root)")
    if missing:
        raise MissingProgramsError(", ".join(missing))


def build(say, *, installed=True):
    """The image of this source tree, from the cache or made now; ``say`` takes progress.

    ``installed``: the agent is installed and starts with the board. Else its packages lie in
    ``recipe.SHELF`` for the scenario to install.
    """
    require_programs()
    packages = _packages(say)
    folder = CACHE / f"image-{recipe.image_digest(packages.name, installed=installed)}"
    if folder.is_dir():
        os.utime(folder)
        return Image(folder, packages)
    base = _base(say)
    say("installing the agent's package, making the image" if installed else "making the image")
    with workspace() as work:
        made = work / "image"
        made.mkdir()
        tree = work / "tree"
        execute("cp", "-a", "--reflink=auto", base, tree)
        _furnish(tree, recipe.FILES, recipe.TEXTS)
        (tree / "opt/rig/drive.candump").write_text(recipe.drive_candump())
        shelf = tree / recipe.SHELF
        shelf.mkdir(parents=True)
        for file in packages.glob("*.deb"):
            shutil.copy(file, shelf)
        if installed:
            _chroot(tree, "dpkg", "--install", f"/{recipe.SHELF}/{recipe.DEB}")
            shutil.rmtree(shelf)
            _furnish(tree, recipe.BOARD_FILES, recipe.BOARD_TEXTS)
            _chroot(tree, "systemctl", "--quiet", "enable", *recipe.BOARD_ENABLED)
        _chroot(tree, "systemctl", "--quiet", "enable", *recipe.ENABLED)
        _chroot(tree, "systemctl", "--quiet", "mask", *recipe.MASKED)
        (tree / "etc/machine-id").write_text("")
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            (found,) = (tree / "boot").glob(pattern)
            found.replace(made / name)
        (made / "agent-ids.json").write_text(json.dumps(_agent_ids(tree)))
        execute("mke2fs", "-q", "-t", "ext4", "-d", tree, made / "disk.img", recipe.DISK_SIZE)
        into_place(made, folder)
    _prune()
    return Image(folder, packages)


def _packages(say):
    """The folder with the packages of this source tree: as it is, and one called newer."""
    folder = CACHE / f"packages-{recipe.sources_digest()}"
    if not folder.is_dir():
        say("building the Debian package (under a minute)")
        with workspace() as work:
            made = work / "packages"
            try:
                deb.build(PLATFORMS[recipe.ARCHITECTURE], recipe.VERSIONS, made, epoch_s=_EPOCH_S)
            except PackageError as error:
                raise RigError(str(error)) from error
            into_place(made, folder)
    os.utime(folder)
    return folder


def _base(say):
    folder = CACHE / f"base-{recipe.base_digest()}"
    if folder.is_dir():
        return folder
    say("making a bare Debian guest with debootstrap (once; about two minutes)")
    with workspace() as work:
        tree = work / "base"
        execute(
            *("debootstrap", "--variant=minbase", f"--include={','.join(recipe.PACKAGES)}"),
            *(recipe.SUITE, tree, mirror()),
        )
        tools = tree / "etc/initramfs-tools"
        settings = (tools / "initramfs.conf").read_text()
        (tools / "initramfs.conf").write_text(settings.replace("MODULES=most", "MODULES=list"))
        (tools / "modules").write_text("\n".join(recipe.INITRD_MODULES) + "\n")
        _chroot(tree, "update-initramfs", "-u")
        for name in (*_DROPPED, "var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(tree / name, ignore_errors=True)
        into_place(tree, folder)
    return folder


def _furnish(tree, files, texts):
    """The rig's own files."""
    for source, target in files.items():
        place = tree / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    for target, text in texts.items():
        (tree / target).unlink(missing_ok=True)
        (tree / target).write_text(text)


def _agent_ids(tree):
    """User and group of the agent; nothing while it is not installed."""
    passwd = (tree / "etc/passwd").read_text().splitlines()
    entries = (line.split(":") for line in passwd if line.startswith("milepost:"))
    return [int(number) for entry in entries for number in entry[2:4]]


def mirror():
    """Where this machine's own apt gets the suite from; debootstrap's own choice if unclear."""
    done = subprocess.run(
        [
            *("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(SUITE)"),
            *("Created-By: Packages", "Component: main"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        site, *names = line.split()
        if recipe.SUITE in names:
            return site
    return ""


@contextlib.contextmanager
def workspace():
    """A folder beside the cache's, so that what is complete can be renamed into it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=CACHE) as work:
        yield Path(work)


def into_place(made, folder):
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run made the same beside this one
            raise


def _prune():
    for kind in ("image", "packages"):
        found = sorted(CACHE.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime)
        for old in found[:-KEPT_IMAGES]:
            shutil.rmtree(old, ignore_errors=True)


def _chroot(tree, *command):
    execute("chroot", tree, *command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})


def execute(*command, env=None):
    """Run to the end; its output only if it fails."""
    words = [str(word) for word in command if word != ""]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=env if env is not None else os.environ | {"PATH": PROGRAMS_PATH},
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise RigError(f"{' '.join(words)} failed:\n{tail}")
