"""The diagnostic bundle from afar: the operator asks, the vehicle sends, once."""

import tarfile

import pytest

from tests.fakes.one_machine import running_cloud
from tests.fakes.supervised_agent import JobsScene, SupervisedAgent

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def scene(tmp_path):
    with running_cloud(tmp_path / "data") as cloud:
        agent = SupervisedAgent(tmp_path / "van", cloud.data_dir)
        agent.configure(cloud.port)
        agent.start()
        try:
            yield JobsScene(cloud, agent)
        finally:
            agent.stop()


def test_an_operator_gets_the_bundle_of_a_vehicle_and_it_holds_no_key(scene):
    out = scene.jobs("diagnostics", "van-1", "--wait", "50")
    assert "SUCCEEDED" in out
    (file,) = scene.cloud.data_dir.glob("uploads/van-1/*.tar.gz")
    assert f"van-1: will be {file}" in out
    with tarfile.open(file) as archive:
        texts = {
            member.name.partition("/")[2]: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
        }
    key = (scene.agent.folder / "identity" / "key.pem").read_text().splitlines()[1:-1]
    assert [line for line in key if line in "".join(texts.values())] == []
    assert '"connected": true' in texts["account.json"]
    assert "vehicle van-1, run" in texts["log.txt"]
    assert "samples.jsonl" not in texts
    assert not list((scene.agent.folder / "state" / "diagnostics").iterdir())
