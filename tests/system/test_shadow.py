"""Settings changed from afar: a real agent, the one-machine cloud, and the operator's command."""

import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from agent.control import ask
from agent.errors import ControlError
from cloud.clock import SystemClock
from cloud.errors import ShadowError
from cloud.stores.database import Database
from cloud.stores.queries import Queries
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_shadows import SqliteShadows
from tests.conftest import ROOT
from tests.fakes.one_machine import (
    issued_identity,
    milepost_cloud,
    running_cloud,
    wait_until,
)

pytestmark = pytest.mark.timeout(180)

CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[sampling.normal]
interval_s = 2
[delivery]
hold_unsynced_s = 0
[broker]
host = "localhost"
port = {port}
ca_file = "identity/ca.pem"
certificate_file = "identity/certificate.pem"
key_file = "identity/key.pem"
{more}
"""


class Agent:
    """``milepost-agent run`` on one state directory."""

    def __init__(self, folder, data_dir):
        self.folder = folder
        self.log = folder / "agent.log"
        self.config = folder / "agent.toml"
        self.process = None
        issued_identity(data_dir, "van-1", folder / "identity")

    def configure(self, port, more=""):
        self.config.write_text(CONFIG.format(port=port, more=more))

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        wait_until(self.account, f"the agent: {self.log.read_text()}", 120)

    def account(self):
        try:
            return ask(self.folder / "run")
        except ControlError:
            return None

    def stop(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)


class Scene:
    """One vehicle, one cloud."""

    def __init__(self, folder, cloud, agent):
        self.folder, self.cloud, self.agent = folder, cloud, agent
        self.data = cloud.data_dir

    def shadow(self, *words):
        done = milepost_cloud("shadow", *words, "--vehicle", "van-1", "--data", self.data)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def document(self):
        database = Database(self.data / DATABASE_NAME, MIGRATIONS, create=False)
        try:
            return SqliteShadows(database, SystemClock()).get("van-1")
        except ShadowError:
            return {"state": {}}
        finally:
            database.close()

    def reported(self, *path):
        found = self.document()["state"].get("reported", {})
        for name in path:
            found = found.get(name, {})
        return found

    def samples(self):
        queries = Queries.open(self.data)
        try:
            rows = list(queries.history("van-1"))
        finally:
            queries.close()
        return [row for row in rows if row["kind"] == "sample"]


@pytest.fixture
def scene(tmp_path, free_port):
    data = tmp_path / "data"
    agent = Agent(tmp_path, data)
    # Its own: the cloud comes back on it while the vehicle dials.
    with running_cloud(data, "--mqtt-port", str(free_port())) as cloud:
        agent.configure(cloud.port)
        try:
            agent.start()
            yield Scene(tmp_path, cloud, agent)
        finally:
            agent.stop()


def faster_than(scene, gap_s, run_id):
    """Whether the newest samples of a run follow each other in less than that."""
    from datetime import datetime  # noqa: PLC0415  only here

    times = [
        datetime.fromisoformat(row["timestamp"])
        for row in scene.samples()
        if row["run_id"] == run_id
    ]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times[-6:])]
    return len(gaps) == 5 and max(gaps) < gap_s


def test_a_change_takes_effect_in_the_samples_without_a_restart(scene):
    wait_until(lambda: scene.reported("sampling", "normal", "interval_s") == 2, "the first report")
    before = scene.agent.account()

    done = scene.shadow("set", "sampling.normal.interval_s=0.3", "delivery.batch_s=0", "--wait", 30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "applied" in done.stdout
    wait_until(lambda: faster_than(scene, 1.5, before["run_id"]), "samples at the new rate", 30)
    after = scene.agent.account()
    assert (after["run_id"], after["sample_interval_s"]) == (before["run_id"], 0.3)
    assert after["shadow"]["changed"]["sampling"] == {"normal": {"interval_s": 0.3}}

    refused = scene.shadow("set", "sampling.normal.interval_s=-1", "--wait", 30)
    assert refused.returncode == 1
    assert "sampling.normal.interval_s = -1" in refused.stdout
    shown = scene.shadow("get").stdout
    assert "refused, sampling: sampling.normal.interval_s = -1: should be greater" in shown
    assert scene.reported("sampling", "normal", "interval_s") == 0.3
    assert scene.agent.account()["sample_interval_s"] == 0.3
    status = subprocess.run(
        [*(sys.executable, "-m", "agent", "status", "--config", str(scene.agent.config))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "refused: sampling.normal.interval_s = -1" in status

    assert scene.shadow("set", "sampling.normal.interval_s=null", "--wait", 30).returncode == 0
    assert scene.agent.account()["sample_interval_s"] == 2


def test_a_change_while_the_vehicle_is_away_is_applied_on_its_return_and_survives(scene):
    wait_until(lambda: scene.reported("sampling", "normal", "interval_s") == 2, "the first report")
    scene.agent.stop()
    done = scene.shadow("set", "sampling.normal.interval_s=0.4")
    assert done.returncode == 0
    assert scene.shadow("diff").returncode == 1
    scene.agent.start()
    wait_until(lambda: scene.reported("sampling", "normal", "interval_s") == 0.4, "the change")
    assert scene.shadow("diff").returncode == 0
    assert scene.agent.account()["sample_interval_s"] == 0.4
    config_before = scene.agent.config.read_bytes()

    # without a network, and after a kill: the settings are on the vehicle
    scene.agent.stop(signal.SIGKILL)
    assert scene.cloud.stop() == 0
    scene.agent.start()
    account = scene.agent.account()
    assert (account["connected"], account["sample_interval_s"]) == (False, 0.4)
    assert scene.agent.config.read_bytes() == config_before

    # the config file alone, on request of whoever is at the vehicle
    scene.agent.stop()
    scene.agent.configure(scene.cloud.port, '[shadow]\nmode = "off"')
    scene.agent.start()
    assert scene.agent.account()["sample_interval_s"] == 2
    assert scene.agent.account()["shadow"] is None


def test_a_reconnection_does_not_raise_the_version(scene):
    wait_until(lambda: scene.reported("sampling", "normal", "interval_s") == 2, "the first report")
    scene.shadow("set", "delivery.batch_s=-1", "--wait", 30)
    version = wait_until(lambda: scene.document().get("version"), "a version")
    for _ in range(2):
        port = scene.cloud.port
        assert scene.cloud.stop() == 0
        with running_cloud(scene.data, "--mqtt-port", str(port)) as cloud:
            scene.cloud = cloud
            wait_until(lambda: scene.agent.account()["connected"], "the vehicle's return", 60)
            time.sleep(1.5)
            assert scene.document()["version"] == version
            if cloud.process.poll() is None:
                cloud.stop()


def test_the_log_says_what_is_in_force_and_where_from(scene):
    wait_until(lambda: scene.reported("sampling", "normal", "interval_s") == 2, "the first report")
    scene.shadow("set", "sampling.normal.interval_s=0.5", "--wait", 30)
    log = Path(scene.agent.log).read_text()
    assert "sampling.normal.interval_s = 0.5 (the file says 2.0)" in log
