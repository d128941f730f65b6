"""Jobs: a real agent under a service manager, the one-machine cloud, the operator's command."""

import itertools
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


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with running_cloud(tmp_path_factory.mktemp("cloud") / "data") as running:
        yield running


@pytest.fixture
def scene(cloud, tmp_path):
    agent = SupervisedAgent(tmp_path / "van", cloud.data_dir, f"van-{next(_numbers)}")
    agent.configure(cloud.port)
    try:
        yield JobsScene(cloud, agent)
    finally:
        agent.stop()


def test_a_restart_happens_once_and_is_told_by_the_next_process(scene):
    scene.agent.start()
    before = scene.agent.account()["run_id"]
    name = scene.name("job-1")
    words = ("create", "restart", scene.agent.vehicle_id, "--job-id", name, "--wait", "90")
    assert "SUCCEEDED" in scene.jobs(*words)
    account = wait_until(scene.agent.account, "the agent")
    execution = scene.execution("job-1")
    assert execution.details == {"run": account["run_id"], "run_before": before}
    assert scene.agent.exits == [75]
    wait_until(lambda: scene.agent.account()["jobs"]["current"] is None, "the journal's end")
    assert scene.agent.account()["jobs"]["last"]["job_id"] == name
    assert scene.agent.journal() is None


def test_a_vehicle_that_comes_later_finds_its_jobs_in_order(scene):
    scene.create("job-1", "restart")
    scene.create("job-2", "restart", {"a": 1})
    scene.agent.start()
    assert scene.wait_for("job-1", "SUCCEEDED")
    told = scene.wait_for("job-2", "REJECTED")
    assert told == {"reason": "restart takes no parameters"}


def test_the_config_says_what_may_be_asked_for(scene):
    scene.agent.configure(scene.cloud.port, '[jobs]\nallow = ["rotate"]')
    scene.create("job-1", "restart")
    scene.agent.start()
    assert "allow" in scene.wait_for("job-1", "REJECTED")["reason"]


def test_with_jobs_off_nothing_is_asked(scene):
    scene.agent.configure(scene.cloud.port, '[jobs]\nmode = "off"')
    scene.create("job-1", "restart")
    scene.agent.start()
    wait_until(lambda: scene.agent.account()["samples_acknowledged"] > 3, "samples")
    assert scene.agent.account()["jobs"] is None
    assert scene.execution("job-1").status == "QUEUED"


@pytest.mark.parametrize(("when", "step"), CUTS)
def test_a_power_cut_at_a_step_of_a_job_ends_it_all_the_same(scene, when, step):
    scene.agent.cut(when, step)
    scene.create("job-1", "restart")
    scene.agent.start()
    assert scene.wait_for("job-1", "SUCCEEDED")
    wait_until(lambda: scene.agent.journal() is None, "the end of the journal", 60)
    wait_until(lambda: -signal.SIGKILL in scene.agent.exits, "the cut", 60)
    assert scene.agent.exits.count(75) <= 1


def test_the_cloud_keeps_its_jobs_over_a_crash(tmp_path):
    with running_cloud(tmp_path / "data") as first:
        agent = SupervisedAgent(tmp_path / "van", first.data_dir)
        scene = JobsScene(first, agent)
        scene.create("job-1", "restart")
        first.kill()
    with running_cloud(tmp_path / "data") as second:
        agent.configure(second.port)
        try:
            agent.start()
            assert scene.wait_for("job-1", "SUCCEEDED")
        finally:
            agent.stop()
        (job,) = json.loads(scene.jobs("list", "--json"))
        assert job["state"] == "COMPLETED"


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
    assert scene.wait_for("job-1", "SUCCEEDED") == {"changed": "sampling.normal.interval_s"}
    assert scene.agent.account()["sample_interval_s"] == 1
    assert scene.agent.config.read_text() == file
    status = milepost_agent("status", scene)
    assert f"1 laid over the file by job {scene.name('job-1')}" in status
    assert f"none; the last was apply-config ({scene.name('job-1')}) succeeded" in status
    shown = milepost_agent("config", scene, "show")
    assert f"job {scene.name('job-1')}  sampling.normal.interval_s" in shown
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
    assert scene.wait_for("job-1", "FAILED", deadline_s=200)["settings"] == "rolled back"
    assert scene.agent.exits.count(-signal.SIGKILL) == 1
    assert layer_of(scene) is None


def test_a_cancelled_job_takes_its_settings_back(scene):
    scene.agent.start()
    scene.create("job-1", "apply-config", {"settings": {"sampling": {"normal": {"interval_s": 1}}}})
    wait_until(lambda: (layer_of(scene) or {}).get("on_trial"), "the trial", 90)
    with scene.store() as jobs:
        jobs.cancel(scene.name("job-1"), force=True)
    wait_until(lambda: scene.agent.account() and layer_of(scene) is None, "the end of it", 90)
    assert scene.execution("job-1").status == "CANCELED"
    wait_until(lambda: scene.agent.exits == [75, 75], "the restarts", 60)
    assert scene.agent.journal() is None


def test_settings_that_cut_the_vehicle_off_are_rolled_back_by_itself(scene):
    scene.agent.start()
    nowhere = {"settings": {"broker": {"port": 1}}, "confirm_within_s": 30}
    scene.create("job-1", "apply-config", nowhere)
    assert scene.wait_for("job-1", "FAILED") == {
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
        told = scene.wait_for("job-1", "FAILED")
    assert "does not start with them" in told["reason"]
    assert scene.agent.account()["run_id"] != run


def test_settings_that_can_be_none_never_reach_a_restart(scene):
    scene.agent.start()
    scene.create("job-1", "apply-config", {"settings": {"vehicle": {"id": "van-2"}}})
    assert "from afar" in scene.wait_for("job-1", "REJECTED")["reason"]
    bus = {"channel": "can0", "interface": "virtual", "dbc": ["no.dbc"]}
    bus["signals"] = {"motion.speed_kmh": {"signal": "Speed"}}
    scene.create("job-2", "apply-config", {"settings": {"can": [bus]}})
    assert "no.dbc" in scene.wait_for("job-2", "FAILED", "REJECTED")["reason"]
    assert scene.agent.exits == []


def milepost_agent(group, scene, *words):
    command = [sys.executable, "-m", "agent", group, *words, "--config", str(scene.agent.config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
