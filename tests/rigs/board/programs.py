"""Other programs of this machine: where they are, and running them to their end."""

import os
import subprocess

from tests.rigs.board.errors import RigError

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_TAIL_LINES = 15


def execute(*command, env=None, cwd=None):
    """Run to the end; its output only if it fails. Empty words are left out.

    Raises:
        RigError: it failed; with the end of its output.
    """
    words = [str(word) for word in command if word != ""]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=env if env is not None else os.environ | {"PATH": PATH},
        cwd=cwd,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-_TAIL_LINES:])
        raise RigError(f"{' '.join(words)} failed:\n{tail}")


def chroot(tree, *command):
    """Run in a tree of this machine's architecture."""
    execute("chroot", tree, *command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})
