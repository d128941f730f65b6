"""An update from the operator's command to the vehicle's own dpkg, with a real agent between."""

import shutil
import subprocess
import sys
import threading
from dataclasses import replace

from agent.updater import __main__ as service
from tests.fakes.one_machine import milepost_cloud
from tests.fakes.update_board import UpdateBoard

# restarts the real agent, which its service manager of the test starts again
SYSTEMCTL = """\
#!{python}
import os, signal, sys, time
from pathlib import Path

def pid():
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\\0")
        except OSError:
            continue
        if process.name.isdigit() and b"run" in words and {config!r}.encode() in words:
            return int(process.name)
    return 0

if sys.argv[1] == "restart":
    before = pid()
    os.kill(before, signal.SIGTERM)
    while pid() in (0, before):
        time.sleep(0.05)
elif sys.argv[1] == "show":
    state = ("active", "running") if pid() else ("inactive", "dead")
    print(f"ActiveState={{state[0]}}\\nSubState={{state[1]}}\\nNRestarts=0")
"""


class UpdatableVehicle:
    """The supervised agent's board: its packages, its updater, and the unit that starts that."""

    def __init__(self, folder, agent):
        folder.mkdir()
        self.bench = UpdateBoard(folder)
        systemctl = folder / "restart-agent"
        systemctl.write_text(SYSTEMCTL.format(python=sys.executable, config=str(agent.config)))
        systemctl.chmod(0o755)
        self.bench.install(self.bench.package("1.0-1"))
        self.bench.end()
        self.bench.board = replace(
            self.bench.board,
            inbox=agent.folder / "state" / "update",
            health_mark=agent.folder / "run" / "health.json",
            systemctl=(str(systemctl),),
            started_s=60,
            poll_s=0.1,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="milepost-update.path")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join(60)

    def signed(self, version, **options):
        """A package, signed by the operator with a key that this board trusts."""
        key = self.bench.folder / "release-key"
        if not key.exists():
            made = milepost_cloud("release", "keygen", "--out", key)
            assert made.returncode == 0, made.stderr
            shutil.copy(key / "public.pem", self.bench.board.keys / "operator.pem")
        file = self.bench.package(version, **options)
        done = milepost_cloud("release", "sign", file, "--key", key / "private.pem")
        assert done.returncode == 0, done.stderr
        return file

    def _watch(self):
        request = self.bench.board.inbox / "request.json"
        while not self._stopping.wait(0.05):
            if request.exists() and service.take(self.bench.board):
                subprocess.run([self.bench.board.program], timeout=120, check=False)
