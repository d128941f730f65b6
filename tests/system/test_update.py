"""A software update as the operator sees it: a signed package, a job, and how it ended."""

import os

import pytest

from tests.fakes.one_machine import milepost_cloud, running_cloud
from tests.fakes.supervised_agent import JobsScene, SupervisedAgent
from tests.fakes.update_scene import UpdatableVehicle

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.needs("dpkg", "dpkg-deb", "dpkg-query"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dpkg installs as root alone"),
]


@pytest.fixture
def scene(tmp_path):
    with running_cloud(tmp_path / "data") as cloud:
        agent = SupervisedAgent(tmp_path / "van", cloud.data_dir)
        agent.configure(cloud.port)
        with UpdatableVehicle(tmp_path / "board", agent) as vehicle:
            scene = JobsScene(cloud, agent)
            scene.vehicle = vehicle
            agent.start()
            try:
                yield scene
            finally:
                agent.stop()


def update(scene, file):
    return milepost_cloud(
        *("jobs", "update", "--deb", file, "van-1", "--data", scene.cloud.data_dir),
        *("--wait", "50", "--json"),
    )


def test_a_signed_package_reaches_a_vehicle_and_is_installed_and_the_job_says_so(scene):
    before = scene.agent.account()["run_id"]
    done = update(scene, scene.vehicle.signed("2.0-1"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert scene.vehicle.bench.installed() == "ii 2.0-1"
    assert '"from": "1.0-1"' in done.stdout
    assert scene.agent.account()["run_id"] != before


def test_a_package_that_cannot_be_installed_is_rolled_back_and_the_job_says_why(scene):
    done = update(scene, scene.vehicle.signed("2.0-1", scripts={"postinst": "exit 1\n"}))
    assert done.returncode == 1
    assert "1.0-1 runs again" in done.stdout
    assert scene.vehicle.bench.installed() == "ii 1.0-1"
