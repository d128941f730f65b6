"""The depot: a bare board on the bench, and the cloud that it shall join."""

import base64
import json
import random
import time

from tests.rigs.board import recipe
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import Witness
from tests.rigs.board.machine import Machine
from tests.rigs.board.office import Office

STATE, CONFIG = "/var/lib/milepost", "/etc/milepost/agent.toml"
RUNNING_S = 900.0
"""A first boot with provisioning took 280 s on a machine that was ten times overloaded."""

_POLL_S = 0.5


class Depot(Office):
    """The office with a board on the bench; a context manager."""

    def __init__(self, image, folder, *, accel, seed, say):
        super().__init__(folder)
        self.say = say
        self.architecture = image.architecture
        self.packages, self.debs = image.packages, recipe.debs(image.architecture)
        self.witness = Witness()
        self.figures = {}
        self.machine = Machine(
            image, folder, accel=accel, random=random.Random(seed), on_witness=self.witness.take
        )

    def __exit__(self, *exception):
        self.machine.close()
        super().__exit__(*exception)

    def boot(self):
        """Switch the board on and wait until it takes commands."""
        self.witness.begin_boot()
        self.machine.boot()
        self.machine.wait_up()

    def power_off(self):
        """In order."""
        self.witness.end_boot(time.monotonic(), 0.0)
        self.machine.power_off()

    def ask(self, *argv, timeout_s=120.0):
        """A command on the board; its exit code and output."""
        return self.machine.shell.run(*argv, timeout_s=timeout_s)

    def run(self, *argv, timeout_s=120.0):
        """A command on the board that must succeed; its output."""
        done = self.ask(*argv, timeout_s=timeout_s)
        if done.code != 0:
            raise RigError(f"in the guest, {' '.join(argv)} gave {done.code}: {done.out}")
        return done.out

    def put(self, path, data, mode):
        """A file that the installer copies onto the board; its folder is made."""
        text = base64.b64encode(data).decode()
        script = 'mkdir -p "$(dirname "$0")" && base64 -d > "$0" && chmod "$1" "$0"'
        self.run("sh", "-ec", f"echo {text} | ({script})", path, f"{mode:o}")

    def shows(self, unit, name):
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def files(self):
        """Every file and folder on the board's disk."""
        return set(self.run("find", "/", "-xdev").splitlines())

    def settings(self):
        """Every file below /etc with its digest."""
        told = self.run("sh", "-c", "find /etc -xdev -type f -exec sha256sum {} +")
        return {(line[66:], line[:64]) for line in told.splitlines()}

    def log(self, unit):
        """What a unit said in this boot."""
        return self.run("journalctl", "-b", "-u", unit, "-o", "cat", "--no-pager")

    def account(self):
        """What the agent says of itself now."""
        return json.loads(self.run("python3", "/opt/rig/helper.py", "account"))

    def until(self, what, seen, timeout_s=300.0):
        """Wait until ``seen()`` is true; give what it gave."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = seen()
            if found:
                return found
            if time.monotonic() > deadline:
                raise RigError(f"{what}: not within {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def until_running(self, *, not_pid="0"):
        """Until the agent has said READY, with another process than ``not_pid``; its process id."""

        def seen():
            if self.ask("systemctl", "is-active", "--quiet", "milepost-agent").code != 0:
                return None
            pid = self.shows("milepost-agent", "MainPID")
            return pid if pid not in {"0", not_pid} else None

        return self.until("the agent running", seen, timeout_s=RUNNING_S)
