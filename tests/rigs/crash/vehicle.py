"""One vehicle: the real agent in its own process, started and killed again and again."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from agent.outbox.schema import CURRENT_VERSION
from agent.outbox.verify import verify
from tests.fakes.relay import Relay
from tests.rigs.crash.judge import Life, Seen

ROOT = Path(__file__).resolve().parents[3]
FLUSH_INTERVAL_S = 0.5
SAMPLE_INTERVAL_S = 0.05
"""The fastest that the config allows."""

ASK_EVERY_S = 0.02
START_TIMEOUT_S = 60.0

CONFIG = """
[vehicle]
id = "{vehicle}"
[state]
dir = "state"
runtime_dir = "run"
[gps]
port = {gpsd_port}
[sampling.in_trip]
interval_s = {interval_s}
[sampling.normal]
interval_s = {interval_s}
[sampling.thresholds]
harsh_braking_mps2 = 0.05  # an event every few seconds
[outbox]
flush_interval_s = {flush_interval_s}
[delivery]
hold_unsynced_s = 0
max_bytes_per_s = 20000  # a drain takes long enough to be killed in
shutdown_drain_s = 1
[broker]
host = "localhost"
port = {broker_port}
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
"""


class Vehicle:
    """Not thread-safe: its own thread runs its lives one after the other."""

    def __init__(self, name, folder, *, identity, broker_port, gpsd_port, random):
        self.name = name
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.relay = Relay(broker_port)
        self.random = random
        self.lives = []
        self.network = "online"
        self._process = None
        self._usual_start_s = 2.0
        self._config = self.folder / "agent.toml"
        self._config.write_text(
            CONFIG.format(
                vehicle=name,
                gpsd_port=gpsd_port,
                broker_port=self.relay.port,
                identity=identity,
                interval_s=SAMPLE_INTERVAL_S,
                flush_interval_s=FLUSH_INTERVAL_S,
            ),
            encoding="utf-8",
        )

    @property
    def outbox_file(self):
        return self.folder / "state" / "outbox.db"

    def set_network(self, network):
        """``online``, ``cut`` (refused) or ``frozen`` (half-open: packets vanish)."""
        if network != "online" or self.network != "online":
            self.relay.cut()
        self.relay.thaw()
        if network == "frozen":
            self.relay.freeze()
        if network != "cut":
            self.relay.mend()
        self.network = network

    def live(self, moment_name, moment):
        """Run the agent until ``moment(self, life, answered)`` returns, then kill -9 it."""
        life = Life(self.name, moment_name, self.network, time.monotonic())
        self.lives.append(life)
        answered = threading.Event()
        self._start()
        killer = threading.Thread(
            target=self._kill, args=(life, moment, answered), name=f"killer-{self.name}"
        )
        killer.start()
        self._watch(life, answered)
        answered.set()
        killer.join()
        life.exit_code = self._process.wait()
        self._examine(life)
        return life

    def live_to_the_end(self, timeout_s):
        """The last life: deliver all that waits, then stop in an orderly way."""
        deadline_s = time.monotonic() + timeout_s

        def until_drained(_, life, answered):
            answered.wait(START_TIMEOUT_S)
            self.wait_while_alive(lambda: life.last_sequence > 20, START_TIMEOUT_S)
            while time.monotonic() < deadline_s:
                account = self.ask()
                if account and account["connected"] and account["backlog_messages"] <= 3:
                    break
                time.sleep(0.1)
            self.terminate()
            self._wait_for_exit(30)

        return self.live("end", until_drained)

    def terminate(self):
        """An orderly stop begins."""
        self._process.send_signal(signal.SIGTERM)

    def close(self):
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        self.relay.close()

    # --- one life ------------------------------------------------------------------

    def _start(self):
        with (self.folder / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self._config)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def _kill(self, life, moment, answered):
        moment(self, life, answered)
        if self._process.poll() is None:
            # before: nothing created later may count as old
            life.killed_s = time.monotonic()
            self._process.kill()
            if self._process.wait() != -signal.SIGKILL:
                life.killed_s = None

    def _wait_for_exit(self, timeout_s):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def ended(self):
        return self._process.poll() is not None

    def wait_while_alive(self, condition, timeout_s):
        """Until ``condition()``, the end of the process, or the time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition() and not self.ended() and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def ask(self):
        """The account; None when nobody answers, or not to the end."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(2)
                connection.connect(os.path.relpath(self.folder / "run" / "agent.sock"))
                pieces = []
                while piece := connection.recv(65_536):
                    pieces.append(piece)
            return json.loads(b"".join(pieces))
        except (OSError, ValueError):
            return None

    def _watch(self, life, answered):
        before_s = life.started_s
        while not self.ended():
            account = self.ask()
            seen_s = time.monotonic()
            if account is not None:
                self._note(life, account, before_s, seen_s)
                before_s = seen_s
                if not answered.is_set():
                    self._usual_start_s = seen_s - life.started_s
                    answered.set()
            elif not answered.is_set() and seen_s - life.started_s > START_TIMEOUT_S:
                life.unsound.append("the agent did not come up")
                self._process.kill()
            time.sleep(ASK_EVERY_S)

    @property
    def usual_start_s(self):
        """From the start of the process to its first answer, lately."""
        return self._usual_start_s

    def _note(self, life, account, before_s, seen_s):
        life.run_id = account["run_id"]
        if account["last_sequence"] > life.last_sequence:
            life.created.append(Seen(before_s, seen_s, account["last_sequence"]))
        life.acknowledged = account["samples_acknowledged"] + account["events_acknowledged"]
        life.dropped = account["dropped_messages"]
        created = account["samples_created"] + account["events_created"]
        settled = account["inherited_acknowledged"] + sum(life.dropped.values())
        waiting = account["backlog_messages"]
        came = created + account["inherited_messages"]
        life.imbalances += came != life.acknowledged + settled + waiting
        if account["previous_run"] is not None:
            said = account["previous_run"]
            life.previous_run = (said["run_id"], said["last_sequence"])

    # --- what it left --------------------------------------------------------------

    def _examine(self, life):
        """Look at a copy: opening the file itself would fold its log in before the agent can."""
        for kept in self.outbox_file.parent.glob("outbox.db.*"):
            life.unsound.append(f"a file was set aside: {kept.name}")
        if not self.outbox_file.exists():
            return
        copy = self.folder / "copy" / "outbox.db"
        copy.parent.mkdir(exist_ok=True)
        for suffix in ("", "-wal"):
            part = self.outbox_file.with_name(self.outbox_file.name + suffix)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + suffix))
        with contextlib.closing(sqlite3.connect(copy)) as db:
            verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
            made = db.execute("PRAGMA user_version").fetchone()[0] == CURRENT_VERSION
            if verdict != "ok":
                life.unsound.append(f"integrity_check: {verdict}")
            elif made:
                life.unsound.extend(verify(copy).errors)
                life.on_disk = dict(
                    db.execute(
                        "SELECT run_id, max(sequence) FROM (SELECT run_id, sequence FROM samples"
                        " UNION ALL SELECT run_id, sequence FROM events) GROUP BY run_id"
                    )
                )
        shutil.rmtree(copy.parent)
