"""Jobs: a real agent under a service manager, the one-machine cloud, the operator's command."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.fakes.one_machine import running_cloud, wait_until
from tests.fakes.supervised_agent import JobsScene, SupervisedAgent

pytestmark = pytest.mark.timeout(240)

CUTS = [("before", "running"), ("after", "running"), ("before", "ended")]
LAYER_CUTS = [("after", "trial"), ("before", "proven")]
if os.environ.get("MILEPOST_FULL") == "1":
    LAYER_CUTS = [(when, at) for when in ("before", "after") for at in ("trial", "begun", "proven")]
    CUTS = [
        (when, step)
        for when in ("before", "after")
        for step in ("claiming", "running", "ended", "removed")
    ]


@pytest.fixture
def scene(tmp_path):
    with running_cloud(tmp_path / "data") as cloud:
        agent = SupervisedAgent(tmp_path / "van", cloud.data_dir)
        agent.configure(cloud.port)
        try:
            yield JobsScene(cloud, agent)
        finally:
            agent.stop()


def test_a_restart_happens_once_and_is_told_by_the_next_process(scene):
    scene.agent.start()
    before = scene.agent.account()["run_id"]
    out = scene.jobs("create", "restart", "van-1", "--job-id", "job-1", "--wait", "90")
    assert "SUCCEEDED" in out
    account = wait_until(scene.agent.account, "the agent")
    execution = scene.execution("job-1")
    assert execution["details"] == {"run": account["run_id"], "run_before": before}
    assert scene.agent.exits == [75]
    wait_until(lambda: scene.agent.account()["jobs"]["current"] is None, "the journal's end")
    assert scene.agent.account()["jobs"]["last"]["job_id"] == "job-1"
    assert scene.agent.journal() is None


def test_a_vehicle_that_comes_later_finds_its_jobs_in_order(scene):
    scene.create("job-1", "restart")
    scene.create("job-2", "restart", {"a": 1})
    scene.agent.start()
    assert scene.wait_for("job-1", "SUCCEEDED")
    execution = scene.wait_for("job-2", "REJECTED")
    assert execution["details"] == {"reason": "restart takes no parameters"}


def test_the_config_says_what_may_be_asked_for(scene):
    scene.agent.configure(scene.cloud.port, '[jobs]\nallow = ["rotate"]')
    scene.create("job-1", "restart")
    scene.agent.start()
    assert "allow" in scene.wait_for("job-1", "REJECTED")["details"]["reason"]


def test_with_jobs_off_nothing_is_asked(scene):
    scene.agent.configure(scene.cloud.port, '[jobs]\nmode = "off"')
    scene.create("job-1", "restart")
    scene.agent.start()
    wait_until(lambda: scene.agent.account()["samples_acknowledged"] > 3, "samples")
    assert scene.agent.account()["jobs"] is None
    assert scene.execution("job-1")["status"] == "QUEUED"


@pytest.mark.parametrize(("when", "step"), CUTS)
def test_a_power_cut_at_a_step_of_a_job_ends_it_all_the_same(scene, when, step):
    scene.agent.cut(when, step)
    scene.create("job-1", "restart")
    scene.agent.start()
    assert scene.wait_for("job-1", "SUCCEEDED")
    wait_until(lambda: scene.agent.journal() is None, "the end of the journal", 60)
    wait_until(lambda: -signal.SIGKILL in scene.agent.exits, "the cut", 60)
    assert scene.agent.exits.count(75) <= 1


def test_the_cloud_keeps_its_jobs_over_a_crash(scene, tmp_path):
    scene.create("job-1", "restart")
    scene.cloud.kill()
    with running_cloud(tmp_path / "data", "--mqtt-port", str(scene.cloud.port)) as cloud:
        scene.cloud = cloud
        scene.agent.start()
        assert scene.wait_for("job-1", "SUCCEEDED")
        assert json.loads(scene.jobs("list", "--json"))[0]["state"] == "COMPLETED"


def layer_of(scene):
    account = scene.agent.account()
    return account and account["config_layer"]


def test_settings_from_afar_are_proven_over_a_power_cut_and_can_be_taken_back(scene):
    scene.agent.configure(scene.cloud.port, hold_s=900)  # no sample goes out meanwhile
    scene.agent.start()
    file = scene.agent.config.read_text()
    scene.create("job-1", "apply-config", {"settings": {"sampling": {"normal": {"interval_s": 1}}}})
    wait_until(lambda: (layer_of(scene) or {}).get("on_trial"), "the trial", 90)
    scene.agent.process.kill()
    execution = scene.wait_for("job-1", "SUCCEEDED")
    assert execution["details"] == {"changed": "sampling.normal.interval_s"}
    assert scene.agent.account()["sample_interval_s"] == 1
    assert scene.agent.config.read_text() == file
    status = milepost_agent("status", scene)
    assert "1 laid over the file by job job-1" in status
    assert "none; the last was apply-config (job-1) succeeded" in status
    assert "job job-1  sampling.normal.interval_s" in milepost_agent("config", scene, "show")
    scene.create("job-2", "apply-config", {"settings": {}})
    scene.wait_for("job-2", "SUCCEEDED")
    wait_until(lambda: scene.agent.account()["sample_interval_s"] == 0.5, "the file's rate")


@pytest.mark.parametrize(("when", "moment"), LAYER_CUTS)
def test_settings_are_proven_all_the_same_when_the_power_goes(scene, when, moment):
    scene.agent.cut(when, moment)
    scene.create("job-1", "apply-config", {"settings": {"sampling": {"normal": {"interval_s": 1}}}})
    scene.agent.start()
    assert scene.wait_for("job-1", "SUCCEEDED")
    assert scene.agent.exits.count(-signal.SIGKILL) == 1
    assert layer_of(scene)["settings"] == {"sampling": {"normal": {"interval_s": 1}}}
    assert not layer_of(scene)["on_trial"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.skipif(os.environ.get("MILEPOST_FULL") != "1", reason="two minutes; MILEPOST_FULL=1")
def test_settings_are_rolled_back_all_the_same_when_the_power_goes(scene, when):
    scene.agent.cut(when, "rolled back")
    nowhere = {"settings": {"broker": {"port": 1}}, "confirm_within_s": 30}
    scene.create("job-1", "apply-config", nowhere)
    scene.agent.start()
    execution = scene.wait_for("job-1", "FAILED", deadline_s=200)
    assert execution["details"]["settings"] == "rolled back"
    assert scene.agent.exits.count(-signal.SIGKILL) == 1
    assert layer_of(scene) is None


def test_a_cancelled_job_takes_its_settings_back(scene):
    scene.agent.start()
    scene.create("job-1", "apply-config", {"settings": {"sampling": {"normal": {"interval_s": 1}}}})
    wait_until(lambda: (layer_of(scene) or {}).get("on_trial"), "the trial", 90)
    scene.jobs("cancel", "job-1", "--force")
    wait_until(lambda: scene.agent.account() and layer_of(scene) is None, "the end of it", 90)
    assert scene.execution("job-1")["status"] == "CANCELED"
    wait_until(lambda: scene.agent.exits == [75, 75], "the restarts", 60)
    assert scene.agent.journal() is None


def test_settings_that_cut_the_vehicle_off_are_rolled_back_by_itself(scene):
    scene.agent.start()
    nowhere = {"settings": {"broker": {"port": 1}}, "confirm_within_s": 30}
    scene.create("job-1", "apply-config", nowhere)
    execution = scene.wait_for("job-1", "FAILED")
    assert execution["details"] == {
        "reason": "the broker acknowledged nothing within 30 s",
        "settings": "rolled back",
    }
    assert scene.agent.exits == [75, 75]
    assert layer_of(scene) is None
    wait_until(lambda: scene.agent.account()["samples_acknowledged"] > 3, "samples")


def test_settings_with_which_the_agent_cannot_start_are_rolled_back_by_itself(scene):
    scene.agent.start()
    run = scene.agent.account()["run_id"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        scene.create("job-1", "apply-config", {"settings": {"metrics": {"port": port}}})
        execution = scene.wait_for("job-1", "FAILED")
    assert "does not start with them" in execution["details"]["reason"]
    assert scene.agent.account()["run_id"] != run


def test_settings_that_can_be_none_never_reach_a_restart(scene):
    scene.agent.start()
    scene.create("job-1", "apply-config", {"settings": {"vehicle": {"id": "van-2"}}})
    assert "from afar" in scene.wait_for("job-1", "REJECTED")["details"]["reason"]
    bus = {"channel": "can0", "interface": "virtual", "dbc": ["no.dbc"]}
    bus["signals"] = {"motion.speed_kmh": {"signal": "Speed"}}
    scene.create("job-2", "apply-config", {"settings": {"can": [bus]}})
    assert "no.dbc" in scene.wait_for("job-2", "FAILED", "REJECTED")["details"]["reason"]
    assert scene.agent.exits == []


def milepost_agent(group, scene, *words):
    command = [sys.executable, "-m", "agent", group, *words, "--config", str(scene.agent.config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
