"""Builds the guest: debootstrap, the agent from its wheel, ext4. Cached by what goes in.

Two layers, each a folder in the cache that is renamed into place when it is complete: the
bare Debian (minutes, seldom) and the image with the agent (under a minute, whenever the
wheel, the unit or the recipe changes).
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.board import recipe
from tests.rigs.board.errors import MissingProgramsError, RigError

CACHE = Path(
    os.environ.get("MILEPOST_RIG_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "milepost-rig"
)
PROGRAMS = ("qemu-system-x86_64", "debootstrap", "mke2fs", "debugfs", "chroot", "mosquitto")
PROGRAMS_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
KEPT_IMAGES = 2
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_DROPPED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")


@dataclass(frozen=True)
class Image:
    """A disk image, and what QEMU boots it with."""

    folder: Path

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


def build(say):
    """The image of this source tree, from the cache or made now; ``say`` takes progress."""
    require_programs()
    CACHE.mkdir(parents=True, exist_ok=True)
    with _workspace() as work:
        wheel = _wheel(work)
        wheels = [wheel, *_dependencies(wheel, say)]
        folder = CACHE / f"image-{recipe.image_digest(wheels)}"
        if folder.is_dir():
            os.utime(folder)
            return Image(folder)
        base = _base(say)
        say("installing the agent from its wheel, making the image")
        made = work / "image"
        made.mkdir()
        tree = work / "tree"
        _run("cp", "-a", "--reflink=auto", base, tree)
        _install(tree, wheels)
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            (found,) = (tree / "boot").glob(pattern)
            found.replace(made / name)
        passwd = (tree / "etc/passwd").read_text().splitlines()
        (entry,) = (line.split(":") for line in passwd if line.startswith("milepost:"))
        (made / "agent-ids.json").write_text(json.dumps([int(entry[2]), int(entry[3])]))
        _run("mke2fs", "-q", "-t", "ext4", "-d", tree, made / "disk.img", recipe.DISK_SIZE)
        _into_place(made, folder)
    _prune()
    return Image(folder)


def _base(say):
    folder = CACHE / f"base-{recipe.base_digest()}"
    if folder.is_dir():
        return folder
    say("making a bare Debian guest with debootstrap (once; about two minutes)")
    with _workspace() as work:
        tree = work / "base"
        _run(
            *("debootstrap", "--variant=minbase", f"--include={','.join(recipe.PACKAGES)}"),
            *(recipe.SUITE, tree, _mirror()),
        )
        tools = tree / "etc/initramfs-tools"
        settings = (tools / "initramfs.conf").read_text()
        (tools / "initramfs.conf").write_text(settings.replace("MODULES=most", "MODULES=list"))
        (tools / "modules").write_text("\n".join(recipe.INITRD_MODULES) + "\n")
        _chroot(tree, "update-initramfs", "-u")
        for name in (*_DROPPED, "var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(tree / name, ignore_errors=True)
        _into_place(tree, folder)
    return folder


def _install(tree, wheels):
    shelf = tree / "tmp/wheels"
    shelf.mkdir()
    for wheel in wheels:
        shutil.copy(wheel, shelf)
    _chroot(tree, "python3", "-m", "venv", "/opt/milepost")
    _chroot(
        tree,
        *("/opt/milepost/bin/pip", "install", "--quiet", "--isolated", "--no-index"),
        *("--disable-pip-version-check", "--find-links", "/tmp/wheels", "milepost[agent]"),
    )
    shutil.rmtree(shelf)
    for source, target in recipe.FILES.items():
        place = tree / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    for target, text in recipe.TEXTS.items():
        (tree / target).unlink(missing_ok=True)
        (tree / target).write_text(text)
    (tree / "opt/rig/drive.candump").write_text(recipe.drive_candump())
    _chroot(tree, "systemd-sysusers")
    _chroot(tree, "systemctl", "--quiet", "enable", *recipe.ENABLED)
    _chroot(tree, "systemctl", "--quiet", "mask", *recipe.MASKED)
    (tree / "etc/machine-id").write_text("")


def _wheel(work):
    """``make wheel``, into a folder of its own."""
    _run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
        *("--no-build-isolation", "--wheel-dir", work, recipe.ROOT),
    )
    (wheel,) = work.glob("milepost-*.whl")
    return wheel


def _dependencies(wheel, say):
    """The wheels that the agent needs in the guest, from pip's index; kept."""
    constraints = recipe.ROOT / "constraints.txt"
    key = recipe.digest(
        [constraints.read_bytes(), (recipe.ROOT / "pyproject.toml").read_bytes(), recipe.PYTHON]
    )
    folder = CACHE / f"wheels-{key}"
    if not folder.is_dir():
        say("fetching the agent's dependencies for the guest's Python")
        with _workspace() as work:
            target = work / "wheels"
            # pure Python without a wheel on the index: made here
            _run(
                *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
                *("--wheel-dir", target, "--constraint", constraints, *recipe.SOURCE_ONLY),
            )
            platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
            _run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", target),
                *("--python-version", recipe.PYTHON, "--implementation", "cp", *platforms),
                *("--only-binary=:all:", "--find-links", target),
                *("--constraint", constraints, f"{wheel}[agent]"),
            )
            (target / wheel.name).unlink(missing_ok=True)
            _into_place(target, folder)
    return sorted(folder.glob("*.whl"))


def _mirror():
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
def _workspace():
    """A folder beside the cache's, so that what is complete can be renamed into it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=CACHE) as work:
        yield Path(work)


def _into_place(made, folder):
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run made the same beside this one
            raise


def _prune():
    images = sorted(CACHE.glob("image-*"), key=lambda path: path.stat().st_mtime)
    for old in images[:-KEPT_IMAGES]:
        shutil.rmtree(old, ignore_errors=True)


def _chroot(tree, *command):
    _run("chroot", tree, *command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})


def _run(*command, env=None):
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
