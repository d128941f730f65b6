"""From a claim certificate to a rotated one against ``milepost-cloud serve``, killed in between."""

import json
from contextlib import contextmanager

import pytest

from contract.provisioning import ROTATION, ProvisioningTopics
from tests.fakes.one_machine import (
    Vehicle,
    milepost_cloud,
    running_cloud,
    status_json,
    wait_until,
)
from tests.fakes.provisioning import REGISTER, Asker, new_key, write_identity

ROTATE = ProvisioningTopics(ROTATION).register


class Operator:
    """A fleet with one board on its allow list."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"
        self.claim = folder / "claim"
        self.fleet("claim", "create", "--out", self.claim)
        self.fleet("allow", "add", "S1", "van-1")

    def fleet(self, *words):
        done = milepost_cloud("fleet", *words, "--data", self.data)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def states(self):
        """Of the vehicle's certificates, by id."""
        described = json.loads(self.fleet("describe", "van-1", "--json"))
        return {one["certificate_id"]: one["status"] for one in described["certificates"]}

    def identity(self, answer, key):
        folder = self.folder / answer["certificateId"][:8]
        ca_pem = (self.claim / "ca.pem").read_bytes()
        return write_identity(folder, ca_pem, answer["certificatePem"], key)


@contextmanager
def connected(cloud, folder, client_id):
    with Vehicle(cloud.port, folder, client_id) as client:
        assert client.connect()
        yield Asker(client)


@pytest.fixture
def operator(tmp_path):
    return Operator(tmp_path)


def test_a_board_becomes_a_vehicle_and_rotates_and_the_old_certificate_retires(operator):
    with running_cloud(operator.data) as cloud:
        key, next_key = new_key(), new_key()
        with connected(cloud, operator.claim, "claim-board-1") as board:
            first = board.certificate(key)
            assert board.register(first["certificateOwnershipToken"], "S1")[0]
        with connected(cloud, operator.identity(first, key), "van-1") as van:
            van.client.publish_acked("status/van-1", status_json())
            second = van.certificate(next_key)
            token = second["certificateOwnershipToken"]
            assert van.register(token, topic=ROTATE, ThingName="van-1")[0]
            van.client.publish_acked("status/van-1", status_json())
            assert set(operator.states().values()) == {"ACTIVE"}
        with connected(cloud, operator.identity(second, next_key), "van-1") as van:
            van.client.publish_acked("status/van-1", status_json())
            wait_until(
                lambda: (
                    operator.states()
                    == {first["certificateId"]: "INACTIVE", second["certificateId"]: "ACTIVE"}
                ),
                "the old certificate to retire",
            )
        with Vehicle(cloud.port, operator.identity(first, key), "van-1") as old:
            assert not old.connect()
        assert cloud.stop() == 0


def test_a_cloud_that_is_killed_between_the_steps_goes_on_where_it_was(operator):
    key = new_key()
    with running_cloud(operator.data) as cloud:
        with connected(cloud, operator.claim, "claim-board-1") as board:
            answer = board.certificate(key)
        cloud.kill()
    with running_cloud(operator.data) as cloud:
        with connected(cloud, operator.claim, "claim-board-1") as board:
            assert board.register(answer["certificateOwnershipToken"], "S1")[0]
        cloud.kill()
    with running_cloud(operator.data) as cloud:
        with connected(cloud, operator.claim, "claim-board-1") as board:  # its answer was lost
            assert board.register(answer["certificateOwnershipToken"], "S1")[0]
        with connected(cloud, operator.identity(answer, key), "van-1") as van:
            van.client.publish_acked("status/van-1", status_json())
    assert operator.states() == {answer["certificateId"]: "ACTIVE"}


def test_a_request_that_a_kill_cuts_off_leaves_one_active_certificate_in_the_end(operator):
    """Whatever became of it: the board's next try ends with one certificate that counts."""
    with (
        running_cloud(operator.data) as cloud,
        connected(cloud, operator.claim, "claim-board-1") as board,
    ):
        token = board.certificate()["certificateOwnershipToken"]
        parameters = {"SerialNumber": "S1"}
        request = {"certificateOwnershipToken": token, "parameters": parameters}
        board.client.publish(REGISTER, json.dumps(request))
        cloud.kill()
    key = new_key()
    with running_cloud(operator.data) as cloud:
        with connected(cloud, operator.claim, "claim-board-1") as board:
            again = board.certificate(key)
            assert board.register(again["certificateOwnershipToken"], "S1")[0]
        with connected(cloud, operator.identity(again, key), "van-1") as van:
            van.client.publish_acked("status/van-1", status_json())
    active = [one for one, state in operator.states().items() if state == "ACTIVE"]
    assert active == [again["certificateId"]]


def test_the_cloud_says_how_to_provision(operator):
    with running_cloud(operator.data) as cloud:
        assert cloud.stop() == 0
    told = cloud.log.read_text()
    assert "fleet claim create" in told
    assert "fleet allow add" in told
