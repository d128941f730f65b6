"""A vehicle with an identity in its state directory; the real agent on the one-machine cloud."""

import json
import signal
import sqlite3
import subprocess
import sys
import time

from agent.control import ask, tell
from agent.errors import ControlError
from agent.identity import IdentityStore
from cloud.clock import SystemClock
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_registry import SqliteRegistry
from tests.fakes.one_machine import ROOT, authority_in, milepost_cloud, wait_until

CONFIG = """
[state]
dir = "state"
runtime_dir = "{run}"
[gps]
port = {gps_port}
[sampling.normal]
interval_s = 0.2
[broker]
host = "localhost"
port = {port}
ca_file = "ca.pem"
transport = "paho"
[shadow]
mode = "off"
[delivery]
hold_unsynced_s = 0
shutdown_drain_s = 10
"""


class RotatingVehicle:
    """``provision`` gives it an identity, ``start`` and ``command`` are the real agent's."""

    def __init__(self, folder, cloud, vehicle_id, run_dir, *, port=None, gps_port=1):
        self.folder, self.cloud, self.vehicle_id = folder, cloud, vehicle_id
        self.run_dir = run_dir
        self.process = None
        folder.mkdir(parents=True)
        self.config = folder / "agent.toml"
        self.config.write_text(
            CONFIG.format(run=run_dir, port=port or cloud.port, gps_port=gps_port)
        )
        self.store = IdentityStore(folder / "state")
        self.steps = folder / "steps"

    def provision(self, **options):
        """An identity as provisioning would leave it."""
        now = options.pop("now", None) or SystemClock().utc()
        authority = authority_in(self.cloud.data_dir / "pki")
        made = authority.issue(self.vehicle_id, now, **options)
        made.write_to(self.folder / "issued")
        database = Database(self.cloud.data_dir / DATABASE_NAME, MIGRATIONS, create=False)
        try:
            number = SqliteRegistry(database, SystemClock()).add_vehicle(
                self.vehicle_id, made.certificate_pem
            )
        finally:
            database.close()
        (self.folder / "ca.pem").write_bytes((self.folder / "issued" / "ca.pem").read_bytes())
        (self.folder / "state").mkdir(exist_ok=True)
        with self.store.locked():
            self.store.begin("milepost_by_claim", key_pem=made.key_pem)
            self.store.keep_certificate(
                made.certificate_pem,
                certificate_id=number.certificate_id,
                token="t",
                received_at="2026-01-01T00:00:00Z",
            )
            self.store.keep_registration(self.vehicle_id)
            self.store.commit(obtained_at="2026-01-01T00:00:00Z")
        return self

    def start(self, *, killed_at=None, killed_before=""):
        program = ["agent"]
        if killed_at is not None:
            program = ["tests.fakes.killed_agent", killed_before or killed_at, self.steps]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *map(str, program), "run", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        return self

    def log(self):
        return (self.folder / "agent.log").read_text()

    def account(self):
        try:
            return ask(self.run_dir)
        except ControlError:
            return {}

    def wait(self, condition, what, deadline_s=90):
        def met():
            assert self.process.poll() is None, f"the agent ended\n{self.log()[-3000:]}"
            return condition(self.account())

        try:
            return wait_until(met, what, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{self.vehicle_id}: {error}\n{self.log()[-3000:]}") from None

    def online(self):
        self.wait(lambda account: account.get("connected"), "a connection")
        return self

    def rotate(self):
        """Ask for it; whether the agent could still answer, which a killed one cannot."""

        def asked():
            try:
                tell(self.run_dir, "rotate")
            except ControlError:
                return self.process.poll() is not None and "killed"
            return "asked"

        return wait_until(asked, "an answer of the agent", 60) == "asked"

    def ended(self, number=1):
        """The account's word on the rotation, once it has ended."""

        def end(account):
            last = (account.get("identity") or {}).get("last_rotation") or {}
            return last if last.get("number", 0) >= number else None

        return self.wait(end, "the end of the rotation")

    def wait_killed(self, deadline_s=60):
        """Whether it was killed; False if the rotation ended before its step came."""
        until_s = time.monotonic() + deadline_s
        while time.monotonic() < until_s:
            if self.process.poll() is not None:
                assert self.process.returncode == -signal.SIGKILL, self.log()[-3000:]
                return True
            time.sleep(0.02)
        return False

    def active(self):
        """Ids of its certificates that the cloud takes."""
        with sqlite3.connect(
            f"file:{self.cloud.data_dir / DATABASE_NAME}?mode=ro", uri=True, timeout=30
        ) as db:
            rows = db.execute(
                "SELECT certificate_id FROM certificates WHERE thing = ? AND status = 'ACTIVE'",
                (self.vehicle_id,),
            ).fetchall()
        return {number for (number,) in rows}

    def retire(self, certificate_id):
        """Make one INACTIVE, as an operator would."""
        database = Database(self.cloud.data_dir / DATABASE_NAME, MIGRATIONS, create=False)
        try:
            SqliteRegistry(database, SystemClock()).retire(self.vehicle_id, [certificate_id])
        finally:
            database.close()

    def command(self, *words, told=0):
        """``milepost-agent WORDS`` with its config, run to the end; ``told`` is its number."""
        errors = self.folder / f"stderr-{told}"
        with errors.open("w") as file:
            done = subprocess.run(
                [sys.executable, "-m", "agent", *words, "--config", str(self.config)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                timeout=120,
                check=False,
            )
        done.stderr = errors.read_text()
        return done

    def told(self, number):
        """What a command has told of its progress so far."""
        errors = self.folder / f"stderr-{number}"
        return errors.read_text() if errors.exists() else ""

    def settled(self, deadline_s=60):
        """The one certificate that both sides are left with."""

        def one():
            active, current = self.active(), self.store.current()
            return active == {current.certificate_id} and current.certificate_id

        return wait_until(one, f"one certificate of {self.vehicle_id}", deadline_s)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log()[-3000:]

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def gaps(self):
        """What the cloud says is missing, once it has worked off the last farewell."""
        last = json.loads((self.folder / "state" / "last-run.json").read_text())["run_id"]

        def report():
            words = ("gaps", "--vehicle", self.vehicle_id, "--data", self.cloud.data_dir, "--json")
            done = milepost_cloud(*words)
            if done.returncode == 2:
                return None
            figures = json.loads(done.stdout)
            run = next((one for one in figures["runs"] if one["run_id"] == last), None)
            over = run is not None and run["state"] == "offline" and not figures["waiting"]
            return figures if over else None

        return wait_until(report, "a settled account", 60)
