"""A bare Debian in a folder, of this machine's architecture or of another.

debootstrap's first stage unpacks, its second runs the packages' own programs. Those of another
architecture run once in a virtual machine, which has the first stage in its memory and gives the
result back as a tar file on its disk: that asks nothing of this machine's kernel, not binfmt_misc.
"""

import contextlib
import os
import shutil
import subprocess
import time

from tests.rigs.board import recipe
from tests.rigs.board.errors import RigError
from tests.rigs.board.programs import PATH, chroot, execute

SECOND_STAGE_S = 7200
"""At most. Less than 15 minutes of a processor's time, which may be shared with many."""

_PROGRESS_S = 60.0

_MEMORY_MB = 3072
_LARGE_BYTES = 300_000
_RESULT_BYTES = 4 << 30
"""Of the disk for it, which is sparse."""

_COMPLETE = "rig: the second stage is complete"
_ARCHIVES = "var/cache/apt/archives"
_DROPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    _ARCHIVES,
    "var/lib/apt/lists",
)


def make(tree, architecture, work, say):
    """Fill the folder ``tree``; ``work`` is for what is needed meanwhile, ``say`` takes progress.

    Raises:
        RigError: something that goes in cannot be had, or a program failed.
    """
    debootstrap = (
        *("debootstrap", "--foreign" if architecture.foreign else ""),
        *("--variant=minbase", f"--arch={architecture.debian}"),
        *(f"--include={','.join(recipe.packages(architecture))}", recipe.SUITE, tree, _mirror()),
    )
    execute(*debootstrap)
    for name, text in recipe.INITRD_TEXTS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    if architecture.foreign:
        _second_stage(tree, architecture, work, say)
    else:
        chroot(tree, "update-initramfs", "-u")
    for name in _DROPPED:
        shutil.rmtree(tree / name, ignore_errors=True)


def _second_stage(tree, architecture, work, say):
    """Replace the first stage in ``tree`` by the second."""
    if (tree / "proc").is_symlink():  # so does debootstrap in a container
        (tree / "proc").unlink()
        (tree / "proc").mkdir()
    kernel = _kernel(tree, work)
    for package in (tree / _ARCHIVES).glob("*.deb"):
        if package.stat().st_size > _LARGE_BYTES:
            _repack(package, work / "package")
    shutil.copy(recipe.SECOND_STAGE, tree / "init")
    (tree / "init").chmod(0o755)
    initrd, result, console = work / "initrd", work / "result.tar", work / "console.log"
    execute("sh", "-c", 'find . | cpio --quiet -o -H newc >"$0"', initrd, cwd=tree)
    with result.open("wb") as file:
        file.truncate(_RESULT_BYTES)
    command = (
        *(architecture.program, *architecture.options, "-accel", "tcg"),
        *("-m", str(_MEMORY_MB), "-smp", str(min(2, os.cpu_count() or 1))),
        *("-display", "none", "-no-reboot", "-nodefaults", "-serial", f"file:{console}"),
        *("-kernel", kernel, "-initrd", initrd),
        *("-append", f"console={architecture.console} panic=-1 loglevel=4"),
        *("-drive", f"file={result},format=raw,if=virtio,cache=unsafe"),
    )
    _run_machine(command, console, say)
    said = console.read_text(encoding="utf-8", errors="replace").splitlines()
    if _COMPLETE not in said:
        tail = "\n".join(said[-25:])
        raise RigError(f"debootstrap's second stage failed in the virtual machine:\n{tail}")
    shutil.rmtree(tree)
    tree.mkdir()
    execute("tar", "--numeric-owner", "-xpf", result, "-C", tree)


def _run_machine(command, console, say):
    """Until it switches itself off."""
    begun_s = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PATH": PATH},
        start_new_session=True,
    ) as process:
        try:
            while process.poll() is None:
                if time.monotonic() - begun_s > SECOND_STAGE_S:
                    raise RigError(f"no end of the second stage after {SECOND_STAGE_S} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_PROGRESS_S)
                    break
                lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
                say(f"second stage: {lines[-1] if lines else 'starting'}")
        finally:
            process.kill()
        if process.returncode:
            raise RigError(f"{command[0]}: {process.stderr.read()}")


def _repack(package, folder):
    """Without xz, which takes an emulated processor longer than all the rest."""
    execute("dpkg-deb", "--raw-extract", package, folder)
    execute("dpkg-deb", "-Zgzip", "-z1", "--build", folder, package)
    shutil.rmtree(folder)


def _kernel(tree, work):
    """The one among the packages that wait for the second stage."""
    (package,) = (tree / _ARCHIVES).glob("linux-image-[0-9]*.deb")
    execute("dpkg-deb", "--extract", package, work / "kernel")
    (found,) = (work / "kernel/boot").glob("vmlinuz-*")
    return found


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
