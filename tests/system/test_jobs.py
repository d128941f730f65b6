"""Jobs: a real agent under a service manager, the one-machine cloud, the operator's command."""

import json
import signal

import pytest

from tests.fakes.one_machine import running_cloud, wait_until
from tests.fakes.supervised_agent import JobsScene, SupervisedAgent

pytestmark = pytest.mark.timeout(240)


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


@pytest.mark.parametrize("step", ["claiming", "running", "ended", "removed"])
@pytest.mark.parametrize("when", ["before", "after"])
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
