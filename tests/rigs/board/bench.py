"""The bench that the vehicle stands on: broker, independent listener, witness, machine."""

import contextlib
import json
import random
import re
import time
from dataclasses import asdict

from tests.conftest import take_port
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.rigs.board import recipe
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import Received, Witness
from tests.rigs.board.machine import Machine

VEHICLE = "rig-1"
CONFIG = "/etc/milepost/agent.toml"
_AGENT = "/opt/milepost/bin/milepost-agent"
_CONNECTION = re.compile(r"New connection from ")


class Bench:
    """Everything outside the guest, and the guest; a context manager."""

    def __init__(self, image, folder, *, accel, seed, say, config=recipe.CONFIG, files=None):
        self.folder = folder
        self.say = say
        self.random = random.Random(seed)
        self.witness = Witness()
        self.cuts = {}
        """When the power went in each boot."""
        self._parts = contextlib.ExitStack()
        with contextlib.ExitStack() as parts:
            pki = Pki(folder / "pki")
            port = take_port()
            certificate = pki.broker(addresses=("127.0.0.1", "10.0.2.2"))
            self.broker = Mosquitto(folder / "mosquitto", certificate, port)
            parts.callback(self.broker.kill)
            self.broker.start()
            listener = parts.enter_context(MosquittoSub(pki.vehicle(LISTENER), port))
            self.received = Received(listener)
            self.machine = Machine(
                image, folder, accel=accel, random=self.random, on_witness=self.witness.take
            )
            parts.callback(self.machine.close)
            identity = _identity(pki.vehicle(VEHICLE), config, port, image.agent_ids)
            self.machine.put(identity | (files or {}))
            self._parts = parts.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._parts.close()

    def boot(self, **options):
        """Switch the vehicle on."""
        self.witness.begin_boot()
        self.machine.boot(**options)

    def cut_power(self, fate, grace_s, *, aim_s):
        """Cut it off, and note what is owed."""
        moment_s, damage = self.machine.cut_power(fate, aim_s=aim_s)
        self.witness.end_boot(moment_s, grace_s)
        self.cuts[self.witness.boot] = moment_s
        return damage

    def run(self, *argv, timeout_s=120.0):
        """A command in the guest that must succeed; its output."""
        done = self.machine.shell.run(*argv, timeout_s=timeout_s)
        if done.code != 0:
            raise RigError(f"in the guest, {' '.join(argv)} gave {done.code}: {done.out}")
        return done.out

    def agent(self, *words):
        """``milepost-agent …`` as the agent's user; whatever it exits with."""
        return self.machine.shell.run(
            *("runuser", "-u", "milepost", "--", _AGENT, *words, "--config", CONFIG),
            timeout_s=180.0,
        )

    def connections(self):
        """TCP connections that the broker has accepted, the listener's and probes left out."""
        # the probe of the start and the listener come first; only the vehicle comes later
        return len(_CONNECTION.findall(self.broker.log()))

    def wait_delivered(self, timeout_s):
        """Until the agent is connected and, for once, nothing waits."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            told = self.witness.last
            # live samples are on their way at any moment
            if told and told["connected"] and told["backlog_messages"] <= 3:
                return
            time.sleep(0.1)
        raise RigError(f"not delivered after {timeout_s:.0f} s: {self.witness.last}")

    def stop_agent(self):
        """An orderly stop, which drains; its whole run is owed. Gives the last account."""
        self.run("systemctl", "stop", "milepost-agent", timeout_s=180.0)
        account = json.loads(self.run("cat", "/var/lib/milepost/last-run.json"))
        self.witness.end_orderly(account["run_id"], account["last_sequence"])
        time.sleep(1.0)  # what the broker acknowledged is on its way to the listener
        self.received.update()
        return account

    def replayed_journal(self):
        """Whether this boot found the file system not cleanly unmounted, and replayed its log."""
        said = "dmesg | grep -q 'EXT4-fs (vda): recovery complete'"
        return self.machine.shell.run("sh", "-c", said).code == 0

    def damage(self):
        """What is wrong with the database or the file system now, in words."""
        faults = []
        verified = self.agent("outbox", "verify")
        if verified.code != 0:
            faults.append(f"outbox verify: {verified.out}")
        kept = self.run("ls", "/var/lib/milepost")
        faults += [f"set aside: {name}" for name in kept.split() if ".db." in name]
        kernel = self.machine.shell.run("dmesg", "--level=err,crit,alert,emerg").out
        faults += [f"kernel: {line}" for line in kernel.splitlines() if "EXT4-fs" in line]
        return faults


def plain(value):
    """A dataclass as JSON takes it."""
    return asdict(value)


def _identity(identity, template, port, agent_ids):
    """The installer's part: config and certificates, for ``Machine.put``."""
    config = template.read_text().replace("{port}", str(port)).replace("{vehicle_id}", VEHICLE)
    folder = "/etc/milepost"
    return {
        f"{folder}/agent.toml": (config.encode(), 0o644, 0, 0),
        f"{folder}/ca.pem": (identity.ca_file.read_bytes(), 0o644, 0, 0),
        f"{folder}/certificate.pem": (identity.certificate_file.read_bytes(), 0o644, 0, 0),
        f"{folder}/key.pem": (identity.key_file.read_bytes(), 0o600, *agent_ids),
    }
