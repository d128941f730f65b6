"""A Python process of its own for work whose memory this one would never get back."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE_FOLDER: Final = Path(__file__).resolve().parents[1]
"""Where the child finds the agent's package, installed or not."""


class Ended(NamedTuple):
    """How a child ended, and what it said."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run_python(*arguments: str, stdin: bytes = b"", timeout_s: float) -> Ended:
    """Run ``python ARGUMENTS`` to its end.

    Raises:
        OSError: it could not be started.
        TimeoutError: it took longer and was killed.
    """
    child = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=PACKAGE_FOLDER,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    # subprocess' own time-out polls by time.sleep, which libfaketime garbles (clock-1970)
    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        stdout, stderr = child.communicate(stdin)
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError(f"{arguments[0]} {arguments[1]} took over {timeout_s:g} s")
    return Ended(child.returncode, stdout, stderr)
