"""``milepost-agent run`` with a service manager: started again whenever it ends, as by systemd."""

import json
import signal
import subprocess
import sys
import threading
import time

from agent.control import ask
from agent.errors import ControlError
from tests.conftest import ROOT
from tests.fakes.one_machine import issued_identity, milepost_cloud, wait_until

CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[sampling.normal]
interval_s = 0.5
[delivery]
hold_unsynced_s = {hold_s}
[broker]
host = "localhost"
port = {port}
ca_file = "identity/ca.pem"
certificate_file = "identity/certificate.pem"
key_file = "identity/key.pem"
{more}
"""


class SupervisedAgent:
    """One vehicle, ``van-1``; ``exits`` are the codes with which its processes ended."""

    def __init__(self, folder, data_dir):
        self.folder = folder
        self.command = ["-m", "agent", "run"]
        self.log = folder / "agent.log"
        self.config = folder / "agent.toml"
        self.exits = []
        self.process = None
        self._stopping = threading.Event()
        self._thread = None
        folder.mkdir(exist_ok=True)
        issued_identity(data_dir, "van-1", folder / "identity")

    def configure(self, port, more="", *, hold_s=0):
        self.config.write_text(CONFIG.format(port=port, more=more, hold_s=hold_s))

    def start(self):
        self._stopping.clear()
        self._thread = threading.Thread(target=self._keep_running, name="systemd")
        self._thread.start()
        wait_until(self.account, f"the agent: {self.log}", 60)

    def account(self):
        try:
            return ask(self.folder / "run")
        except ControlError:
            return None

    def cut(self, when, step):
        """The power goes once, before or after the journal is written with a step."""
        mark = self.folder / "cut"
        self.command = ["-m", "tests.fakes.cut_agent", when, step, str(mark)]

    def journal(self):
        """The job at hand, as it stands on disk."""
        try:
            return json.loads((self.folder / "state" / "jobs" / "current.json").read_text())
        except FileNotFoundError:
            return None

    def stop(self):
        """Stop it, and do not start it again."""
        self._stopping.set()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        if self._thread is not None:
            self._thread.join(60)
            assert not self._thread.is_alive()

    def _keep_running(self):
        while not self._stopping.is_set():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, *self.command, "--config", str(self.config)],
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
            if self._stopping.is_set():
                self.process.terminate()
            self.exits.append(self.process.wait())
            time.sleep(0.2)


class JobsScene:
    """A supervised vehicle, a cloud, and the operator's command."""

    def __init__(self, cloud, agent):
        self.cloud, self.agent = cloud, agent

    def jobs(self, *words, code=0):
        done = milepost_cloud("jobs", *words, "--data", self.cloud.data_dir)
        assert done.returncode == code, f"{done.stdout}{done.stderr}\n{self.agent.log.read_text()}"
        return done.stdout

    def create(self, job_id, operation, parameters=None):
        words = [operation, "van-1", "--job-id", job_id]
        if parameters is not None:
            words += ["--parameters", json.dumps(parameters)]
        self.jobs("create", *words)

    def execution(self, job_id):
        return json.loads(self.jobs("describe", job_id, "--json"))["executions"][0]

    def wait_for(self, job_id, *statuses, deadline_s=90):
        def reached():
            execution = self.execution(job_id)
            return execution if execution["status"] in statuses else None

        return wait_until(reached, f"{job_id} to be {statuses}", deadline_s)
