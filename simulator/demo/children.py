"""Processes that end with the demo, whatever happens.

Each is the leader of a process group of its own, so Ctrl-C in the terminal reaches the
demo alone, which then stops the others in order. Should the demo be killed, the kernel
kills them (PR_SET_PDEATHSIG); that signal belongs to the thread that started the
process, so children are started by the main thread only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from simulator.clock import monotonic_s
from simulator.demo.errors import DemoError

TAIL_LINES: Final = 15
TAIL_BYTES: Final = 20_000
KILL_AFTER_S: Final = 5.0

_LAUNCHER: Final = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Sets PR_SET_PDEATHSIG to SIGKILL and becomes the command. A ``preexec_fn`` would run
Python between fork and exec of a process with threads, which may deadlock."""


def python_command(package: str, *words: str) -> list[str]:
    """``python -m package words…`` with the interpreter of the demo."""
    return [sys.executable, "-m", package, *words]


class Child:
    """One process, its output in a file; it may be started again after ``kill``.

    ``environment`` is added to this process's. ``stop`` is idempotent.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._environment = dict(environment or {})
        self.command = command
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once. From the main thread only."""
        self._log = self.log_path.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *self.command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | self._environment,
        )

    @property
    def pid(self) -> int | None:
        """Its process id, once started."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, once or more."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within the time."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace_s: float = KILL_AFTER_S) -> None:
        """SIGTERM, then after ``grace_s`` SIGKILL to its whole group."""
        if self._process is None:
            return
        self.ask_to_stop()
        ended = self.wait(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if not ended:
            self._process.wait(KILL_AFTER_S)
        if self._log is not None:
            self._log.close()
            self._log = None

    def kill(self) -> None:
        """SIGKILL to its whole group, at once, as when the power fails."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(KILL_AFTER_S)
        if self._log is not None:
            self._log.close()
            self._log = None

    def require_alive(self) -> None:
        """Raise when it ended by itself.

        Raises:
            DemoError: with the end of its log.
        """
        code = self.exit_code
        if code is None:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise DemoError(
            f"{self.name} {how}; the end of its log:\n{self.tail()}",
            hint=f"the whole log is {self.log_path}",
        )

    def tail(self) -> str:
        """The last lines of its output, indented."""
        return tail(self.log_path)


def stop_all(children: Sequence[Child], grace_s: float = KILL_AFTER_S) -> None:
    """SIGTERM to all at once, then after ``grace_s`` SIGKILL to who is left."""
    for child in children:
        child.ask_to_stop()
    deadline_s = monotonic_s() + grace_s
    for child in children:
        child.stop(max(0.0, deadline_s - monotonic_s()))


def tail(path: Path) -> str:
    """The last ``TAIL_LINES`` lines of a file, indented."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError as error:
        return f"  (no log: {error.strerror})"
    lines = text.splitlines()[-TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it is empty)"


def run_to_end(
    name: str,
    command: list[str],
    log_path: Path,
    *,
    timeout_s: float = 60.0,
    good_codes: Container[int] = (0,),
) -> str:
    """Run a short command and give its standard output; standard error goes to the log.

    Raises:
        DemoError: it failed or took too long; with what it said.
    """
    begun_s = monotonic_s()
    with log_path.open("ab") as log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                timeout=timeout_s,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"{name} took longer than {monotonic_s() - begun_s:.0f} s",
                hint=f"is the machine overloaded? its log is {log_path}",
            ) from None
    if done.returncode not in good_codes:
        raise DemoError(
            f"{name} ended with code {done.returncode}; the end of its log:\n{tail(log_path)}",
            hint=f"try it yourself: {' '.join(command)}",
        )
    return done.stdout.decode("utf-8", "replace")
