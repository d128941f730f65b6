"""Builds the guest: debootstrap, the agent from its Debian package, ext4. Cached by what goes in.

Three layers, each a folder in the cache that is renamed into place when it is complete: the
bare Debian (minutes, seldom), the packages of this source tree, and the image with the agent
installed or with its packages beside it (under a minute, whenever sources or recipe change).
"""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from package import deb
from package.errors import PackageError
from package.platforms import PLATFORMS
from tests.rigs.board import debian, programs, recipe
from tests.rigs.board.architectures import AMD64, Architecture
from tests.rigs.board.errors import MissingProgramsError, RigError
from tests.rigs.board.programs import chroot, execute

CACHE = Path(
    os.environ.get("MILEPOST_RIG_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "milepost-rig"
)
_EPOCH_S = 1_760_000_000
"""In every package of the rig, so that the same source is the same image whatever was committed."""

PROGRAMS = (
    "dpkg-deb",
    "eu-strip",
    "debootstrap",
    "mke2fs",
    "debugfs",
    "chroot",
    "mosquitto",
)
KEPT_IMAGES = 4


@dataclass(frozen=True)
class Image:
    """A disk image, and what QEMU boots it with."""

    folder: Path
    packages: Path
    """The folder with the agent's packages."""
    architecture: Architecture

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


def require_programs(architecture):
    """Raise ``MissingProgramsError`` unless the rig can work here."""
    wanted = (*PROGRAMS, architecture.program, *(("cpio",) if architecture.foreign else ()))
    missing = [name for name in wanted if shutil.which(name, path=programs.PATH) is None]
    if os.geteuid() != 0:
        missing.append("root (debootstrap makes device nodes and changes its root)")
    if missing:
        raise MissingProgramsError(", ".join(missing))


def build(say, *, architecture=AMD64, installed=True):
    """The image of this source tree, from the cache or made now; ``say`` takes progress.

    ``installed``: the agent is installed and starts with the board. Else its packages lie in
    ``recipe.SHELF`` for the scenario to install; of a foreign architecture it must be so.
    """
    require_programs(architecture)
    packages = _packages(architecture, say)
    digest = recipe.image_digest(packages.name, architecture, installed=installed)
    folder = CACHE / f"image-{digest}"
    if folder.is_dir():
        os.utime(folder)
        return Image(folder, packages, architecture)
    base = _base(architecture, say)
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
            chroot(tree, "dpkg", "--install", f"/{recipe.SHELF}/{recipe.debs(architecture)[0]}")
            shutil.rmtree(shelf)
            _furnish(tree, recipe.BOARD_FILES, recipe.board_texts(architecture))
            chroot(tree, "systemctl", "--quiet", "enable", *recipe.BOARD_ENABLED)
        enable_and_mask(tree, architecture)
        (tree / "etc/machine-id").write_text("")
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            (found,) = (tree / "boot").glob(pattern)
            found.replace(made / name)
        (made / "agent-ids.json").write_text(json.dumps(_agent_ids(tree)))
        execute("mke2fs", "-q", "-t", "ext4", "-d", tree, made / "disk.img", recipe.DISK_SIZE)
        into_place(made, folder)
    _prune()
    return Image(folder, packages, architecture)


def _packages(architecture, say):
    """The folder with the packages of this source tree: as it is, and one called newer."""
    folder = CACHE / f"packages-{recipe.sources_digest(architecture)}"
    if not folder.is_dir():
        say("building the Debian package (under a minute)")
        with workspace() as work:
            made = work / "packages"
            try:
                deb.build(PLATFORMS[architecture.debian], recipe.VERSIONS, made, epoch_s=_EPOCH_S)
            except PackageError as error:
                raise RigError(str(error)) from error
            into_place(made, folder)
    os.utime(folder)
    return folder


def _base(architecture, say):
    folder = CACHE / f"base-{recipe.base_digest(architecture)}"
    if folder.is_dir():
        return folder
    minutes = "in a virtual machine; about fifteen" if architecture.foreign else "about two"
    say(f"making a bare Debian guest with debootstrap (once; {minutes} minutes)")
    with workspace() as work:
        debian.make(work / "base", architecture, work, say)
        into_place(work / "base", folder)
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


def enable_and_mask(tree, architecture):
    """As ``systemctl`` does it, which would have to be one of the tree's architecture."""
    units = tree / "etc/systemd/system"
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    for name in recipe.ENABLED:
        (wanted / name).symlink_to(f"/etc/systemd/system/{name}")
    for name in recipe.masked(architecture):
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")


def _agent_ids(tree):
    """User and group of the agent; nothing while it is not installed."""
    passwd = (tree / "etc/passwd").read_text().splitlines()
    entries = (line.split(":") for line in passwd if line.startswith("milepost:"))
    return [int(number) for entry in entries for number in entry[2:4]]


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
