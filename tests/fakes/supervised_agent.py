"""``milepost-agent run`` with a service manager: started again whenever it ends, as by systemd."""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from agent.control import ask
from agent.errors import ControlError
from cloud.clock import SystemClock
from cloud.jobs.ports import NewJob
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_jobs import SqliteJobs
from contract.jobs import JobDocument
from tests.conftest import ROOT
from tests.fakes.one_machine import issued_identity, milepost_cloud, wait_until

CONFIG = """
[vehicle]
id = "{vehicle_id}"
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
    """One vehicle; ``exits`` are the codes with which its processes ended."""

    def __init__(self, folder, data_dir, vehicle_id="van-1"):
        self.folder, self.vehicle_id = folder, vehicle_id
        self.command = ["-m", "agent", "run"]
        self.log = folder / "agent.log"
        self.config = folder / "agent.toml"
        self.exits = []
        self.process = None
        self._stopping = threading.Event()
        self._thread = None
        folder.mkdir(exist_ok=True)
        issued_identity(data_dir, vehicle_id, folder / "identity")

    def configure(self, port, more="", *, hold_s=0):
        self.config.write_text(
            CONFIG.format(port=port, more=more, hold_s=hold_s, vehicle_id=self.vehicle_id)
        )

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
    """A supervised vehicle, a cloud, and the operator, who names jobs per vehicle."""

    def __init__(self, cloud, agent):
        self.cloud, self.agent = cloud, agent

    def name(self, job):
        """A cloud may serve several scenes."""
        return f"{self.agent.vehicle_id}-{job}"

    def jobs(self, *words, code=0):
        """``milepost-cloud jobs``; what it prints."""
        done = milepost_cloud("jobs", *words, "--data", self.cloud.data_dir)
        assert done.returncode == code, f"{done.stdout}{done.stderr}\n{self.agent.log.read_text()}"
        return done.stdout

    def create(self, job, operation, parameters=None):
        document = JobDocument(operation, parameters or {})
        with self.store() as jobs:
            jobs.create(NewJob(document, [self.agent.vehicle_id], self.name(job)))

    def execution(self, job):
        with self.store() as jobs:
            (execution,) = jobs.describe(self.name(job)).executions
        return execution

    def wait_for(self, job, *statuses, deadline_s=90):
        """What the vehicle tells of it, when it has come so far."""

        def reached():
            execution = self.execution(job)
            return [execution.details] if execution.status in statuses else None

        (details,) = wait_until(reached, f"{job} to be {statuses}", deadline_s)
        return details

    @contextmanager
    def store(self):
        database = Database(self.cloud.data_dir / DATABASE_NAME, MIGRATIONS, create=False)
        try:
            yield SqliteJobs(database, SystemClock())
        finally:
            database.close()
